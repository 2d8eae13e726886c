"""Sounds from elsewhere: what passes does not raise, what is to be ignored is held back."""

from __future__ import annotations

import numpy as np
import pytest

from agent.config.agent import MachineConfig
from agent.config.decide import DecideConfig
from agent.core.foreign import ForeignKind, ForeignSound
from agent.core.records import Level, Score, Validity, Window
from agent.decide.alarm import AlarmDecider
from agent.explain.spectrum import measure_healthy
from agent.foreign.spectrum import SpectrumEar
from agent.machine.circumstances import Surroundings

RATE = 16000
WINDOW = 10.0
NOTHING = np.zeros(int(WINDOW * RATE), np.float32)


def machine(seed, seconds=10.0):
    random = np.random.default_rng(seed)
    n = int(seconds * RATE)
    hum = 0.03 * np.sin(2 * np.pi * 100 * np.arange(n) / RATE)
    return (0.02 * random.standard_normal(n) + hum).astype(np.float32)


@pytest.fixture(scope="module")
def ear():
    windows = [machine(seed) for seed in range(8)]
    return SpectrumEar(measure_healthy(windows, RATE), windows[:4])


def burst(sound, at, seconds, level=0.1):
    found = sound.copy()
    first, last = int(at * RATE), int((at + seconds) * RATE)
    random = np.random.default_rng(99)
    found[first:last] += level * random.standard_normal(last - first).astype(np.float32)
    return found


def test_a_healthy_window_does_not_vary(ear):
    assert not any(ear.variation(machine(seed)).varies for seed in range(100, 110))


@pytest.mark.parametrize(("at", "seconds"), [(0, 6), (3, 3), (5, 5), (1, 7)])
def test_what_fills_a_part_of_a_window_varies(ear, at, seconds):
    found = ear.variation(burst(machine(50), at, seconds))
    assert found.varies
    assert found.share > 0.8


@pytest.mark.parametrize("level", [0.02, 0.05, 0.2])
def test_a_steady_strange_sound_does_not_vary(ear, level):
    assert not ear.variation(burst(machine(51), 0, 10, level)).varies


def test_a_fault_that_knocks_all_the_time_does_not_vary(ear):
    sound = machine(52)
    for at in np.arange(0, 10, 0.33):
        sound = burst(sound, at, 0.03, 0.5)
    assert not ear.variation(sound[: int(WINDOW * RATE)]).varies


def test_a_level_that_rises_and_falls_passes(ear):
    t = np.arange(int(WINDOW * RATE)) / RATE
    random = np.random.default_rng(3)
    truck = 0.3 * random.standard_normal(len(t)) / (1 + ((t - 5) / 1.5) ** 2)
    sound = (machine(53) + truck).astype(np.float32)
    (found,) = ear.hear(sound, ear.variation(sound))
    assert found.kind is ForeignKind.PASSING
    assert found.by == "spectrum"


def test_two_blows_are_told_as_blows(ear):
    sound = burst(burst(machine(54), 2.0, 0.08, 1.5), 7.0, 0.08, 1.5)
    found = ear.hear(sound, ear.variation(sound))
    assert not found or found[0].kind is ForeignKind.IMPULSES


def hear(decider, values, start=0, **facts):
    """Windows of 10 s at a hop of 1 s; a value is a score, or `(score, facts of it)`."""
    level = Level.NORMAL
    for number, value in enumerate(values, start):
        window = Window(NOTHING, RATE, number, number, number, Validity.VALID)
        level = decider.decide(Score(window, value, **facts)).level
        if level is Level.ALARM:
            return number
    return None


def decider(**changes):
    config = DecideConfig(raise_seconds=20, of_seconds=30, alert=None, passing_seconds=60.0)
    return AlarmDecider(config, 1.0, hop_seconds=1.0, **changes)


def test_twenty_steady_seconds_raise():
    assert hear(decider(), [0.0] * 20 + [2.0] * 25) == 39


def test_what_varies_takes_longer():
    assert hear(decider(), [2.0] * 50, varies=True) is None
    assert hear(decider(), [2.0] * 70, varies=True) == 59


def test_a_fault_that_begins_within_a_window_is_as_early_as_ever():
    alarm = decider()
    assert hear(alarm, [0.0] * 20) is None
    assert hear(alarm, [2.0] * 9, 20, varies=True) is None
    assert hear(alarm, [2.0] * 25, 29) == 39


def test_a_sound_of_twelve_seconds_counts_as_twelve_seconds():
    alarm = decider()
    assert hear(alarm, [0.0] * 20) is None
    assert hear(alarm, [2.0] * 9, 20, varies=True) is None
    assert hear(alarm, [2.0] * 3, 29) is None
    assert hear(alarm, [2.0] * 9, 32, varies=True) is None
    assert hear(alarm, [0.0] * 9, 41) is None


def test_without_the_rule_it_counts_like_any_other():
    config = DecideConfig(raise_seconds=20, alert=None, passing_seconds=None)
    assert hear(AlarmDecider(config, 1.0), [2.0] * 25, varies=True) == 19
    config = DecideConfig(alert=None, raise_windows=3, of_windows=5)
    assert hear(AlarmDecider(config, 1.0), [2.0] * 5, varies=True) == 2


def test_by_default_half_a_minute_of_anything_passes_and_what_stays_raises():
    """Radio, rain: recognised or not, it is in windows for 38 s."""
    usual = AlarmDecider(DecideConfig(), 1.0)
    assert hear(usual, ([0.0] * 30 + [5.0] * 38) * 4) is None
    usual = AlarmDecider(DecideConfig(), 1.0)
    assert hear(usual, [0.0] * 100 + [1.5] * 60) == 144


def test_by_default_what_comes_and_goes_for_most_of_the_time_raises():
    """A loose cover, a bearing that knocks: nothing of it is held back."""
    usual = AlarmDecider(DecideConfig(), 1.0)
    assert hear(usual, [0.0] * 60 + ([1.5] * 8 + [0.5] * 2) * 10, varies=True) is not None


def test_what_is_to_be_ignored_counts_neither_way():
    speech = (ForeignSound(ForeignKind.SPEECH, 0.4, "speech model"),)
    alarm = decider(ignore=[ForeignKind.SPEECH])
    assert hear(alarm, [2.0] * 9) is None
    assert hear(alarm, [2.0] * 100, 9, foreign=speech) is None
    # The first window after it is new whole: 9 + 10 s, and one more.
    assert hear(alarm, [2.0] * 5, 109) == 110, "what came before still counts"
    other = (ForeignSound(ForeignKind.MUSIC, 0.4, "tagger"),)
    assert hear(decider(ignore=[ForeignKind.SPEECH]), [2.0] * 25, foreign=other) == 19


def test_a_radio_that_is_recognised_where_it_begins_is_held_back_while_it_goes_on():
    speech = (ForeignSound(ForeignKind.SPEECH, 0.4, "spectrum"),)
    alarm = decider(ignore=[ForeignKind.SPEECH])
    assert hear(alarm, [0.0] * 20) is None
    assert hear(alarm, [2.0] * 3, 20) is None  # too little of it in them to be recognised
    assert hear(alarm, [2.0] * 6, 23, foreign=speech) is None
    assert hear(alarm, [2.0] * 24, 29) is None
    assert hear(alarm, [0.0] * 12, 53) is None
    assert hear(alarm, [2.0] * 25, 65) == 84, "what comes after it counts"


def test_a_fault_that_begins_with_a_sentence_is_told_a_little_later():
    speech = (ForeignSound(ForeignKind.SPEECH, 0.4, "spectrum"),)
    alarm = decider(ignore=[ForeignKind.SPEECH])
    assert hear(alarm, [0.0] * 20) is None
    assert hear(alarm, [2.0] * 6, 20, foreign=speech) is None
    raised = hear(alarm, [2.0] * 90, 26)
    assert raised is not None
    assert raised <= 20 + 30 + 20


def test_a_sentence_over_a_standing_fault_holds_its_own_windows_alone():
    speech = (ForeignSound(ForeignKind.SPEECH, 0.4, "spectrum"),)
    alarm = decider(ignore=[ForeignKind.SPEECH])
    assert hear(alarm, [0.0] * 20 + [2.0] * 12) is None
    assert hear(alarm, [2.0] * 6, 32, foreign=speech) is None
    assert hear(alarm, [2.0] * 20, 38) == 39


def test_a_held_window_says_why():
    speech = (ForeignSound(ForeignKind.SPEECH, 0.4, "speech model"),)
    alarm = decider(ignore=[ForeignKind.SPEECH])
    window = Window(NOTHING, RATE, 0, 0, 0, Validity.VALID)
    decision = alarm.decide(Score(window, 2.0, foreign=speech))
    assert decision.held == "held back: speech"
    assert not decision.exceeded


def test_ignore_is_a_list_of_known_kinds():
    config = MachineConfig.model_validate({"name": "pump", "ignore": ["speech", "rain"]})
    assert config.ignore == (ForeignKind.SPEECH, ForeignKind.RAIN)
    with pytest.raises(ValueError, match="ignore"):
        MachineConfig.model_validate({"name": "pump", "ignore": ["aliens"]})


def test_an_alarm_names_what_was_heard_at_the_same_time():
    around = Surroundings()
    speech = (ForeignSound(ForeignKind.SPEECH, 0.4, "tagger"),)
    alarm = decider()
    for number, foreign in ((0, speech), (20, ()), (60, ())):
        window = Window(NOTHING, RATE, number, number, number, Validity.VALID)
        decision = alarm.decide(Score(window, 2.0, foreign=foreign))
        around.judged(decision, ())
        told = {one.kind: one.text for one in around.circumstances(decision, None)}
        assert ("speech" in told) == (number < 60)
        assert told.get("speech", "speech at the same time") == "speech at the same time"
