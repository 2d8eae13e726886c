"""Planned maintenance: every week or once, told as such, and nothing heard then counts."""

from __future__ import annotations

import json
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from agent.config.agent import load_config
from agent.config.decide import DecideConfig
from agent.config.maintenance import MaintenanceConfig, Schedule
from agent.core.cloud_event import Stamp
from agent.core.errors import ConfigError
from agent.core.records import EventKind, Level, MachineState, Score, Window
from agent.decide.alarm import AlarmDecider
from agent.history.store import Told
from agent.history.why import explain_stretch
from agent.publish.messages import event_message

BERLIN = ZoneInfo("Europe/Berlin")
SERVICE = {"name": "service", "days": ["sat"], "begin": "06:00", "end": "10:00",
           "zone": "Europe/Berlin"}  # fmt: skip
SAMPLES = np.zeros(8000, np.float32)


def wall(text):
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN).timestamp()


def schedule(*planned):
    return Schedule([MaintenanceConfig.model_validate(one) for one in planned])


def test_every_week_in_the_zone_of_the_plant():
    plan = schedule(SERVICE)
    assert plan.at(wall("2026-11-28T05:59:59")) is None
    found = plan.at(wall("2026-11-28T06:00"))
    assert (found.name, found.end) == ("service", wall("2026-11-28T10:00"))
    assert plan.at(wall("2026-11-28T10:00")) is None
    assert plan.at(wall("2026-11-29T07:00")) is None  # a Sunday
    assert plan.at(wall("2026-12-05T05:59:59")) is None
    assert plan.at(wall("2026-12-05T06:00")).begin == wall("2026-12-05T06:00")
    # Summer time ends between these.
    assert schedule(SERVICE).at(wall("2026-10-24T06:30")) is not None
    assert schedule(SERVICE).at(wall("2026-10-31T06:30")) is not None


def test_over_midnight():
    plan = schedule({**SERVICE, "begin": "22:00", "end": "02:00"})
    assert plan.at(wall("2026-11-28T23:00")).end == wall("2026-11-29T02:00")
    assert plan.at(wall("2026-11-29T01:59")) is not None
    assert plan.at(wall("2026-11-29T02:00")) is None


def test_once():
    plan = schedule({"begin": "2026-12-01T08:00", "end": "2026-12-01T12:00",
                     "zone": "Europe/Berlin"})  # fmt: skip
    assert plan.at(wall("2026-12-01T08:00")).name == "planned maintenance"
    assert plan.at(wall("2026-12-08T08:00")) is None


@given(st.lists(st.integers(0, 14 * 86_400), min_size=1, max_size=20))
def test_what_is_remembered_between_looks_changes_nothing(offsets):
    """A clock that jumps to and fro finds what a fresh look would."""
    planned = (
        {**SERVICE, "days": ["mon", "sat"], "begin": "22:00", "end": "02:00"},
        {"begin": "2026-12-01T08:00", "end": "2026-12-01T12:00", "zone": "Europe/Berlin"},
    )
    plan, start = schedule(*planned), wall("2026-11-23T00:00")
    for offset in offsets:
        assert plan.at(start + offset) == schedule(*planned).at(start + offset)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"begin": "6 o'clock"}, "no time of day"),
        ({"days": ["saturday"]}, "sat"),
        ({"zone": "Middle/Earth"}, "no time zone"),
        ({"days": []}, "no date and time"),
        ({"days": [], "begin": "2026-12-01T08:00", "end": "2026-12-01T07:00"}, "before it begins"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(change, words):
    with pytest.raises(ValidationError, match=words):
        MaintenanceConfig.model_validate({**SERVICE, **change})


def test_times_that_yaml_reads_as_numbers_and_dates(tmp_path):
    text = """
machines:
  - name: pump
    bundle: b
    source: replay:x.wav
    maintenance:
      - {name: service, days: [sat], begin: 10:30, end: 12:00}
      - {name: overhaul, begin: 2026-12-01T08:00:00, end: 2026-12-02 08:00:00, zone: Europe/Berlin}
"""
    path = tmp_path / "agent.yaml"
    path.write_text(text)
    service, overhaul = load_config(path).machines[0].maintenance
    assert (service.begin, service.end) == ("10:30", "12:00")
    assert overhaul.near(0.0)[0].begin == wall("2026-12-01T08:00")
    path.write_text(text.replace("12:00}", "noon}"))
    with pytest.raises(ConfigError, match="no time of day"):
        load_config(path)


class Plant:
    """A decider by the clock of the wall."""

    def __init__(self, at, memory=None, **config):
        defaults = {"raise_seconds": 2, "of_seconds": 3, "clear_seconds": 3, "alert": None}
        self.decider = AlarmDecider(
            DecideConfig(**{**defaults, **config}), 1.0, memory=memory, schedule=schedule(SERVICE)
        )
        self.now, self.wall, self.index = 0.0, wall(at), 0

    def hear(self, *values):
        found = []
        for value in values:
            window = Window(SAMPLES, 8000, self.index, self.now, self.wall)
            self.index, self.now, self.wall = self.index + 1, self.now + 1, self.wall + 1
            decision = self.decider.decide(Score(window, value), MachineState.RUNNING)
            found += [(event.kind, event) for event in decision.events]
        return found

    def to(self, at):
        self.now += wall(at) - self.wall
        self.wall = wall(at)
        return [(e.kind, e) for e in self.decider.tick(self.now, self.wall)]

    @property
    def status(self):
        return self.decider.life.status


def test_nothing_counts_then_and_it_is_told_as_planned():
    plant = Plant("2026-11-28T05:59:50")
    ((kind, event),) = plant.hear(*[9.0] * 0, *[0.0] * 10, *[9.0] * 60)
    assert (kind, event.note, event.operator) == (EventKind.MUTED, "planned: service", "")
    assert event.status.planned == "service"
    assert event.status.muted_until_wall == wall("2026-11-28T10:00")
    assert event_message(Stamp("hall", "pump", 1e9), event)["data"]["planned"] == "service"
    ((kind, event),) = plant.to("2026-11-28T10:00:01")
    assert (kind, event.note) == (EventKind.UNMUTED, "planned maintenance is over: service")
    assert plant.status.muted_until_wall is None
    assert [k for k, _ in plant.hear(9.0, 9.0, 9.0)] == [EventKind.RAISED]
    told = [
        Told("pump", int(e.wall), e.kind.value, e.operator, e.note) for _, e in ((kind, event),)
    ]
    assert "planned maintenance is over" in told[0].words


def test_an_operator_may_end_it_early_and_it_stays_ended():
    plant = Plant("2026-11-28T07:00")
    plant.hear(0.0)
    plant.decider.life.unmute(operator="Ann")
    ((kind, event),) = [(e.kind, e) for e in plant.decider.life.take()]
    assert (kind, event.operator) == (EventKind.UNMUTED, "Ann")
    assert [k for k, _ in plant.hear(*[9.0] * 5)] == [EventKind.RAISED]
    assert [k for k, _ in plant.to("2026-12-05T07:00")] == [EventKind.MUTED]  # the next one holds


def test_an_operators_muting_goes_on_beyond_it():
    plant = Plant("2026-11-28T09:00")
    plant.hear(0.0)
    plant.decider.life.mute(7200.0, operator="Ann")
    plant.decider.life.take()
    assert plant.status.muted_until_wall == pytest.approx(wall("2026-11-28T11:00"), abs=2)
    assert plant.to("2026-11-28T10:30") == []
    assert plant.status.planned == ""
    assert plant.decider.life.muted
    assert [k for k, _ in plant.to("2026-11-28T11:00:05")] == [EventKind.UNMUTED]


def test_over_a_restart_it_is_told_once():
    plant = Plant("2026-11-28T07:00")
    assert [k for k, _ in plant.hear(0.0)] == [EventKind.MUTED]
    memory = type(plant.decider.memory()).model_validate_json(
        plant.decider.memory().model_dump_json()
    )
    later = Plant("2026-11-28T08:00", memory)
    assert later.hear(9.0, 9.0, 9.0) == []
    assert later.status.level is Level.NORMAL
    after = Plant("2026-11-28T11:00", memory)  # it ended while the agent was away
    assert [k for k, _ in after.hear(0.0)] == [EventKind.UNMUTED]


def test_why_says_that_it_was_planned():
    told = [
        Told("pump", 100, "muted", note="planned: service"),
        Told("pump", 200, "unmuted", note="planned maintenance is over: service"),
    ]
    found = explain_stretch([], 1, told, 120.0, 180.0, DecideConfig())
    assert "muted (planned: service)" in found.text


def test_the_agent_does_not_raise_then(tmp_path):
    from support.bundles import FAULTY_HZ, build_bundle, tone, write

    from agent.service import Agent

    bundle = build_bundle(tmp_path / "bundle")
    write(tmp_path / "a.wav", np.concatenate([tone(10, seed=1), tone(20, FAULTY_HZ, seed=2)]))
    machine = {
        "name": "pump", "bundle": str(bundle), "hop_seconds": 0.5,
        "decide": {"raise_seconds": 2, "of_seconds": 3, "clear_seconds": 3},
        "source": {"kind": "replay", "paths": [str(tmp_path / "a.wav")], "speed": "max"},
        "maintenance": [{"name": "overhaul", "days": ["mon", "tue", "wed", "thu", "fri", "sat",
                         "sun"], "begin": "00:00", "end": "00:00"}],
    }  # fmt: skip
    config = {"device": "hall", "machines": [machine], "state_dir": str(tmp_path / "s"),
              "jsonl": str(tmp_path / "told.jsonl")}  # fmt: skip
    (tmp_path / "agent.yaml").write_text(yaml.safe_dump(config))
    agent = Agent(load_config(tmp_path / "agent.yaml"))
    agent.prepare()
    try:
        agent.start()
        agent.wait()
    finally:
        agent.stop()
    told = [json.loads(line) for line in (tmp_path / "told.jsonl").read_text().splitlines()]
    kinds = [m["data"]["event"] for m in told if m["kind"] == "event"]
    assert kinds == ["muted"]
    assert [m for m in told if m["kind"] == "alarm"][-1]["planned"] == "overhaul"
