"""Rollouts step by step: canaries and gate; against devices that say what they are told."""

from __future__ import annotations

import pytest
from support.offers import keys, release
from support.rollouts import GATE, Devices, five_devices, states, to_all, two_releases

from agent.bundle.offer import IN_USE
from agent.bundle.verify import read_manifest
from agent.core.errors import BundleError
from plant.rollout.config import RolloutConfig
from plant.rollout.engine import Means, RolloutEngine
from plant.rollout.fleet import Fleet
from plant.rollout.gate import look
from plant.rollout.plan import Target
from plant.rollout.repository import Repository
from plant.rollout.targets import find_targets

pytest.importorskip("cryptography")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Two releases in a repository, and the key."""
    return two_releases(tmp_path_factory.mktemp("site"))


@pytest.fixture
def plant(site, tmp_path):
    """Five devices that run the old release, and a rollout of the new one to them."""
    return five_devices(site, tmp_path)


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
    assert states(rollout)[others[0]] == "going back"
    assert rollout.state == "running"
    devices.take(others[0])
    assert states(engine.step(1211.0))[others[0]] == "put back"
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
    assert "no canary has shown" in rollout.why
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
