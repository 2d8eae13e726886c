"""The hop follows what is heard: wide apart while calm, close on a trigger or a score."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from agent.core.records import AudioBlock, Decision, Level, MachineState, Score, Window
from agent.core.scale import Scale
from agent.pace.pace import HopPace
from agent.pace.trigger import LevelTrigger
from agent.window.rolling import Due, RollingWindow

RATE, SECONDS = 4000, 10
SCALE = Scale(median=1.0, threshold=3.0, usual=1.6, severe=6.0)


def noise(seconds, seed=0, level=0.03):
    size = round(seconds * RATE)
    return np.random.default_rng(seed).normal(0, level, size).astype(np.float32)


def blocks(sound, seconds=0.25):
    size = round(seconds * RATE)
    for start in range(0, len(sound), size):
        yield AudioBlock(sound[start : start + size], RATE, start / RATE, 1e9 + start / RATE)


def decision(window, value=1.0, *, level=Level.NORMAL, state=MachineState.RUNNING, alert=2.5):
    exceeded = value is not None and value > 3.0
    return Decision(
        Score(window, value), 3.0, exceeded, level, changed=False, since_wall=0.0, state=state,
        alert_threshold=alert, scale=SCALE,
    )  # fmt: skip


def heard(sound, score=lambda _window: 1.0, **how):
    """The windows cut of a sound, each decided on before the next is."""
    pace = HopPace(RATE, SECONDS * RATE, RATE, 5, **how)
    rolling, found = RollingWindow(SECONDS * RATE, RATE, RATE, pace.due), []
    for block in blocks(sound):
        pace.hear(block)
        for window in rolling.push(block):
            found.append(window)
            pace.take(decision(window, score(window)))
    return found


def ends(windows):
    return [round(window.end_monotonic, 6) for window in windows]


def test_a_calm_machine_has_a_window_each_fifth_second_and_none_of_its_sound_is_left_out():
    found = ends(heard(noise(120)))
    assert found[:21] == [float(end) for end in range(10, 31)]  # the beginning, closely
    assert found[21:] == [float(end) for end in range(35, 121, 5)]


@pytest.mark.parametrize("at", [60.0, 61.3, 63.9])
@pytest.mark.parametrize("kind", ["louder", "a knock", "a tone", "quieter"])
def test_a_jump_of_level_or_a_knock_is_judged_within_a_second_of_the_trigger(kind, at):
    sound = noise(100)
    start = round(at * RATE)
    if kind == "louder":
        sound[start:] *= 2
    elif kind == "quieter":
        sound[start:] *= 0.4
    elif kind == "a tone":
        sound[start:] += 0.05 * np.sin(np.arange(len(sound) - start) * 2 * np.pi * 700 / RATE)
    else:
        sound[start : start + 40] += noise(0.01, 9, 0.6)
    found = heard(sound.astype(np.float32))
    first = next(window for window in found if window.end_monotonic > at + 0.05)
    # Half a second until it is measured, a second to the next place of the grid.
    assert first.end_monotonic <= at + 0.5 + 1.0
    after = [end for end in ends(found) if first.end_monotonic <= end < first.end_monotonic + 9]
    assert np.allclose(np.diff(after), 1.0)


def test_only_the_window_that_sound_called_for_before_its_time_is_marked():
    sound = noise(100)
    sound[61 * RATE + 100 :] *= 2
    called = [window.end_monotonic for window in heard(sound) if window.called]
    assert called == [62.0]


def test_a_machine_that_knocks_all_the_time_is_calm():
    sound = noise(300)
    for at in np.arange(3.0, 300.0, 3.7):
        sound[round(at * RATE) :][:40] += noise(0.01, 9, 0.6)
    late = [end for end in ends(heard(sound)) if end > 60]
    assert len(late) < 0.35 * 240


def test_steady_sound_of_a_real_machine_is_calm(shared):
    places = sorted((shared / "data" / "motors" / "class0").glob("*.flac"))[:20]
    clips = [soundfile.read(place, dtype="float32")[0] for place in places]
    rate = soundfile.info(places[0]).samplerate
    trigger, calls = LevelTrigger(rate), 0
    for clip in clips:  # one after the other: each joint is a jump of its own
        for start in range(0, len(clip), rate // 4):
            block = AudioBlock(clip[start : start + rate // 4], rate, 0.0, 0.0)
            calls += trigger.hear(block)
    assert calls <= 2 * len(clips)


@pytest.mark.parametrize(
    ("scores", "close"),
    [
        ([1.0, 1.2, 1.1, 1.3], False),
        ([1.0, 1.2, 1.9, 1.3], True),  # half-way to the alert's threshold
        ([1.0, 1.0, 1.74, 1.0], False),
        ([0.2, 0.2, 1.7, 1.0], True),  # at this pace the next would exceed
        ([1.0, 1.0, None, 1.0], True),  # the microphone
    ],
)
def test_scores_and_their_trend_bring_windows_close(scores, close):
    told = iter(scores)
    found = heard(noise(100), lambda window: 1.0 if window.end_monotonic < 40 else next(told, 1.0))
    late = [end for end in ends(found) if end >= 40]
    assert (1.0 in np.diff(late)) is close


def test_a_restless_machine_is_heard_closely_for_what_is_high_for_it_alone():
    # Each third score is far up on the way to the threshold, as the machine has always been.
    random = np.random.default_rng(3)
    usual = lambda window: 2.2 if window.index % 3 == 1 or random.uniform() < 0.05 else 1.0  # noqa: E731
    late = [end for end in ends(heard(noise(500), usual)) if end > 200]
    assert len(late) < 0.35 * 300
    found = ends(heard(noise(500), lambda w: 2.45 if 400 <= w.end_monotonic < 405 else usual(w)))
    high = next(end for end in found if end >= 400)
    assert np.allclose(np.diff([end for end in found if high <= end <= high + 9]), 1.0)


def test_a_standing_alarm_is_followed_closely_and_an_idle_machine_is_not():
    pace = HopPace(RATE, SECONDS * RATE, RATE, 5)
    window = Window(noise(10), RATE, 0, 100.0, 0.0, position=110 * RATE)
    for _ in blocks(noise(120)):
        pace.hear(_)
    pace.take(decision(window, 1.0, state=MachineState.IDLE))
    assert pace.calm
    pace.take(decision(window, 1.0, level=Level.ALARM))
    assert not pace.calm


def test_a_gap_begins_anew_and_the_first_window_after_it_is_judged():
    sound = list(blocks(noise(100)))
    sound[280] = replace(sound[280], gap_before=True)
    pace = HopPace(RATE, SECONDS * RATE, RATE, 5)
    rolling, found = RollingWindow(SECONDS * RATE, RATE, RATE, pace.due), []
    for block in sound:
        pace.hear(block)
        for window in rolling.push(block):
            found.append(window)
            pace.take(decision(window))
    after = [end for end in ends(found) if end > 70]
    assert after[0] == 80.0
    assert [window.index for window in found] == list(range(len(found)))


def test_in_lockstep_the_sound_waits_for_what_was_decided():
    pace = HopPace(RATE, SECONDS * RATE, RATE, 5, lockstep=True)
    assert pace.due(10 * RATE) is Due.YES
    window = Window(noise(10), RATE, 0, 0.0, 0.0)
    late = threading.Timer(0.2, lambda: pace.take(decision(window, level=Level.ALARM)))
    late.start()
    pace.settle()
    assert not late.is_alive() or late.finished.is_set()
    assert not pace.calm
    pace.due(40 * RATE)
    pace.close()
    pace.settle()  # nobody decides any more


def test_lost_and_broken_samples_call_for_nothing_by_themselves():
    trigger = LevelTrigger(RATE)
    for block in blocks(noise(60)):
        assert not trigger.hear(block)
    bad = noise(0.25)
    bad[3] = np.nan
    trigger.hear(AudioBlock(bad, RATE, 0.0, 0.0, gap_before=True))
    quiet = [trigger.hear(block) for block in blocks(noise(60, 5))]
    assert sum(quiet) <= 1
