"""Alarms are decided on seconds of sound: whatever the hop, however the windows overlap."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from agent.config.decide import DecideConfig
from agent.core.foreign import ForeignKind, ForeignSound
from agent.core.records import EventKind, Level, Score, Validity, Window
from agent.core.scale import Scale
from agent.decide.alarm import AlarmDecider

RATE, SECONDS = 100, 10.0
SAMPLES = np.zeros(int(SECONDS * RATE), np.float32)


def windows(hop, length, loud, *, dropped=()):
    """Scores of windows that exceed 1 once they hold more than a second of what is loud."""
    for index in range(int((length - SECONDS) / hop) + 1):
        start = index * hop
        if any(a <= start + SECONDS < b for a, b in dropped):
            continue
        held = sum(max(0.0, min(b, start + SECONDS) - max(a, start)) for a, b in loud)
        window = Window(SAMPLES, RATE, index, 5e6 + start, 1e9 + start, Validity.VALID)
        yield Score(window, held)


def told(hop, length, loud, *, config=None, **how):
    """What was told, and how many seconds of the stream had been heard by then."""
    decider = AlarmDecider(config or DecideConfig(alert=None), 1.0, hop_seconds=hop)
    return [
        (event.kind, decision.score.window.end_monotonic - 5e6)
        for decision in (decider.decide(score) for score in windows(hop, length, loud, **how))
        for event in decision.events
    ]


@pytest.mark.parametrize("hop", [0.25, 0.5, 1.0, 2.0, 5.0])
def test_a_fault_is_raised_and_cleared_at_the_same_time_whatever_the_hop(hop):
    (raised, at), (cleared, until) = told(hop, 300.0, [(100.0, 180.0)])
    assert (raised, cleared) == (EventKind.RAISED, EventKind.CLEARED)
    # A second of it until a window exceeds, then 45 s of sound.
    assert 145.0 <= at <= 146.0 + 2 * hop
    # The last window with more than a second of it ends at 189; then 30 s of quiet.
    assert 219.0 - hop <= until <= 219.0 + 2 * hop


@pytest.mark.parametrize("hop", [0.25, 0.5, 1.0, 2.0, 5.0])
def test_one_event_in_many_overlapping_windows_is_one_event(hop):
    """A slammed door, a sentence: three of five windows, and no alarm."""
    passing = [(100.0, 102.0), (200.0, 206.0), (300.0, 302.0), (400.0, 406.0)]
    assert told(hop, 500.0, passing) == []
    counted = DecideConfig(raise_windows=3, of_windows=5, alert=None)
    if hop <= 2.0:
        assert EventKind.RAISED in {kind for kind, _ in told(hop, 500.0, passing, config=counted)}


def test_windows_that_a_slow_device_dropped_cost_no_evidence():
    """Their sound is in the windows that were judged."""
    dropped = [(at + 1.0, at + 4.0) for at in np.arange(100.0, 200.0, 4.0)]
    (_, at), *_ = told(1.0, 300.0, [(100.0, 180.0)], dropped=dropped)
    assert at <= 151.0


def test_windows_without_common_sound_count_whole_and_no_more():
    hop = 60.0
    (_, at), *_ = told(hop, 1000.0, [(300.0, 700.0)])
    # Windows that end at 310, 370 and so on hold 10 s each.
    assert at == 550.0


def test_runs_of_a_machine_that_pauses_raise_with_the_second_one():
    """A fault in both has not passed between them; what is in one alone has."""
    nothing = np.zeros(int(SECONDS * RATE), np.float32)

    def raised(loud, pause_seconds=10.0):
        config = DecideConfig(alert=None, pause_seconds=pause_seconds)
        decider, index = AlarmDecider(config, 1.0, hop_seconds=1.0), 0
        for run in range(10):
            for second in range(6):  # runs of 15 s each minute
                start, clock = 60.0 * run + second, 15.0 * run + second
                window = Window(
                    nothing, RATE, index, 5e6 + start, 1e9 + start, Validity.VALID,
                    run_clock=8e6 + clock + SECONDS,
                )  # fmt: skip
                index += 1
                decision = decider.decide(Score(window, 3.0 if run in loud else 0.0))
                if decision.level is Level.ALARM:
                    return run
        return None

    assert raised({4, 5, 6, 7, 8}) == 5
    assert raised({4, 5, 6, 7, 8}, pause_seconds=0.0) == 6
    assert raised({4}) is None


def test_keys_of_windows_keep_their_meaning_and_the_two_are_not_mixed():
    old = DecideConfig(raise_windows=2, of_windows=4, clear_windows=7)
    assert old.amounts.in_windows
    assert (old.amounts.raise_after, old.amounts.within, old.amounts.clear_after) == (2, 4, 7)
    one = DecideConfig(clear_windows=4).amounts
    assert (one.raise_after, one.within, one.clear_after) == (3, 5, 4)
    new = DecideConfig().amounts
    assert not new.in_windows
    with pytest.raises(ValidationError, match="not seconds of sound and windows together"):
        DecideConfig(raise_seconds=20, raise_windows=3)
    with pytest.raises(ValidationError, match="raise_seconds \\(40\\) cannot be more than"):
        DecideConfig(raise_seconds=40, of_seconds=30)


def test_a_configuration_that_gives_seconds_alone_keeps_its_stretch():
    """It was written when that was 30 s for 20."""
    assert DecideConfig(raise_seconds=20).amounts.within == 30
    assert (DecideConfig().amounts.raise_after, DecideConfig().amounts.within) == (45, 60)


SCALE = Scale(median=0.0, threshold=1.0, usual=0.5, severe=1.6)


def strongly(values, *, config=None, **changes):
    """When alarms began and ended, at a hop of 1 s; `changes` are of each window's score."""
    decider = AlarmDecider(config or DecideConfig(alert=None), 1.0, scale=SCALE)
    found = []
    for index, value in enumerate(values):
        window = Window(SAMPLES, RATE, index, 5e6 + index, 1e9 + index, Validity.VALID)
        decision = decider.decide(Score(window, value, **changes))
        found += [(event.kind.value, index + 1) for event in decision.events]
    return found


def test_a_strong_fault_is_raised_after_twenty_seconds_and_a_moderate_one_after_45():
    assert strongly([0.2] * 60 + [3.0] * 100)[0] == ("raised", 60 + 20)
    assert strongly([0.2] * 60 + [1.9] * 100)[0] == ("raised", 60 + 45)
    never = DecideConfig(alert=None, strong_seconds=None)
    assert strongly([0.2] * 60 + [3.0] * 100, config=never)[0] == ("raised", 60 + 45)


def test_strong_sound_from_elsewhere_or_that_comes_and_goes_takes_the_longer_measure():
    rain = (ForeignSound(ForeignKind.RAIN, 0.9, "tagger"),)
    assert strongly([0.2] * 60 + [9.0] * 40 + [0.2] * 60, foreign=rain) == []
    assert strongly([0.2] * 60 + [9.0] * 40 + [0.2] * 60, varies=True) == []
    assert strongly([0.2] * 60 + [9.0] * 100, varies=True)[0] == ("raised", 60 + 45)


def test_a_strong_fault_that_becomes_moderate_is_still_one():
    values = [0.2] * 60 + [3.0] * 22 + [1.2] * 100 + [0.2] * 60
    assert strongly(values) == [("raised", 80), ("cleared", 60 + 22 + 100 + 30)]


def mixed(length, loud, close, *, called=()):
    """As `windows`, at 1 s within `close` stretches and after a call, else at 5 s."""
    for index in range(int(length - SECONDS) + 1):
        end = index + SECONDS
        near = any(a <= end < b for a, b in (*close, *((at, at + 10) for at in called)))
        if not near and index % 5:
            continue
        held = sum(max(0.0, min(b, end) - max(a, end - SECONDS)) for a, b in loud)
        window = Window(
            SAMPLES, RATE, index, 5e6 + end - SECONDS, 1e9 + index, Validity.VALID, step=RATE,
            called=end in called,
        )  # fmt: skip
        yield Score(window, held)


def decided(scores):
    decider = AlarmDecider(DecideConfig(alert=None), 1.0)
    return [
        (event.kind, decision.score.window.end_monotonic - 5e6)
        for decision in map(decider.decide, scores)
        for event in decision.events
    ]


@pytest.mark.parametrize("begin", [100.0, 101.0, 102.0, 103.0, 104.0])
def test_a_fault_is_raised_as_soon_with_a_hop_that_varies(begin):
    loud = [(begin, begin + 80.0)]
    ((_, fixed), *_) = decided(mixed(300.0, loud, [(0.0, 300.0)]))
    ((_, auto), *_) = decided(mixed(300.0, loud, [(begin + 5, begin + 120)]))
    ((_, called), *_) = decided(mixed(300.0, loud, [(begin + 5, begin + 120)], called=(begin + 2,)))
    assert fixed - 4.0 <= auto <= fixed
    assert called == fixed


def test_what_called_for_a_window_speaks_for_its_own_second_alone():
    """Bangs, each of which is heard as soon as it comes: no more evidence than at any fixed hop."""
    bangs = [(float(at), at + 1.5) for at in range(103, 3000, 24)]
    calls = tuple(at + 2 for at, _ in bangs)
    assert decided(mixed(3000.0, bangs, [(0.0, 3000.0)])) == []
    assert decided(mixed(3000.0, bangs, [], called=calls)) == []
