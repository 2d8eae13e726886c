"""Tells machines in Sparkplug B, by a connection of its own: its last will is the node's death."""

from __future__ import annotations

import json
import logging
import random
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from agent.config.agent import AgentConfig
from agent.config.publish import MqttConfig
from agent.config.sparkplug import SparkplugConfig
from agent.core.errors import ConfigError, DeliveryError
from agent.core.schema import Strict
from agent.core.state_file import StateFile
from agent.publish.connection import Connection, NotReachedError
from agent.publish.sparkplug.metrics import ROWS, MachineMetrics
from agent.publish.sparkplug.node import NAMESPACE, NodeLife
from agent.publish.sparkplug.payload import asks_rebirth, payload_class
from agent.publish.telling import Telling

log = logging.getLogger(__name__)

_FIRST_WAIT_SECONDS = 1.0
_STOP_SECONDS = 3.0
_FLUSH_TURNS = 5
_NUMBERS = 256
# A rebirth is not given oftener than this, whoever asks, seconds.
_REBIRTH_SECONDS = 1.0


class _Memory(Strict):
    number: Annotated[int, Field(ge=0, lt=_NUMBERS, description="`bdSeq` of the next connection")]


def sparkplug_of(config: AgentConfig) -> list[SparkplugPublisher]:
    """The publisher that a configuration asks for; none where it asks for none."""
    if config.sparkplug is None or config.mqtt is None:
        return []
    names = [machine.name for machine in config.machines]
    made = SparkplugPublisher(
        config.sparkplug, config.mqtt, config.device_name, names, config.state_path
    )
    return [made]


class SparkplugPublisher:
    """An edge node, from `start` to `stop`; births tell what was so while the broker was away.

    Args:
        config: Names and pace.
        mqtt: The broker.
        device: This device's name.
        machines: The machines it listens to.
        state: The agent's state directory.
    """

    def __init__(
        self,
        config: SparkplugConfig,
        mqtt: MqttConfig,
        device: str,
        machines: Sequence[str],
        state: Path,
    ) -> None:
        self._config, self._mqtt = config, mqtt
        self._node = config.edge_node or device
        self._client_id = f"{mqtt.client_id or f'auscult-{device}'}-sparkplug"
        self._machines = {
            name: MachineMetrics(
                name, 1 + n * len(ROWS), config.score_seconds, aliases=config.aliases
            )
            for n, name in enumerate(machines)
        }
        self._memory = StateFile(
            state / "sparkplug.json", _Memory,
            what="the number of the latest birth", otherwise="they are counted from 0",
        )  # fmt: skip
        self._stop = threading.Event()
        self._rebirth = False
        self._reborn = -float("inf")
        self._host: bool | None = None
        self._host_time = 0
        self._thread: threading.Thread | None = None
        #: Whether its births were published at this connection.
        self.born = False

    def start(self) -> None:
        """Connect in the background, for ever.

        Raises:
            ConfigError: protobuf is not installed, or a file that `mqtt` names cannot be used.
        """
        try:
            payload_class()
        except ModuleNotFoundError as fault:
            raise ConfigError(
                "sparkplug: protobuf is not installed",
                remedy="Install it: pip install 'auscult[sparkplug]'.",
            ) from fault
        self._connection(self._life(0)).prepare()
        self._thread = threading.Thread(target=self._run, name="sparkplug", daemon=True)
        self._thread.start()

    def handle(self, telling: Telling) -> None:
        """Take what is told; it goes out at the next turn."""
        one = self._machines.get(telling.machine)
        if one is not None:
            for kind, message in telling.messages:
                one.take(kind.name, message)

    def stop(self) -> None:
        """Publish the death, and leave. Idempotent."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_STOP_SECONDS)
            self._thread = None

    def state(self) -> str:
        """Whether hosts see it."""
        return "" if self.born or self._thread is None else "not born as a Sparkplug node"

    def _run(self) -> None:
        wait = _FIRST_WAIT_SECONDS
        remembered = self._memory.load()
        number = 0 if remembered is None else remembered.number
        saved = -1
        while not self._stop.is_set():
            if number != saved:  # before it is used: who is killed must not use it again
                self._memory.save(_Memory(number=(number + 1) % _NUMBERS))
                saved = number
            began, asked = time.monotonic(), True
            try:
                self._session(self._life(number))
            except DeliveryError as fault:
                log.warning("sparkplug: %s; trying again in %.0f s", fault, wait)
                # A number is one CONNECT's: where none was sent it is still to be used.
                asked = not isinstance(fault, NotReachedError)
            except Exception:
                log.exception("sparkplug")
            self.born = False
            if time.monotonic() - began > self._mqtt.reconnect_max_seconds:
                wait = _FIRST_WAIT_SECONDS
            if asked:
                number = (number + 1) % _NUMBERS
            self._stop.wait(wait * random.uniform(0.8, 1.2))  # noqa: S311 - no secret
            wait = min(2 * wait, self._mqtt.reconnect_max_seconds)

    def _life(self, number: int) -> NodeLife:
        return NodeLife(self._config.group, self._node, number, list(self._machines.values()))

    def _connection(self, life: NodeLife) -> Connection:
        return Connection(
            self._mqtt, self._client_id, life.death(),
            on_answered=lambda _mid, _refusal: None,
            on_message=lambda topic, payload, _retained: self._take(life, topic, payload),
            stopping=self._stop, keep_session=False,
        )  # fmt: skip

    def _session(self, life: NodeLife) -> None:
        """One connection, until it is lost, the host leaves, or the end.

        Raises:
            DeliveryError: The broker cannot be reached, refuses us, or went away.
        """
        connection = self._connection(life)
        connection.prepare()
        self._host, self._rebirth = None, False
        connection.open()
        try:
            connection.subscribe(life.topic("NCMD"))
            if self._config.primary_host is not None:
                connection.subscribe(self._state_topic, retained=True)
            while not self._stop.is_set():
                wanted = self._config.primary_host is None or self._host is True
                if self.born and not wanted:
                    log.info("sparkplug: the primary host is away")
                    break
                if wanted and (not self.born or self._rebirth_due()):
                    self._rebirth = False
                    for message in life.births():
                        connection.send(message)
                    if not self.born:
                        log.info("sparkplug: born as %s (bdSeq %d)", self._node, life.number)
                    self.born = True
                if self.born and not self._rebirth:  # a host that asked for births wants no data
                    for message in life.data():
                        connection.send(message)
                connection.turn()
            if self.born:
                # A polite farewell keeps the last will at the broker: the death is ours to tell.
                connection.send(life.death())
                for _ in range(_FLUSH_TURNS):
                    connection.turn()
            connection.farewell()
        finally:
            self.born = False
            connection.close()

    @property
    def _state_topic(self) -> str:
        return f"{NAMESPACE}/STATE/{self._config.primary_host}"

    def _rebirth_due(self) -> bool:
        now = time.monotonic()
        if not self._rebirth or now - self._reborn < _REBIRTH_SECONDS:
            return False
        self._reborn = now
        return True

    def _take(self, life: NodeLife, topic: str, payload: bytes) -> None:
        """A command for the node, or the primary host's state; must not raise."""
        try:
            if topic == life.topic("NCMD"):
                self._rebirth = asks_rebirth(payload) or self._rebirth
            elif topic == self._state_topic:
                told = json.loads(payload)
                # An old word of the host must not undo a newer one.
                if int(told["timestamp"]) >= self._host_time:
                    self._host_time = int(told["timestamp"])
                    self._host = bool(told["online"])
        except (ValueError, TypeError, KeyError) as fault:
            log.warning("sparkplug: %s: cannot be understood: %s", topic, fault)
