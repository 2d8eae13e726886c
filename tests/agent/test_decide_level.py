"""A change of level stands until the machine is as loud as before, not until a window scores lower."""

from __future__ import annotations

import numpy as np
import pytest

from agent.config.decide import DecideConfig
from agent.core.level_change import LevelChange
from agent.core.records import Score, Validity, Window
from agent.decide.alarm import AlarmDecider
from agent.window.validity import level_dbfs

RATE, SECONDS = 100, 10.0
NOISE = np.random.default_rng(0).standard_normal(int(RATE * SECONDS)).astype(np.float32)


def told(*stretches, memory=None):
    """Events, with the window's index, of stretches of (windows, loudness, score, change in dB)."""
    decider = AlarmDecider(DecideConfig(alert=None), 1.0, memory=memory)
    found, index = [], 0
    for windows, amplitude, value, change in stretches:
        for _ in range(windows):
            window = Window(
                amplitude * NOISE, RATE, index, 5e6 + index, 1e9 + index, Validity.VALID
            )
            level = None if change is None else LevelChange(change, 0.5)
            decision = decider.decide(
                Score(window, value, level=level, level_dbfs=level_dbfs(window.samples))
            )
            found += [(event.kind.value, index) for event in decision.events]
            index += 1
    return found, decider


@pytest.mark.parametrize(("gain", "change"), [(2.0, 6.0), (0.5, -6.0)])
def test_it_is_not_over_while_the_gain_stays_and_over_when_it_is_back(gain, change):
    happened, _ = told(
        (60, 0.1, 0.2, None),
        (60, gain * 0.1, 3.0, change),
        (300, gain * 0.1, 0.9, None),  # just below the threshold, and still as loud
        (60, gain * 0.1, 3.0, change),
        (60, 0.1, 0.2, None),
    )
    assert [kind for kind, _ in happened] == ["level", "level_returned"]
    assert happened[1][1] >= 480


def test_after_a_restart_what_was_changed_is_learnt_again():
    _, before = told((60, 0.1, 0.2, None), (60, 0.2, 3.0, 6.0))
    happened, _ = told(
        (10, 0.2, 3.0, 6.0), (200, 0.2, 0.9, None), (60, 0.1, 0.2, None), memory=before.memory()
    )
    assert [kind for kind, _ in happened] == ["level_returned"]
    assert happened[0][1] >= 210
