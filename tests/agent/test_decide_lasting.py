"""A weak fault that stays: above the alert's threshold for long enough it is an alarm."""

from __future__ import annotations

import numpy as np
import pytest

from agent.config.decide import AlertConfig, Amounts, DecideConfig
from agent.core.level_change import LevelChange
from agent.core.reasons import Reason
from agent.core.records import EventKind, Level, MachineState, Score, Validity, Window
from agent.core.scale import Scale, Zone
from agent.decide.alarm import AlarmDecider
from agent.decide.memory import AlarmMemory
from agent.decide.service import AlarmService

RATE = 100
NOTHING = np.zeros(10 * RATE, np.float32)
LASTING = Amounts(75.0, 90.0, 30.0)
SCALE = Scale(median=0.0, usual=0.3, threshold=1.0, severe=2.0)


def decider(memory: AlarmMemory | None = None, lasting: Amounts | None = LASTING) -> AlarmDecider:
    return AlarmDecider(
        DecideConfig(), 1.0, alert_threshold=0.5, lasting=lasting, scale=SCALE, memory=memory
    )


def hear(alarm, values, start=0):
    """Windows of 10 s at a hop of 1 s: what was told, and at which of them."""
    told = []
    for number, value in enumerate(values, start):
        window = Window(NOTHING, RATE, number, 5e6 + number, 1e9 + number, Validity.VALID)
        told += [(event.kind, number) for event in alarm.decide(Score(window, value)).events]
    return told


def test_a_weak_fault_is_an_alert_and_then_an_alarm_and_ends():
    alarm = decider()
    told = hear(alarm, [0.0] * 50 + [0.7] * 100 + [0.0] * 40)
    assert told[:2] == [(EventKind.ALERT, 109), (EventKind.RAISED, 124)]
    assert [kind for kind, _ in told[2:]] == [EventKind.CLEARED]
    assert 179 <= told[2][1] <= 180


def test_what_comes_and_goes_weakly_is_no_alarm():
    assert hear(decider(), ([0.7] * 40 + [0.0] * 40) * 10) == []
    # Two thirds of the time above it is an alert, and stays one.
    kinds = {kind for kind, _ in hear(decider(), ([0.7] * 62 + [0.0] * 28) * 10)}
    assert kinds <= {EventKind.ALERT, EventKind.CLEARED}
    assert EventKind.ALERT in kinds


def test_a_change_of_level_is_neither_alert_nor_alarm():
    alarm = decider()
    louder = LevelChange(decibels=6.0, value=0.8)
    told = []
    for number in range(200):
        window = Window(NOTHING, RATE, number, 5e6 + number, 1e9 + number, Validity.VALID)
        told += alarm.decide(Score(window, 4.0, level=louder)).events
    assert {event.kind for event in told} == {EventKind.LEVEL}


def test_without_a_promise_an_alert_stays_an_alert():
    assert [kind for kind, _ in hear(decider(lasting=None), [0.7] * 300)] == [EventKind.ALERT]


def test_it_stands_over_a_restart_and_ends_by_the_same_measure():
    alarm = decider()
    hear(alarm, [0.7] * 100)
    memory = AlarmMemory.model_validate_json(alarm.memory().model_dump_json())
    assert (memory.alarm_active, memory.lasting_active) == (False, True)
    assert memory.condition is Level.ALARM
    again = decider(memory)
    assert hear(again, [0.7] * 100, 200) == []
    assert [kind for kind, _ in hear(again, [0.0] * 31, 300)] == [EventKind.CLEARED]


def test_the_alarm_says_what_it_stands_on():
    told = []
    service = AlarmService(decider(), told.append)
    for number in range(90):
        window = Window(NOTHING, RATE, number, 5e6 + number, 1e9 + number, Validity.VALID)
        service.decide(Score(window, 0.7), MachineState.RUNNING)
    raised = next(event for event in told if event.kind is EventKind.RAISED)
    (reason, *_) = raised.context
    assert reason.kind == "lasting"
    assert reason.text == "weak, but above the alert's threshold (0.5) for 75 of 90 s"
    assert isinstance(raised.status.reason, Reason)
    assert raised.status.reason.zone is Zone.C


def test_only_a_promised_threshold_escalates_unless_it_is_asked_for():
    assert AlertConfig().escalation(30.0, promised=True) == Amounts(64.0, 80.0, 30.0)
    assert AlertConfig(escalate_seconds=75.0).escalation(30.0, promised=True) == LASTING
    assert AlertConfig().escalation(30.0, promised=False) is None
    asked = AlertConfig(threshold=3.0, escalate_seconds=80.0)
    assert asked.escalation(30.0, promised=False) == Amounts(80.0, 90.0, 30.0)
    assert AlertConfig(escalate_seconds=None).escalation(30.0, promised=True) is None
    assert AlertConfig(raise_seconds=20, of_seconds=30).escalation(30.0, promised=True) is None
    assert AlertConfig(raise_windows=20).escalation(30.0, promised=True) is None
    with pytest.raises(ValueError, match="cannot be more than of_seconds"):
        AlertConfig(escalate_seconds=100.0)
