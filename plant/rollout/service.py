"""`auscult plant rollout`: serves content, keeps offers on the broker, carries rollouts out."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

from agent.core.broker import BrokerConfig
from agent.core.errors import ConfigError
from plant.learn.schema import PlantFile
from plant.rollout.config import RolloutConfig
from plant.rollout.content import ContentServer
from plant.rollout.engine import Means, RolloutEngine
from plant.rollout.fleet import Fleet
from plant.rollout.plan import Plans
from plant.rollout.repository import Repository
from plant.rollout.signing import OfferSigner
from plant.rollout.wire import RolloutWire

log = logging.getLogger(__name__)

_STEP_SECONDS = 1.0


def wanted(plant: PlantFile, path: Path) -> tuple[BrokerConfig, RolloutConfig, Path]:
    """Broker, rollout and signing key of a plant that rolls out.

    Raises:
        ConfigError: One of them is missing.
    """
    for name, value in (("broker", plant.broker), ("sign", plant.sign)):
        if value is None:
            raise ConfigError(f"{name}: is missing, and rolling out needs it", where=path)
    assert plant.broker is not None
    assert plant.sign is not None
    return plant.broker, plant.rollout, plant.sign


class RolloutService:
    """All of it, from `start` to `stop`.

    Args:
        out: The plant's `out`.
        broker: Where devices are reached.
        config: How bundles reach them.
        key: The site's private key.
    """

    def __init__(self, out: Path, broker: BrokerConfig, config: RolloutConfig, key: Path) -> None:
        repository = Repository(out / "repository")
        self.fleet = Fleet()
        self.plans = Plans(out / "rollouts")
        self.content = ContentServer(repository, config)
        self._config = config
        self._signer = OfferSigner(key)
        self._renew = threading.Event()
        self._wire = RolloutWire(broker, self.fleet, self._renew.set)
        self._engine = RolloutEngine(
            self.plans, config, Means(repository, self._signer, self.fleet, self._wire.publish)
        )
        self._stop = threading.Event()

    def start(self) -> None:
        """Read the key, listen, and connect to the broker in the background.

        Raises:
            ConfigError: Key, address, token or certificates cannot be used.
        """
        self._signer.start()
        self.content.start()
        self._wire.start()

    def run(self, *, until_done: bool = False) -> bool:
        """Carry rollouts out until stopped.

        Args:
            until_done: Return once none is running, and no machine is going back any more; one
                that does not say so within `gate.take_seconds` is not waited for.

        Returns:
            Whether the latest rollout was not put back.
        """
        while not self._stop.wait(_STEP_SECONDS):
            try:
                if self._renew.is_set():
                    self._renew.clear()
                    self._engine.renew()
                self.content.renew()
                rollout = self._engine.step(time.time())
            except OSError:
                log.exception("a step of the rollout")
                continue
            if until_done and rollout is None:
                since = time.time() - self._config.gate.take_seconds
                if not self._engine.going_back(since):
                    break
        last = None
        for last in self.plans.all():  # noqa: B007 - the last counts
            pass
        return last is None or last.state != "put back"

    def request_stop(self) -> None:
        """End `run`. Safe in a signal handler."""
        self._stop.set()

    def stop(self) -> None:
        """End everything. Idempotent."""
        self._stop.set()
        self._wire.stop()
        self.content.stop()
