"""Rollouts and bundles that never alarm: whether a device recognises its machine decides too."""

from __future__ import annotations

import pytest
from click.testing import CliRunner
from support.rollouts import five_devices, two_releases

from plant.commands.plant import plant as plant_command

pytest.importorskip("cryptography")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Two releases in a repository, and the key."""
    return two_releases(tmp_path_factory.mktemp("site"))


@pytest.fixture
def plant(site, tmp_path):
    """Five devices that run the old release, and a rollout of the new one to them."""
    return five_devices(site, tmp_path)


def begun(plant, prepare=lambda devices, name: None):
    """A canary that has taken the bundle; gives its name."""
    engine, devices, _ = plant
    for name in devices.names:
        prepare(devices, name)
    rollout = engine.step(1000.0)
    (canary,) = (one.device for one in rollout.targets if one.canary)
    devices.take(canary)
    engine.step(1001.0)
    return canary


def passed(engine):
    """Whether the canary has passed, once it was watched for long enough."""
    return engine.step(1200.0).stage == "all"


def test_windows_that_were_not_judged_prove_nothing(plant):
    """A wrong bundle took the machine for one that stands still: 500 windows, none above."""
    engine, devices, _ = plant
    canary = begun(plant, lambda devices, name: devices.more[name].update(judged=900))
    devices.more[canary]["judged"] = 900
    devices.run(canary, 500)
    assert not passed(engine)
    rollout = engine.step(2200.0)
    assert rollout.state == "put back"
    assert "judged 0 windows" in rollout.why


@pytest.mark.parametrize("looked_between", [True, False])
def test_an_alarm_that_comes_before_the_bundle_is_seen_to_be_taken_counts(plant, looked_between):
    """It was raised within the second in which the device took the bundle up, and stays."""
    engine, devices, _ = plant
    for name in devices.names:
        devices.recognise(name)
        devices.run(name, 5, raised=4)  # those of the bundle before
    rollout = engine.step(1000.0)
    (canary,) = (one.device for one in rollout.targets if one.canary)
    if looked_between:
        devices.run(canary, 5, raised=4)
        engine.step(1000.5)
    devices.take(canary)
    devices.recognise(canary, "waiting", heard=2)
    devices.run(canary, 2, raised=2)
    engine.step(1001.0)
    rollout = engine.step(1001.5)
    assert rollout.state == "put back"
    assert "2 alarms" in rollout.why


def test_agents_that_do_not_say_what_they_judged_are_counted_by_what_was_valid(plant):
    engine, devices, _ = plant
    canary = begun(plant)
    devices.more[canary]["invalid"] = {"too_quiet": 0}
    before = devices.fleet.machine(canary, "pump").counted.windows
    told = devices.counts[canary]
    devices.counts[canary] = (told[0] + 50, *told[1:])
    devices.more[canary] |= {"invalid": {"too_quiet": 45}, "judged": None}
    with pytest.raises(AssertionError):  # the helper counts all of them
        devices.health(canary)
    assert devices.fleet.machine(canary, "pump").counted.windows == before + 5
    assert not passed(engine)


def test_a_bundle_that_does_not_know_the_machine_is_put_back_with_what_to_do(plant):
    engine, devices, _ = plant
    canary = begun(plant)
    devices.run(canary, 20)
    devices.recognise(canary, "no", why="it is deaf: 20 windows that differ all score the same")
    rollout = engine.step(1010.0)
    assert rollout.state == "put back"
    assert "it is deaf" in rollout.why
    assert "--as-meant" in rollout.why


def test_what_is_told_of_another_bundle_or_too_early_says_nothing(plant):
    engine, devices, _ = plant
    canary = begun(plant)
    devices.run(canary, 20)
    devices.recognise(canary, "no", why="x", bundle="f" * 64)
    assert engine.step(1010.0).state == "running"
    devices.recognise(canary, "no", why="x", heard=3)
    assert engine.step(1020.0).state == "running"
    devices.recognise(canary, "waiting")
    assert not passed(engine)
    devices.recognise(canary, "yes", distance=0.8)
    assert passed(engine)


@pytest.mark.parametrize(
    ("was", "now", "windows", "well"),
    [
        (0.6, 0.9, 100, True), (0.6, 1.2, 100, False), (3.0, 4.0, 100, True),
        (3.0, 6.0, 100, False), (0.6, 1.2, 20, True), (None, 3.0, 100, True),
    ],
)  # fmt: skip
def test_sound_that_lies_much_farther_from_it_than_from_the_one_before_fails_it(
    plant, was, now, windows, well
):
    engine, devices, _ = plant
    canary = begun(plant)
    devices.run(canary, 20)
    devices.recognise(canary, distance=now, before=was, windows=windows)
    assert passed(engine) == well


def test_a_right_bundle_may_take_the_place_of_a_wrong_one(plant):
    engine, devices, _ = plant
    canary = begun(plant, lambda devices, name: devices.recognise(name, "no", why="x"))
    devices.run(canary, 20)
    # Another day, and nearer than before all the same.
    devices.recognise(canary, "no", why="x", distance=4.2, before=6.0)
    assert passed(engine)


@pytest.mark.parametrize("before", ["", "Record faults."])
def test_a_threshold_beyond_every_fault_fails_unless_it_was_no_better_before(plant, before):
    def prepare(devices, name):
        devices.blind[name] = before
        devices.say(name)

    engine, devices, _ = plant
    canary = begun(plant, prepare)
    devices.blind[canary] = "Its threshold lies beyond every fault known."
    devices.say(canary)
    devices.run(canary, 20)
    rollout = engine.step(1200.0)
    assert (rollout.stage == "all") == bool(before)
    assert ("it would see no known fault" in rollout.why) != bool(before)


def test_an_operator_may_say_that_a_bundle_is_meant(plant):
    engine, devices, plans = plant
    (rollout,) = plans.all()
    told = {"as_meant": True, "reason": "other bearings"}
    plans.save(rollout.model_copy(update=told))
    canary = begun(plant)
    devices.run(canary, 20)
    devices.recognise(canary, "no", why="x", distance=9.0)
    assert passed(engine)
    # Signed, and told on the device with the bundle.
    assert devices.offers[canary][-1].reason == "as meant: other bearings"
    assert next(iter(plans.all())).as_meant


def test_that_a_bundle_is_meant_takes_a_reason(tmp_path):
    done = CliRunner().invoke(plant_command, ["offer", str(tmp_path / "plant.yaml"), "--as-meant"])
    assert done.exit_code == 2
    assert "--reason" in done.output
