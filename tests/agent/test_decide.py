"""N of M raises, a quiet row clears, an invalid window does neither."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from agent.config.decide import DecideConfig
from agent.core.records import Level, Score, Validity, Window
from agent.decide.alarm import AlarmDecider


def scores(values):
    for index, value in enumerate(values):
        window = Window(
            np.zeros(8000, np.float32), 8000, index, float(index), 1000.0 + index,
            Validity.VALID if value is not None else Validity.SILENT,
        )  # fmt: skip
        yield Score(window, value)


def decide(values, threshold=1.0, **config):
    count = itertools.count()
    decider = AlarmDecider(DecideConfig(**config), threshold, new_id=lambda: f"a{next(count)}")
    return [decider.decide(score) for score in scores(values)]


def changes(values, **config):
    return [
        (i, decision.level.value)
        for i, decision in enumerate(decide(values, **config))
        if decision.changed
    ]


def test_one_loud_window_raises_nothing():
    assert changes([0, 5, 0, 0, 5, 0, 0, 0, 5], raise_windows=2, of_windows=3) == []


def test_n_of_m_raises_and_a_quiet_row_clears():
    values = [0, 5, 0, 5, 0, 5, 0, 0, 5, 0, 0, 0, 0]
    assert changes(values, raise_windows=2, of_windows=3, clear_windows=3) == [
        (3, "alarm"),
        (11, "normal"),
    ]


def test_the_threshold_itself_is_not_above_it():
    assert changes([1.0] * 5, raise_windows=1, of_windows=1) == []
    assert changes([1.0001], raise_windows=1, of_windows=1) == [(0, "alarm")]


def test_invalid_windows_neither_raise_nor_clear_nor_break_a_row():
    assert changes([None] * 20, raise_windows=1, of_windows=1) == []
    values = [5, None, 5, None, None, 0, None, 0, None, 0]
    assert changes(values, raise_windows=2, of_windows=2, clear_windows=3) == [
        (2, "alarm"),
        (9, "normal"),
    ]
    # An alarm stands however long the microphone is dead.
    assert changes([5, *[None] * 100], raise_windows=1, of_windows=1, clear_windows=1) == [
        (0, "alarm")
    ]


def test_what_a_dead_microphone_kept_waiting_is_no_evidence_once_it_is_too_old():
    """The window that no idle one may overlap is known of only after the microphone's return."""
    config = DecideConfig(raise_windows=3, of_windows=5)
    loud = [*[0.0] * 20, *[5.0] * 6]

    def raised(outage):
        decider = AlarmDecider(config, 1.0, overlap_seconds=10.0)
        told = [decider.decide(one) for one in scores([*loud, *[None] * outage, 0.0])]
        return [event.kind.value for decision in told for event in decision.events]

    assert raised(30) == ["raised"]
    assert raised(3600) == []


@pytest.mark.parametrize("threshold", [1.0, -1.0])
def test_hysteresis_asks_for_more_than_just_below_the_threshold(threshold):
    below = threshold - 0.05
    low = threshold - 0.15
    values = [threshold + 1, below, below, below, low, low]
    config = {"raise_windows": 1, "of_windows": 1, "clear_windows": 2}
    found = changes(values, threshold=threshold, hysteresis=0.1, **config)
    assert found == [(0, "alarm"), (5, "normal")]
    assert changes(values, threshold=threshold, **config) == [(0, "alarm"), (2, "normal")]


def test_ids_are_stable_through_an_alarm_and_new_for_the_next():
    config = {"raise_windows": 1, "of_windows": 1, "clear_windows": 2}
    found = decide([0, 5, 5, 0, 0, 0, 5], **config)
    assert [decision.alarm_id for decision in found] == ["", "a0", "a0", "a0", "a0", "", "a1"]
    assert [decision.since_wall for decision in found] == [
        1001, 1002, 1002, 1002, 1005, 1005, 1007,
    ]  # fmt: skip


def test_what_raised_one_alarm_does_not_help_to_raise_the_next():
    config = {"raise_windows": 2, "of_windows": 5, "clear_windows": 1}
    assert changes([5, 5, 0, 5, 0, 0], **config) == [(1, "alarm"), (2, "normal")]


def test_decides_by_the_threshold_given():
    decider = AlarmDecider(DecideConfig(), 9.0)
    (score,) = scores([5.0])
    decision = decider.decide(score)
    assert (decision.exceeded, decision.threshold, decision.level) == (False, 9.0, Level.NORMAL)


def test_real_ids_differ():
    config = DecideConfig(raise_windows=1, of_windows=1)
    ids = {AlarmDecider(config, 1.0).decide(next(scores([5.0]))).alarm_id for _ in range(50)}
    assert len(ids) == 50
