"""Devices that do with offers what a test tells them to, and a rollout to five of them."""

from __future__ import annotations

import json

from agent.bundle.offer import BundleOffer, OfferState, SignedOffer
from plant.rollout.config import GateConfig, RolloutConfig
from plant.rollout.engine import Means, RolloutEngine
from plant.rollout.fleet import Counted, Fleet
from plant.rollout.plan import Plans, new_rollout
from plant.rollout.repository import Repository
from plant.rollout.signing import OfferSigner
from plant.rollout.targets import find_targets
from support.offers import keys, release

TIME = "2026-01-01T00:00:00.000Z"
GATE = GateConfig(watch_seconds=100, least_windows=10, most_alarms=1, take_seconds=1000)


def two_releases(root):
    """A repository with two releases, who signs offers, and both: the old one and the new."""
    key = keys(root)
    repository = Repository(root / "repository")
    old, new = (repository.add(release(root / f"r{n}", key, n, threshold=n / 10)) for n in (1, 2))
    signer = OfferSigner(key)
    signer.start()
    return repository, signer, old, new


class Devices:
    """Devices that do with offers what they are told to."""

    def __init__(
        self, fleet: Fleet, names: tuple[str, ...], digest: str, *, takes_offers: bool = True
    ) -> None:
        self.fleet, self.names = fleet, names
        self.digests = dict.fromkeys(names, digest)
        self.counts = dict.fromkeys(names, (1000, 0, 3))
        self.offers: dict[str, list[BundleOffer]] = {name: [] for name in names}
        self.blind = dict.fromkeys(names, "")
        self.more: dict[str, dict[str, object]] = {name: {} for name in names}  # of health
        for name in names:
            self.say(name)
            if takes_offers:
                self.offered(name, "none", 0)

    def say(self, name: str) -> None:
        digest = self.digests[name]
        about = dict.fromkeys(
            ("bundle", "auscult_version", "trained_on", "preset", "encoder", "precision", "caveat"), "x"
        )  # fmt: skip
        level = {"mode": "judge", "note": "", "baseline": None}
        bundle = {
            **about, "blind": self.blind[name], "manifest_sha256": digest, "created": TIME, "sample_rate": 8000,
            "window_seconds": 1.0, "rows": 5, "threshold": 1.0, "promise": [], "level": level,
        }  # fmt: skip
        info = {
            "device": name, "time": TIME, "version": "1", "python": "3", "platform": "x",
            "machines": {"pump": bundle if digest else None}, "commands": [],
        }  # fmt: skip
        status = {
            "device": name, "status": "online", "time": TIME, "reason": "", "machines": ["pump"],
            "unjudged": [], "version": "1",
        }  # fmt: skip
        self.fleet.take((name, "info"), json.dumps(info).encode())
        self.fleet.take((name, "status"), json.dumps(status).encode())
        self.health(name)

    def health(self, name: str) -> None:
        windows, exceeded, raised = self.counts[name]
        machine = {
            "windows": windows, "invalid": {}, "exceeded": exceeded, "raised": raised,
            "dropped": 0, "unjudged": 0, "missing": [], "months": [], "validity": None,
            "reason": "", "faults": {}, "last_window": None, "inference_seconds": 0.0,
            **self.more[name],
        }  # fmt: skip
        outbox = dict.fromkeys(("undelivered", "unsaved", "disk_failures", "damaged_files", "damaged_events", "vanished_events", "dropped_telemetry", "refused"), 0)  # fmt: skip
        told = {
            "device": name, "time": TIME, "clock": "ok", "uptime_seconds": 1.0, "reconnects": 0,
            "outbox": {**outbox, "proof": "broker", "denied_topics": []},
            "machines": {"pump": machine},
        }  # fmt: skip
        before = self.fleet.machine(name, "pump")
        self.fleet.take((name, "health"), json.dumps(told).encode())
        after = self.fleet.machine(name, "pump")
        assert after is not None
        judged = self.more[name].get("judged", windows)
        assert after.counted == Counted(judged, exceeded, raised), before

    def offered(self, name: str, state: str, sequence: int, reason: str = "") -> None:
        told = OfferState(
            device=name, machine="pump", time=TIME, sequence=sequence, digest=self.digests[name],
            state=state, reason=reason, bytes=0, fetched_bytes=0, reused_bytes=0,
        )  # fmt: skip
        self.fleet.take((name, "pump", "offered"), told.model_dump_json().encode())

    def publish(self, device: str, machine: str, payload: bytes) -> None:
        assert machine == "pump"
        text = SignedOffer.model_validate_json(payload).offer
        self.offers[device].append(BundleOffer.model_validate_json(text))

    def take(self, name: str) -> None:
        """Take the latest offer."""
        offer = self.offers[name][-1]
        self.digests[name] = offer.digest
        self.offered(name, "taken", offer.sequence)
        self.say(name)

    def recognise(self, name: str, state: str = "yes", **told: object) -> None:
        """Say of the bundle that judges now whether it knows the machine."""
        found = {"bundle": self.digests[name], "state": state, "heard": 100, "windows": 100, **told}
        self.more[name] |= {"recognition": found}
        self.health(name)

    def run(self, name: str, windows: int = 0, exceeded: int = 0, raised: int = 0) -> None:
        """Judge for a while."""
        before = self.counts[name]
        self.counts[name] = (before[0] + windows, before[1] + exceeded, before[2] + raised)
        self.health(name)


def five_devices(site, folder):
    """Five devices that run the old release, and a rollout of the new one to them."""
    repository, signer, old, new = site
    fleet = Fleet()
    devices = Devices(fleet, tuple(f"d{n}" for n in range(5)), old.digest)
    config = RolloutConfig(canary_share=0.2, most_failed=0.25, gate=GATE)
    plans = Plans(folder / "rollouts")
    engine = RolloutEngine(plans, config, Means(repository, signer, fleet, devices.publish))
    targets = find_targets(fleet.machines(), [new])
    assert len(targets) == 5
    plans.save(new_rollout(targets, canary_share=config.canary_share))
    return engine, devices, plans


def states(rollout) -> dict[str, str]:
    return {one.device: one.state for one in rollout.targets}


def to_all(engine, devices) -> str:
    """Bring a rollout past its canary; gives that one's name."""
    rollout = engine.step(1000.0)
    (canary,) = (one.device for one in rollout.targets if one.canary)
    devices.take(canary)
    engine.step(1001.0)
    devices.run(canary, 50)
    assert engine.step(1050.0).stage == "canaries"
    engine.step(1200.0)
    return canary
