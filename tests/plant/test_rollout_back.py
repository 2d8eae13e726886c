"""Machines that go back: what their devices say of it, and an operator who calls a rollout back."""

from __future__ import annotations

import pytest
from support.rollouts import five_devices, states, to_all, two_releases

from plant.rollout.plan import Plans

pytest.importorskip("cryptography")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Two releases in a repository, and the key."""
    return two_releases(tmp_path_factory.mktemp("site"))


@pytest.fixture
def plant(site, tmp_path):
    """Five devices that run the old release, and a rollout of the new one to them."""
    return five_devices(site, tmp_path)


def test_a_machine_is_back_when_its_device_says_so_and_else_that_is_told(plant):
    engine, devices, plans = plant
    canary = to_all(engine, devices)
    takes, refuses, away, _ = [name for name in devices.names if name != canary]
    for name in devices.names:
        devices.take(name)
    engine.step(1201.0)
    for name in (takes, refuses):
        devices.run(name, 5, raised=2)
    rollout = engine.step(1210.0)
    assert (rollout.state, set(states(rollout).values())) == ("put back", {"going back"})
    assert engine.step(1211.0) is None
    assert len(engine.going_back(0.0)) == 5

    devices.take(takes)
    offer = devices.offers[refuses][-1]
    devices.offered(refuses, "refused", offer.sequence, "takes no downgrade")
    engine.step(1212.0)
    (rollout,) = plans.all()
    found = states(rollout)
    assert (found[takes], found[refuses], found[away]) == ("put back", "not put back", "going back")
    reason = next(one.reason for one in rollout.targets if one.device == refuses)
    assert "takes no downgrade" in reason
    # Whoever waits for the end does not wait for those that are away for ever.
    assert {one.device for one in engine.going_back(1209.0)} == set(devices.names) - {
        takes,
        refuses,
    }
    assert engine.going_back(1210.0) == []


def test_a_canary_that_judges_nothing_is_not_waited_for_for_ever(plant, site):
    """A machine that stands still: no window of it says how the bundle fares."""
    engine, devices, _ = plant
    rollout = engine.step(1000.0)
    (canary,) = (one.device for one in rollout.targets if one.canary)
    devices.take(canary)
    engine.step(1001.0)
    devices.run(canary, 3)
    assert engine.step(2000.0).state == "running"
    rollout = engine.step(2200.0)

    assert rollout.state == "put back"
    assert "judged 3 windows" in rollout.why
    assert devices.offers[canary][-1].digest == site[2].digest


@pytest.mark.parametrize("when", ["under way", "done"])
def test_an_operator_calls_the_latest_rollout_back(plant, site, when):
    engine, devices, plans = plant
    canary = to_all(engine, devices)
    for name in devices.names:
        if name != canary:
            devices.take(name)
    engine.step(1201.0)
    if when == "done":
        for name in devices.names:
            devices.run(name, 20)
        assert engine.step(1400.0).state == "done"
    (rollout,) = plans.all()
    plans.stop(rollout, "it hums")
    engine.step(1500.0)
    (rollout,) = plans.all()

    assert (rollout.state, rollout.why) == ("put back", "called back by an operator: it hums")
    assert all(devices.offers[name][-1].digest == site[2].digest for name in devices.names)
    for name in devices.names:
        devices.take(name)
    engine.step(1501.0)
    engine.step(1502.0)
    (rollout,) = plans.all()
    assert set(states(rollout).values()) == {"put back"}
    assert [len(devices.offers[name]) for name in devices.names] == [2] * 5


def test_a_plan_that_was_read_is_not_read_again_until_it_changes(plant, tmp_path):
    _, _, plans = plant
    (before,) = plans.all()
    (again,) = plans.all()
    assert again is before
    other = before.model_copy(update={"reason": "another"})
    Plans(tmp_path / "rollouts").save(other)  # by another process
    assert next(plans.all()) == other
