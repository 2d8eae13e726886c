"""What an agent gives its `OfferTaker`, and a server of three releases that it fetches from."""

from __future__ import annotations

import time
from contextlib import contextmanager
from pathlib import Path

from agent.bundle.manifest import MANIFEST
from agent.bundle.verify import read_manifest, verify_bundle
from agent.config.offers import OffersConfig
from agent.core.errors import BundleError
from agent.deploy.offered import OfferTaker
from plant.rollout.config import RolloutConfig
from plant.rollout.content import ContentServer
from plant.rollout.repository import Repository
from support.offers import keys, offer_of, release


@contextmanager
def three_releases(root):
    """A folder with a key, three releases of a bundle, and a server of all of them."""
    key = keys(root)
    repository = Repository(root / "repository")
    for counter in (1, 2, 3):
        release(root / f"r{counter}", key, counter, threshold=0.05 + counter / 100)
        repository.add(root / f"r{counter}")
    (root / "token").write_text("secret-1\n")
    config = RolloutConfig(host="127.0.0.1", port=0, token_file=root / "token")
    server = ContentServer(repository, config)
    server.start()
    try:
        yield root, server
    finally:
        server.stop()


class Device:
    """What an agent gives its `OfferTaker`: takes up what is in place unless told otherwise."""

    def __init__(self, site: tuple[Path, ContentServer], state: Path, **config: object) -> None:
        self.root, server = site
        self.place, self.state = state / "pump.bundle", state
        self.url = f"http://127.0.0.1:{server.port}"
        told = {"url": self.url, "token_file": self.root / "token", "retry_seconds": 0.1, **config}
        self.config = OffersConfig.model_validate(told)
        self.told, self.reloads, self.refuse = [], [], ""
        self.taker = self.new()

    def new(self) -> OfferTaker:
        return OfferTaker(
            self.config, "line-1", {"pump": self.place}, self.state, self.root / "site.pub",
            reload=self.reload, in_use=self.in_use,
            tell=lambda _machine, state: self.told.append(state),
        )  # fmt: skip

    def in_use(self, _machine: str) -> str:
        return read_manifest(self.place).digest if (self.place / MANIFEST).is_file() else ""

    def reload(self, machine: str, reason: str, *, allow_older: bool) -> bool:
        verify_bundle(self.place)
        self.reloads.append((machine, reason, allow_older))
        if self.refuse:
            raise BundleError(self.refuse)
        return True

    def offer(self, release: str, sequence: int, **changes: object) -> None:
        self.taker.take(
            "pump", offer_of(self.root / release, self.root / "site.key", sequence, **changes)
        )

    def wait(self, state: str, seconds: float = 60.0):
        deadline = time.monotonic() + seconds
        while not any(one.state == state for one in self.told):
            assert time.monotonic() < deadline, self.told
            time.sleep(0.02)
        return next(one for one in reversed(self.told) if one.state == state)
