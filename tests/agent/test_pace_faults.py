"""Faults that begin at once or slowly, knocks and doubled gain, at a hop that follows the machine."""

from __future__ import annotations

import numpy as np
import pytest

from agent.config.decide import DecideConfig
from agent.core.level_change import LevelChange
from agent.core.records import AudioBlock, EventKind, Score, Window
from agent.core.scale import Scale
from agent.decide.alarm import AlarmDecider
from agent.pace.pace import HopPace
from agent.window.rolling import Due

SECONDS, RATE, ONSET = 10, 4000, 300
SCALE = Scale(median=0.0, threshold=1.0, usual=0.3, severe=2.0)
NOTHING = np.zeros(SECONDS * RATE, np.float32)


def calm(seconds, seed=0):
    """Healthy scores, one a second."""
    return np.random.default_rng(seed).normal(0.0, 0.1, seconds)


def told(scores, change=lambda _at: None, knocks=(), *, follows):
    """What happened to the alarm, (second, kind), and the ends of the windows that were judged.

    Args:
        scores: Of the windows that end at each whole second from the first whole window on.
        change: The change of level of the window that ends at a second.
        knocks: Seconds at which a half second begins that a machine's own minutes don't hold.
        follows: Whether the hop follows, or is 1 s.
    """
    decider = AlarmDecider(DecideConfig(), 1.0, scale=SCALE)
    pace = HopPace(RATE, SECONDS * RATE, RATE, 5)
    rng, found, ends = np.random.default_rng(1), [], []
    for second in range(len(scores) + SECONDS - 1):
        sound = rng.normal(0.0, 0.01, RATE).astype(np.float32)
        if second in knocks:
            sound[100:140] += 0.9
        pace.hear(AudioBlock(sound, RATE, float(second), 1e9 + second))
        at = second + 1 - SECONDS
        if at < 0:
            continue
        due = pace.due((second + 1) * RATE) if follows else Due.YES
        if due is Due.NO:
            continue
        window = Window(
            NOTHING, RATE, at, float(at), 1e9 + at, step=RATE, position=at * RATE,
            called=due is Due.CALLED,
        )  # fmt: skip
        decision = decider.decide(Score(window, float(scores[at]), level=change(second + 1)))
        pace.take(decision)
        ends.append(second + 1)
        found += [(second + 1, event.kind) for event in decision.events]
    return found, ends


def raised(events):
    return [at for at, kind in events if kind is EventKind.RAISED]


@pytest.mark.parametrize("phase", range(5))
def test_a_strong_fault_that_jumps_is_judged_within_a_second_and_told_as_soon(phase):
    scores = np.concatenate([calm(ONSET + phase), calm(200) + 1.5])
    begins = ONSET + phase + SECONDS - 1  # it ends the first window that holds it
    each, _ = told(scores, follows=False)
    auto, ends = told(scores, knocks={begins}, follows=True)
    assert min(end for end in ends if end > begins) == begins + 1
    assert raised(auto)[0] <= raised(each)[0] + 4
    assert len(raised(auto)) == len(raised(each)) == 1


@pytest.mark.parametrize("phase", range(5))
def test_a_fault_that_no_level_tells_is_told_a_calm_step_later_at_most(phase):
    scores = np.concatenate([calm(ONSET + phase), calm(200) + 1.5])
    each, auto = (raised(told(scores, follows=one)[0]) for one in (False, True))
    assert len(auto) == 1
    assert auto[0] <= each[0] + 4


def test_a_fault_that_comes_slowly_has_brought_windows_close_before_it_counts():
    scores = calm(ONSET + 500) + np.concatenate([
        np.zeros(ONSET), np.linspace(0.0, 1.5, 300), np.full(200, 1.5)
    ])  # fmt: skip
    each, _ = told(scores, follows=False)
    auto, ends = told(scores, follows=True)
    assert raised(auto)[0] <= raised(each)[0] + 1
    crosses = ONSET + SECONDS + 200
    assert set(np.diff([end for end in ends if crosses - 20 < end < crosses + 60])) == {1}
    assert len(ends) < 0.7 * len(scores)


def test_a_knock_that_passes_brings_windows_close_for_a_while_and_no_alarm():
    scores = calm(900)
    for knock in (200, 400, 600):
        scores[knock - SECONDS + 1 : knock + 1] = 3.0  # of all windows that hold it
    auto, ends = told(scores, knocks={200, 400, 600}, follows=True)
    assert not auto
    for knock in (200, 400, 600):
        assert knock + 1 in ends
    assert len(ends) < 0.5 * len(scores)


def test_doubled_gain_is_told_as_a_change_of_level_and_raises_no_alarm():
    begins = ONSET + SECONDS

    def change(end):
        return LevelChange(6.0, 0.0, passing=end < begins + SECONDS) if end > begins else None

    scores = np.concatenate([calm(ONSET), np.full(200, 4.0)])
    each, _ = told(scores, change, follows=False)
    auto, ends = told(scores, change, knocks={begins}, follows=True)
    assert not raised(each) + raised(auto)
    at = {
        name: next(at for at, kind in events if kind is EventKind.LEVEL)
        for name, events in (("each", each), ("auto", auto))
    }
    assert at["auto"] <= at["each"] + 4
    assert begins + 1 in ends


def test_knocks_that_pass_are_no_change_of_level_however_many_windows_they_bring():
    begins = range(ONSET, 900, 100)
    held = {at + one for at in begins for one in range(1, SECONDS + 1)}  # ends of all that hold one
    scores = calm(1000)
    scores[[end - SECONDS for end in held]] = 1.5

    def change(end):
        return LevelChange(6.0, 0.0) if end in held else None

    each, _ = told(scores, change, follows=False)
    auto, ends = told(scores, change, knocks=set(begins), follows=True)
    assert not each
    assert not auto
    assert len(held & set(ends)) > 0.8 * len(held)
