"""What an alarm says: zone, bands, how many times and since when, what is new, what else is so."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml
from support.bundles import FAULTY_HZ, HEALTHY_HZ, RATE, build_bundle, tone, write

from agent.bundle.manifest import HEALTHY_SPECTRUM
from agent.bundle.seal import seal
from agent.config.agent import load_config
from agent.config.decide import DecideConfig
from agent.core.cloud_event import Stamp
from agent.core.reasons import Circumstance, Explanation, Reason, UnusualBand
from agent.core.records import (
    AlarmStatus,
    Decision,
    EventKind,
    Level,
    MachineState,
    Score,
    Validity,
    Window,
)
from agent.core.scale import Scale, Zone
from agent.decide.alarm import AlarmDecider
from agent.decide.memory import AlarmMemory
from agent.decide.reason import ReasonWatch, reason_words, same_band
from agent.decide.service import AlarmService
from agent.deploy.load import open_bundle
from agent.explain.spectrum import measure_healthy
from agent.machine.circumstances import Surroundings
from agent.publish.messages import alarm_message, event_message
from agent.publish.payloads import Alarm
from agent.service import Agent

SAMPLES = np.zeros(8000, np.float32)
SCALE = Scale(0.0, 0.5, 1.0, 3.0)  # zone D from 3 on
HUM, HISS = UnusualBand(90.0, 110.0, 12.0), UnusualBand(4000.0, 5000.0, 9.0)
SLOW = UnusualBand(4200.0, 4700.0, -9.0)


class File:
    """The alarm's file, in memory."""

    def __init__(self):
        self.memory = None

    def save(self, memory):
        self.memory = AlarmMemory.model_validate_json(memory.model_dump_json())
        return True


class Plant:
    """A keeper, what stands out at present, and everything it told."""

    def __init__(self, memory=None, start=0.0, wall=1e9, **config):
        defaults = {"raise_seconds": 2, "of_seconds": 3, "clear_seconds": 3, "alert": None}
        self.file, self.told = File(), []
        decider = AlarmDecider(
            DecideConfig(**{**defaults, **config}), 1.0, scale=SCALE, memory=memory
        )
        self.dying = False
        self.keeper = AlarmService(decider, self.tell, self.file)
        self.life = decider.life
        self.now, self.wall, self.index, self.bands = start, wall, 0, (HUM,)
        self.context = ()

    def tell(self, event):
        if self.dying:
            raise SystemExit
        self.told.append(event)

    def hear(self, *values, bands=None):
        self.bands = self.bands if bands is None else bands
        for value in values:
            window = Window(SAMPLES, 8000, self.index, self.now, self.wall)
            self.index, self.now, self.wall = self.index + 1, self.now + 1, self.wall + 1
            self.keeper.decide(
                Score(window, value), MachineState.RUNNING,
                explain=lambda _: Explanation("why", self.bands),
                bands=lambda _: self.bands, context=lambda _: self.context,
            )  # fmt: skip
        return self.take()

    def wait(self, seconds):
        self.now, self.wall = self.now + seconds, self.wall + seconds
        self.life.at(self.now, self.wall)
        self.told += self.life.take()
        return self.take()

    def acknowledge(self):
        self.life.acknowledge(operator="Ann")
        self.life.take()

    def take(self):
        told, self.told[:] = list(self.told), []
        return told

    @property
    def reason(self):
        return self.life.status.reason


def test_an_alarm_says_zone_bands_count_and_since():
    plant = Plant()
    plant.context = (Circumstance("started", "started 40 s ago", 40.0),)
    (raised,) = plant.hear(2.0, 2.0)
    reason = raised.status.reason
    assert (reason.zone, reason.bands, reason.count, reason.new) == (Zone.C, (HUM,), 1, ())
    assert raised.context == plant.context
    first = raised.wall
    assert reason.since_wall == first
    plant.hear(*[0.0] * 5)
    assert plant.reason is None  # normal again
    (again,) = plant.hear(4.0, 4.0, bands=(HUM, HISS))
    assert (again.status.reason.count, again.status.reason.since_wall) == (2, first)
    assert again.status.reason.new == ("zone D (was C)", "4.0-5.0 kHz +9 dB")
    assert "2nd time since" in reason_words(again.status.reason)


def test_alarms_far_apart_are_counted_anew():
    plant = Plant(series_seconds=600.0)
    plant.hear(2.0, 2.0, *[0.0] * 5)
    plant.wait(500.0)
    (second,) = plant.hear(2.0, 2.0)
    assert second.status.reason.count == 2
    plant.hear(*[0.0] * 5)
    plant.wait(700.0)
    (third,) = plant.hear(2.0, 2.0)
    assert (third.status.reason.count, third.status.reason.new) == (1, ())
    assert third.status.reason.since_wall == third.wall


def test_an_acknowledged_alarm_speaks_again_when_other_bands_stand_out():
    plant = Plant()
    plant.hear(2.0, 2.0)
    plant.acknowledge()
    assert plant.hear(*[2.0] * 100) == []  # the same reason: it was heard
    told = plant.hear(*[2.0] * 45, bands=(HUM, HISS))
    assert [event.kind for event in told] == [EventKind.REALARM]
    assert told[0].status.reason.new == ("4.0-5.0 kHz +9 dB",)
    assert not plant.life.status.acknowledged
    plant.acknowledge()
    assert plant.hear(*[2.0] * 100) == []  # told once
    assert plant.hear(*[2.0] * 100, bands=(HUM,)) == []  # what goes is no news


def test_a_zone_higher_speaks_again_and_a_lower_one_does_not():
    plant = Plant()
    plant.hear(2.0, 2.0)
    plant.acknowledge()
    told = plant.hear(*[5.0] * 45)
    assert [event.kind for event in told] == [EventKind.REALARM]
    assert told[0].status.reason.zone is Zone.D
    assert told[0].status.reason.new == ("zone D (was C)",)
    plant.acknowledge()
    assert plant.hear(*[2.0] * 100, *[5.0] * 100) == []


def test_a_passing_sound_over_a_standing_alarm_is_no_other_reason():
    plant = Plant()
    plant.hear(2.0, 2.0)
    plant.acknowledge()
    for _ in range(5):
        assert plant.hear(*[5.0] * 15, bands=(HUM, HISS)) == []
        assert plant.hear(*[2.0] * 60, bands=(HUM,)) == []


def test_one_that_nobody_acknowledged_says_its_new_reason_as_it_stands():
    plant = Plant()
    plant.hear(2.0, 2.0)
    assert plant.hear(*[5.0] * 45, bands=(HUM, HISS)) == []  # they have yet to look at it
    assert plant.reason.zone is Zone.D
    assert HISS in plant.reason.bands


def test_a_shelved_alarm_says_its_new_reason_once_it_is_back():
    plant = Plant()
    plant.hear(2.0, 2.0)
    plant.acknowledge()
    plant.life.shelve(seconds=100.0, operator="Ann")
    plant.life.take()
    assert plant.hear(*[2.0] * 90, bands=(HISS,)) == []
    kinds = [event.kind for event in plant.hear(*[2.0] * 40)]
    assert kinds == [EventKind.UNSHELVED, EventKind.REALARM]


def test_an_acknowledged_alarm_speaks_again_after_the_interval_over_restarts():
    plant = Plant(realarm_acknowledged_seconds=3600.0)
    plant.hear(2.0, 2.0)
    plant.acknowledge()
    plant.wait(1800.0)
    plant.hear(2.0)
    later = Plant(
        plant.file.memory, start=7.0, wall=plant.wall, realarm_acknowledged_seconds=3600.0
    )
    assert later.hear(2.0) == []
    assert later.wait(1700.0) == []
    (told,) = later.wait(110.0)
    assert told.kind is EventKind.REALARM
    assert not told.status.acknowledged
    assert "still there 60 minutes" in told.status.reason.new[0]
    assert told.status.reason.bands == (HUM,)  # known from before the restart


def test_a_crash_tells_the_event_again_with_its_reason():
    plant = Plant()
    plant.dying = True
    with pytest.raises(SystemExit):
        plant.hear(2.0, 2.0)
    again = Plant(plant.file.memory)
    again.keeper.resume()
    (raised,) = again.told
    assert raised.status.reason.bands == (HUM,)
    assert raised.explanation.text == "why"


def test_memory_of_an_earlier_version_is_taken_up():
    old = {"level": "alarm", "announced": "alarm", "alarm_id": "a1", "acknowledged": True,
           "alarm_active": True, "saved_wall": 1e9, "since_wall": 1e9}  # fmt: skip
    plant = Plant(AlarmMemory.model_validate(old))
    assert plant.life.status.reason is None
    assert plant.hear(*[2.0] * 60) == []
    plant.hear(*[0.0] * 5)
    assert plant.hear(2.0, 2.0)[0].status.reason.count == 1


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (HISS, UnusualBand(4500.0, 6000.0, 3.0), True),
        (HISS, UnusualBand(5500.0, 7000.0, 3.0), True),  # within a third of an octave
        (HISS, UnusualBand(6500.0, 7000.0, 3.0), False),
        (HISS, SLOW, False),  # quieter is another thing than louder
        (HUM, HISS, False),
    ],
)
def test_which_bands_are_the_same(one, other, same):
    assert same_band(one, other) is same
    assert same_band(other, one) is same


def test_looks_are_of_sound_of_their_own():
    watch = ReasonWatch()
    watch.begin(100.0)
    assert not watch.due(105.0)
    assert watch.due(110.0)


def test_messages_carry_it():
    plant = Plant()
    plant.context = (Circumstance("broker_away", "the broker has been away for 3 minutes", 180.0),)
    (raised,) = plant.hear(2.0, 2.0)
    data = event_message(Stamp("hall", "pump", 1e9), raised)["data"]
    assert data["reason"]["zone"] == "C"
    assert data["reason"]["bands"] == [{"low_hz": 90.0, "high_hz": 110.0, "decibels": 12.0}]
    assert data["reason"]["count"] == 1
    assert data["context"] == [
        {"kind": "broker_away", "text": "the broker has been away for 3 minutes", "seconds": 180.0}
    ]
    assert "90-110 Hz +12 dB" in data["reason"]["text"]
    alarm = alarm_message(Stamp("hall", "pump", 1e9), raised)
    assert alarm["reason"] == data["reason"]
    assert alarm["context"] == data["context"]
    Alarm.model_validate_json(json.dumps(alarm))


# --- what else is so


def decided(end, *, state=MachineState.RUNNING, validity=Validity.VALID, status=None, index=9):
    window = Window(SAMPLES, 8000, index, end - 1, 1e9 + end, validity, "hum" if status else "")
    value = 1.0 if validity is Validity.VALID else None
    return Decision(
        Score(window, value), 1.0, exceeded=False, level=Level.NORMAL, changed=False,
        since_wall=0.0, state=state, status=status,
    )  # fmt: skip


def kinds(around, decision):
    return {one.kind: one for one in around.circumstances(decision, None)}


def test_context_tells_of_starts_restarts_and_what_was_not_heard():
    around = Surroundings()
    around.judged(decided(100.0, index=0), ())
    found = kinds(around, decided(130.0))
    assert found.keys() == {"agent_started"}
    around.judged(decided(2000.0, state=MachineState.IDLE), ())
    around.judged(decided(2010.0, validity=Validity.CLIPPED), ())
    found = kinds(around, decided(2040.0))
    assert found["started"].text == "started 40 s ago"
    assert found["not_judged"].text == "sound could not be judged until 30 s ago (clipped)"
    assert "agent_started" not in found
    assert kinds(around, decided(4000.0)) == {}
    assert kinds(around, decided(4000.0, state=MachineState.IDLE)).keys() == {"idle"}


def test_context_tells_of_work_level_and_the_broker():
    around = Surroundings(lambda: 7200.0)
    worked = AlarmStatus(Level.NORMAL, 0.0, muted_until_wall=2e9, planned="belt change")
    around.judged(decided(10.0, status=worked), ())
    louder = AlarmStatus(Level.NORMAL, 0.0, level_change_db=6.0)
    found = kinds(around, decided(70.0, status=louder))
    assert found["maintenance"].text == "belt change ended 60 s ago"
    assert found["level"].text == "heard 6 dB louder for a while already"
    assert found["broker_away"].text == "the broker has been away for 2 hours"


def with_spectrum(folder):
    """The tiny bundle, with levels of healthy sound, as every export has them."""
    bundle = build_bundle(folder / "bundle")
    opened = open_bundle(bundle)
    opened.close()
    sounds = [tone(1, seed=seed) for seed in range(20)]
    np.save(bundle / HEALTHY_SPECTRUM, measure_healthy(sounds, RATE).table())
    seal(bundle, opened.manifest.model_copy(update={"files": {}, "digest": ""}))
    return bundle


def test_the_agent_tells_all_of_it(tmp_path):
    bundle = with_spectrum(tmp_path)
    sound = np.concatenate(
        [
            tone(20, seed=1),
            tone(20, FAULTY_HZ, seed=2),
            tone(20, seed=3),
            tone(20, FAULTY_HZ, seed=4),
        ]
    )
    write(tmp_path / "sound" / "a.wav", sound)
    machine = {
        "name": "pump", "bundle": str(bundle), "hop_seconds": 0.5,
        "decide": {"raise_seconds": 2, "of_seconds": 3, "clear_seconds": 3, "alert": None},
        "source": {"kind": "replay", "paths": [str(tmp_path / "sound")], "speed": "max"},
    }  # fmt: skip
    (tmp_path / "agent.yaml").write_text(
        yaml.safe_dump({"device": "hall", "machines": [machine], "state_dir": str(tmp_path / "s"),
                        "jsonl": str(tmp_path / "told.jsonl")})
    )  # fmt: skip
    agent = Agent(load_config(tmp_path / "agent.yaml"))
    agent.prepare()
    try:
        agent.start()
        agent.wait()
    finally:
        agent.stop()
    told = [json.loads(line) for line in (tmp_path / "told.jsonl").read_text().splitlines()]
    raised = [m["data"] for m in told if m["kind"] == "event" and m["data"]["event"] == "raised"]
    assert [data["reason"]["count"] for data in raised] == [1, 2]
    quieter, louder = raised[0]["reason"]["bands"]
    assert quieter["low_hz"] <= HEALTHY_HZ <= quieter["high_hz"]
    assert louder["low_hz"] <= FAULTY_HZ <= louder["high_hz"]
    assert louder["decibels"] > 20 > -20 > quieter["decibels"]
    assert raised[0]["reason"]["zone"] in {"C", "D"}
    assert [one["kind"] for one in raised[0]["context"]] == ["agent_started"]
    assert raised[1]["reason"]["since"] == raised[0]["time"]
    standing = [m for m in told if m["kind"] == "alarm"]
    assert standing[-1]["level"] == "alarm"
    assert standing[-1]["reason"]["count"] == 2


def test_words():
    reason = Reason(Zone.D, (HUM,), 3, 1e9, ("zone D (was C)",), (Circumstance("idle", "still"),))
    words = reason_words(reason)
    assert words.startswith("zone D; stands out: 90-110 Hz +12 dB; 3rd time since 2001-09-09")
    assert words.endswith("new: zone D (was C); still")
