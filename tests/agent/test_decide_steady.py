"""A fault too weak for an alarm or an alert that stays for minutes: it is told as an alert."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from agent.calibrate.rate import Correlation, Counting, window_rate
from agent.config.decide import AlertConfig, Amounts, DecideConfig
from agent.core.level_change import LevelChange
from agent.core.records import EventKind, Level, MachineState, Score, Validity, Window
from agent.core.scale import Scale, Zone
from agent.decide.alarm import AlarmDecider
from agent.decide.memory import AlarmMemory
from agent.decide.service import AlarmService
from agent.decide.thresholds import Steady, Thresholds

RATE = 100
NOTHING = np.zeros(10 * RATE, np.float32)
STEADY = Steady(0.4, Amounts(240.0, 300.0, 60.0))
SCALE = Scale(median=0.0, usual=0.3, threshold=1.0, severe=2.0)


def decider(memory: AlarmMemory | None = None, steady: Steady | None = STEADY) -> AlarmDecider:
    """An alarm above 1.0, an alert above 0.7, and what stays above 0.4."""
    return AlarmDecider(
        DecideConfig(), 1.0, alert_threshold=0.7, lasting=Amounts(64.0, 80.0, 30.0), steady=steady,
        scale=SCALE, memory=memory,
    )  # fmt: skip


def window_at(number: float) -> Window:
    return Window(NOTHING, RATE, int(number), 5e6 + number, 1e9 + number, Validity.VALID)


def hear(alarm, values, start=0.0, hop=1.0, **facts):
    """Windows of 10 s: what was told, and after how many seconds."""
    told = []
    for number, value in enumerate(values):
        at = start + number * hop
        score = Score(window_at(at), value, **facts)
        told += [(event.kind, at) for event in alarm.decide(score).events]
    return told


def test_a_fault_at_half_the_threshold_is_an_alert_after_four_minutes_and_no_alarm():
    """It was never told: an alert takes 0.7 here, an alarm 1.0."""
    weak = [0.0] * 400 + [0.55] * 900 + [0.0] * 100
    assert hear(decider(steady=None), weak) == []
    told = hear(decider(), weak)
    assert [kind for kind, _ in told] == [EventKind.ALERT, EventKind.CLEARED]
    assert told[0][1] - 400 == pytest.approx(240, abs=2)
    # It ends once so much of a stretch is quiet that it would not have begun.
    assert told[1][1] - 1300 == pytest.approx(60, abs=2)


@pytest.mark.parametrize("hop", [0.5, 2.0, 5.0, 10.0])
def test_it_is_decided_on_seconds_whatever_the_hop(hop):
    told = hear(decider(), [0.0] * int(400 / hop) + [0.55] * int(600 / hop), hop=hop)
    assert [kind for kind, _ in told] == [EventKind.ALERT]
    assert told[0][1] - 400 == pytest.approx(240, abs=2 * hop + 1)


def test_what_passes_or_comes_and_goes_is_not_told():
    assert hear(decider(), ([0.95] * 45 + [0.0] * 60) * 12) == []
    assert hear(decider(), ([0.65] * 180 + [0.1] * 120) * 8) == []


def test_a_machine_that_runs_in_cycles_gathers_it_over_its_runs():
    """What is heard before and after a pause has lasted; the pause itself counts neither way."""
    alarm, told = decider(), []
    for cycle in range(30):
        told += hear(alarm, [0.55] * 20, start=60.0 * cycle)
    assert [kind for kind, _ in told] == [EventKind.ALERT]


def test_a_change_of_level_is_not_told_as_weak_sound_and_below_the_alert_not_at_all():
    louder = LevelChange(decibels=3.0, value=0.1)
    assert hear(decider(), [0.55] * 900, level=louder) == []
    # Above the alert's threshold it is told as what it is, once.
    told = hear(decider(), [0.9] * 900, level=louder)
    assert [kind for kind, _ in told] == [EventKind.LEVEL]


def test_it_grows_into_an_alarm_and_falls_back_to_an_alert():
    alarm = decider()
    told = hear(alarm, [0.55] * 300 + [1.4] * 100 + [0.55] * 300 + [0.0] * 100)
    assert [kind for kind, _ in told] == [
        EventKind.ALERT, EventKind.RAISED, EventKind.LOWERED, EventKind.CLEARED,
    ]  # fmt: skip


def test_it_stands_over_a_restart_and_ends_by_the_same_measure():
    alarm = decider()
    hear(alarm, [0.55] * 300)
    memory = AlarmMemory.model_validate_json(alarm.memory().model_dump_json())
    assert (memory.alert_active, memory.steady_active) == (False, True)
    assert memory.condition is Level.ALERT
    again = decider(memory)
    assert hear(again, [0.55] * 100, 400.0) == []
    assert [kind for kind, _ in hear(again, [0.0] * 65, 500.0)] == [EventKind.CLEARED]


def test_other_thresholds_begin_to_count_anew_and_leave_the_alert():
    alarm = decider()
    hear(alarm, [0.55] * 300)
    alarm.use_thresholds(Thresholds(1.0, 0.7, SCALE, steady=replace(STEADY, threshold=0.5)))
    assert alarm.memory().steady_active
    assert hear(alarm, [0.55] * 100, 300.0) == []
    assert [kind for kind, _ in hear(alarm, [0.45] * 65, 400.0)] == [EventKind.CLEARED]


def test_a_muted_or_idle_machine_gathers_nothing():
    alarm = decider()
    hear(alarm, [0.55] * 200)
    alarm.life.mute(3600.0)
    assert [kind for kind, _ in hear(alarm, [0.55] * 600, 200.0)] == [EventKind.MUTED]
    alarm.life.unmute()
    told = hear(alarm, [0.55] * 200, 800.0)
    assert EventKind.ALERT not in {kind for kind, _ in told}
    alarm, told = decider(), []
    for number in range(900):
        score = Score(window_at(number), 0.55)
        told += alarm.decide(score, MachineState.IDLE).events
    assert told == []


def test_a_shelved_one_is_told_when_the_shelf_ends():
    alarm = decider()
    hear(alarm, [0.0])
    alarm.life.shelve(seconds=600.0)
    told = hear(alarm, [0.55] * 700, 1.0)
    assert [kind for kind, _ in told] == [EventKind.SHELVED, EventKind.UNSHELVED, EventKind.ALERT]


def test_the_alert_says_what_it_stands_on():
    told = []
    service = AlarmService(decider(), told.append)
    for number in range(300):
        service.decide(Score(window_at(number), 0.55), MachineState.RUNNING)
    (alert,) = told
    assert alert.kind is EventKind.ALERT
    (reason, *_) = alert.context
    assert reason.kind == "lasting"
    assert reason.text == "weak, but higher than healthy sound stays (0.4) for 4 of 5 minutes"
    assert alert.status.reason is not None
    assert alert.status.reason.zone is Zone.B


def test_an_alert_by_its_own_evidence_says_nothing_of_minutes():
    told = []
    service = AlarmService(decider(), told.append)
    for number in range(61):
        service.decide(Score(window_at(number), 0.8), MachineState.RUNNING)
    assert [event.kind for event in told] == [EventKind.ALERT]
    assert all(one.kind != "lasting" for one in told[0].context)


def test_amounts_follow_the_configuration():
    assert AlertConfig().steady(30.0) == STEADY.amounts
    assert AlertConfig(steady_seconds=480.0).steady(30.0) == Amounts(480.0, 600.0, 120.0)
    assert AlertConfig(steady_seconds=60.0).steady(30.0) == Amounts(60.0, 75.0, 30.0)
    assert AlertConfig(steady_seconds=None).steady(30.0) is None
    # Windows, however they overlap, are no minutes.
    assert AlertConfig(raise_windows=20).steady(30.0) is None


def test_states_that_last_longer_leave_fewer_windows_above():
    counting = Counting(5.0, 10.0, 48, 60, 12)
    month, day = 1.0 / (30 * 86_400.0), 1.0 / 86_400.0
    # However unlike the windows of a recording were, states are taken to be alike for minutes.
    calm = Correlation(0.05, 60.0)
    assert window_rate(day, counting, calm, lasting=300.0) < window_rate(day, counting, calm)
    unknown = Correlation(None, 10.0)
    assert window_rate(day, counting, unknown, 1800.0) <= window_rate(day, counting, unknown)
    # With ten times the draws 0.0166.
    assert window_rate(month, counting, unknown, 300.0) == pytest.approx(0.016, rel=0.2)
