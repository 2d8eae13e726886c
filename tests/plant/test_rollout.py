"""Rollouts step by step: canaries, gate, going back; against devices that say what they are told."""

from __future__ import annotations

import json

import pytest
from support.offers import keys, release

from agent.bundle.offer import IN_USE, BundleOffer, OfferState, SignedOffer
from agent.bundle.verify import read_manifest
from agent.core.errors import BundleError
from plant.rollout.config import GateConfig, RolloutConfig
from plant.rollout.engine import Means, RolloutEngine
from plant.rollout.fleet import Counted, Fleet
from plant.rollout.gate import look
from plant.rollout.plan import Plans, Target, new_rollout
from plant.rollout.repository import Repository
from plant.rollout.signing import OfferSigner
from plant.rollout.targets import find_targets

pytest.importorskip("cryptography")
TIME = "2026-01-01T00:00:00.000Z"
GATE = GateConfig(watch_seconds=100, least_windows=10, most_alarms=1, take_seconds=1000)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Two releases: old and new, in a repository, and the key."""
    root = tmp_path_factory.mktemp("site")
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
        for name in names:
            self.say(name)
            if takes_offers:
                self.offered(name, "none", 0)

    def say(self, name: str) -> None:
        digest = self.digests[name]
        about = dict.fromkeys(
            ("bundle", "auscult_version", "trained_on", "preset", "encoder", "precision", "caveat", "blind"), "x"
        )  # fmt: skip
        level = {"mode": "judge", "note": "", "baseline": None}
        bundle = {
            **about, "manifest_sha256": digest, "created": TIME, "sample_rate": 8000,
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
        assert after.counted == Counted(windows, exceeded, raised), before

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

    def run(self, name: str, windows: int = 0, exceeded: int = 0, raised: int = 0) -> None:
        """Judge for a while."""
        before = self.counts[name]
        self.counts[name] = (before[0] + windows, before[1] + exceeded, before[2] + raised)
        self.health(name)


@pytest.fixture
def plant(site, tmp_path):
    """Five devices that run the old release, and a rollout of the new one to them."""
    repository, signer, old, new = site
    fleet = Fleet()
    devices = Devices(fleet, tuple(f"d{n}" for n in range(5)), old.digest)
    config = RolloutConfig(canary_share=0.2, most_failed=0.25, gate=GATE)
    plans = Plans(tmp_path / "rollouts")
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


def test_canaries_are_first_and_the_others_follow_when_they_are_well(plant, site):
    engine, devices, plans = plant
    rollout = engine.step(1000.0)
    canaries = [one.device for one in rollout.targets if one.canary]
    assert len(canaries) == 1
    assert [name for name in devices.names if devices.offers[name]] == canaries

    canary = to_all(engine, devices)
    assert all(len(devices.offers[name]) == 1 for name in devices.names)
    for name in devices.names:
        if name != canary:
            devices.take(name)
    engine.step(1201.0)
    for name in devices.names:
        devices.run(name, 20)
    rollout = engine.step(1400.0)

    assert set(states(rollout).values()) == {"passed"}
    assert rollout.state == "done"
    assert plans.current() is None
    assert set(devices.digests.values()) == {site[3].digest}


def test_a_canary_that_alarms_puts_it_back_and_nobody_else_is_offered_anything(plant, site):
    engine, devices, _ = plant
    rollout = engine.step(1000.0)
    (canary,) = (one.device for one in rollout.targets if one.canary)
    devices.take(canary)
    engine.step(1001.0)
    devices.run(canary, 20, raised=2)
    rollout = engine.step(1010.0)

    assert rollout.state == "put back"
    assert "2 alarms" in rollout.why
    back = devices.offers[canary][-1]
    assert (back.digest, back.downgrade) == (site[2].digest, True)
    assert back.sequence > devices.offers[canary][0].sequence
    assert [name for name in devices.names if devices.offers[name]] == [canary]


@pytest.mark.parametrize(
    ("happens", "said"),
    [
        (lambda d, c: d.offered(c, "refused", d.offers[c][-1].sequence, "no parity"), "no parity"),
        (lambda d, c: (d.take(c),), ""),
    ],
    ids=["refused", "taken"],
)
def test_what_a_canary_answers_decides(plant, happens, said):
    engine, devices, _ = plant
    rollout = engine.step(1000.0)
    (canary,) = (one.device for one in rollout.targets if one.canary)
    happens(devices, canary)
    rollout = engine.step(1001.0)

    assert (rollout.state == "put back") == bool(said)
    assert said in rollout.why


def test_a_bundle_that_fails_its_trial_on_the_device_fails_the_canary(plant, site):
    engine, devices, _ = plant
    rollout = engine.step(1000.0)
    (canary,) = (one.device for one in rollout.targets if one.canary)
    devices.take(canary)
    engine.step(1001.0)
    devices.digests[canary] = site[2].digest  # it went back by itself
    devices.say(canary)

    assert "failed its trial" in engine.step(1002.0).why


def test_a_bank_that_grew_from_the_offered_bundle_goes_on(plant):
    engine, devices, _ = plant
    rollout = engine.step(1000.0)
    (canary,) = (one.device for one in rollout.targets if one.canary)
    devices.offered(canary, "taken", devices.offers[canary][-1].sequence, IN_USE)
    engine.step(1001.0)
    devices.run(canary, 50)
    rollout = engine.step(1200.0)

    assert rollout.stage == "all"
    assert states(rollout)[canary] == "passed"


def test_windows_above_the_threshold_fail_it_without_an_alarm(plant):
    engine, devices, _ = plant
    rollout = engine.step(1000.0)
    (canary,) = (one.device for one in rollout.targets if one.canary)
    devices.take(canary)
    engine.step(1001.0)
    devices.run(canary, 20, exceeded=15)

    assert "15 of 20 windows" in engine.step(1002.0).why


def test_one_failure_among_all_goes_back_alone_and_too_many_take_all_back(plant, site):
    engine, devices, _ = plant
    canary = to_all(engine, devices)
    others = [name for name in devices.names if name != canary]
    for name in others:
        devices.take(name)
    engine.step(1201.0)
    devices.run(others[0], 5, raised=2)
    rollout = engine.step(1210.0)
    assert states(rollout)[others[0]] == "put back"
    assert rollout.state == "running"
    devices.run(others[1], 5, raised=2)
    rollout = engine.step(1220.0)

    assert rollout.state == "put back"
    assert "2 of 5" in rollout.why
    assert all(devices.offers[name][-1].digest == site[2].digest for name in devices.names)


def test_a_device_that_is_away_does_not_hold_the_others_up_and_may_take_it_later(plant):
    engine, devices, _ = plant
    canary = to_all(engine, devices)
    others = [name for name in devices.names if name != canary]
    for name in others[1:]:
        devices.take(name)
    engine.step(1201.0)
    for name in others[1:]:
        devices.run(name, 20)
    assert engine.step(1400.0).state == "running"
    rollout = engine.step(2400.0)

    assert rollout.state == "done"
    assert states(rollout)[others[0]] == "away"
    assert len(devices.offers[others[0]]) == 1


def test_canaries_that_are_all_away_prove_nothing(plant):
    engine, devices, _ = plant
    engine.step(1000.0)
    rollout = engine.step(2001.0)

    assert rollout.state == "put back"
    assert "nothing is known" in rollout.why
    assert sum(bool(devices.offers[name]) for name in devices.names) == 1


def test_another_engine_goes_on_where_the_first_was(plant, site):
    engine, devices, plans = plant
    repository, signer, *_ = site
    canary = to_all(engine, devices)
    config = RolloutConfig(gate=GATE)
    other = RolloutEngine(plans, config, Means(repository, signer, devices.fleet, devices.publish))
    other.renew()

    assert all(len(devices.offers[name]) == 2 for name in devices.names)
    for name in devices.names:
        assert devices.offers[name][0] == devices.offers[name][1]
        if name != canary:
            devices.take(name)
    other.step(1201.0)
    for name in devices.names:
        devices.run(name, 20)
    assert other.step(1400.0).state == "done"


def test_counts_go_on_over_a_restart_of_the_agent():
    target = Target(device="d", machine="pump", digest="a" * 64, before="b" * 64, state="taken", since=0.0, last=(100, 5, 1))  # fmt: skip
    fleet = Fleet()
    devices = Devices(fleet, ("d",), "a" * 64)
    devices.counts["d"] = (110, 6, 1)
    devices.health("d")
    target = look(target, fleet.machine("d", "pump"), GATE, 10.0)
    devices.counts["d"] = (7, 1, 1)  # started anew
    devices.health("d")
    target = look(target, fleet.machine("d", "pump"), GATE, 20.0)

    assert target.counts == (17, 2, 1)


def test_devices_of_other_versions_are_understood():
    """What is read of messages is there in the agent's own schemas; what is new is passed over."""
    from agent.publish import device_payloads as said
    from plant.rollout import fleet as read

    for told, whole in (
        (read.StatusTold, said.Status), (read.InfoTold, said.Info),
        (read.BundleTold, said.BundleInfo), (read.HealthTold, said.Health),
        (read.CountsTold, said.MachineHealth),
    ):  # fmt: skip
        assert set(told.model_fields) <= set(whole.model_fields)
    seen = Fleet()
    payload = b'{"status": "online", "machines": ["pump"], "of a later version": 1}'
    seen.take(("d", "status"), payload)
    seen.take(("d", "status"), b"{}")
    seen.take(("d", "else"), payload)
    assert seen.machine("d", "pump").online


def test_only_signed_bundles_are_offered_and_one_a_machine(site, tmp_path):
    _, _, old, new = site
    fleet = Fleet()
    Devices(fleet, ("d",), old.digest)
    with pytest.raises(BundleError, match="not signed"):
        find_targets(fleet.machines(), [new.model_copy(update={"signed": False})])
    with pytest.raises(BundleError, match="two bundles"):
        find_targets(fleet.machines(), [old, new])
    assert find_targets(fleet.machines(), [old]) == []
    assert find_targets(fleet.machines(), [new], devices=("x",)) == []


def test_a_device_that_takes_no_offers_is_left_out(site):
    *_, old, new = site
    fleet = Fleet()
    Devices(fleet, ("d",), old.digest, takes_offers=False)
    assert find_targets(fleet.machines(), [new]) == []


def test_a_repository_refuses_a_bundle_that_is_not_what_its_manifest_says(site, tmp_path):
    key = keys(tmp_path)
    bundle = release(tmp_path / "bad", key, 1)
    (bundle / "bank.npy").write_bytes(b"other")
    with pytest.raises(BundleError, match=r"bank\.npy"):
        Repository(tmp_path / "repository").add(bundle)
    assert read_manifest(bundle).counter == 1
