"""A promise that would make a bundle blind is told in so many words, and a laxer one is made."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from agent.bundle.facts import PlantedFault, SightInfo
from agent.bundle.manifest import Row
from agent.calibrate.fit import fit_scorer
from agent.calibrate.sight import sight_at
from agent.config.decide import DecideConfig, FalseAlarms
from agent.config.recipe import ThresholdConfig
from agent.config.scorer import KnnConfig
from agent.config.threshold import AlarmPromise, ThresholdRule
from agent.decide.thresholds import counting_of
from agent.learn.planted import LEVELS_DB, plant, recorded_scores
from agent.learn.promise import keep_promise
from agent.score.scorer import HealthySet

RATE = 16_000


@functools.cache
def fitted(wanted, recordings=24, seed=0):
    """A scorer of heavy-tailed healthy windows, with the threshold of a promise."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_t(4, (recordings, 8)).astype(np.float32) + 5
    rows = tuple(Row(source=f"r{i}", start=0.0, group=f"r{i}") for i in range(recordings))
    counting = counting_of(DecideConfig().amounts, 1.0, 10.0)
    promise = AlarmPromise(
        per_second=wanted.per_second,
        hop_seconds=counting.hop_seconds,
        raise_windows=counting.raise_windows,
        of_windows=counting.of_windows,
        clear_windows=counting.clear_windows,
    )
    rule = ThresholdRule(false_alarm_rate=0.01, promise=promise)
    healthy = HealthySet(vectors, rows)
    config = KnnConfig(metric="euclidean")
    return fit_scorer(healthy, config, rule, window_seconds=10.0), healthy, rule


def planted(*scores):
    return SightInfo(
        planted=tuple(
            PlantedFault(kind="a tone", level_db=level, score=score)
            for level, score in zip(LEVELS_DB, scores, strict=True)
        )
    )


def test_a_threshold_that_still_sees_keeps_the_promise_asked_for():
    wanted = FalseAlarms()
    scorer, healthy, rule = fitted(wanted)
    high = scorer.threshold.value
    kept, sight = keep_promise(
        scorer, healthy, rule, wanted, planted(0.0, 0.5 * high, 2 * high), 10.0
    )
    assert kept.threshold.value == high
    assert sight.kept == sight.wanted == wanted
    assert not any("BLIND" in note for note in kept.notes)
    seen = sight_at(high, sight)
    assert not seen.blind
    assert "a tone from +0 dB" in seen.text


def test_a_blind_threshold_gives_way_to_the_strictest_promise_that_sees():
    wanted = FalseAlarms()
    scorer, healthy, rule = fitted(wanted)
    high = scorer.threshold.value
    kept, sight = keep_promise(
        scorer, healthy, rule, wanted, planted(0.0, 0.5 * high, 0.9 * high), 10.0
    )
    assert kept.threshold.value < 0.9 * high
    assert sight.kept.per_second > wanted.per_second
    assert sight.wanted == wanted
    (note,) = [note for note in kept.notes if note.startswith("BLIND")]
    assert "30 days" in note
    assert "Record stretches" in note
    assert sight_at(high, sight).blind
    assert "not seen: a tone even as loud as the machine" in sight_at(high, sight).text
    # A grown bank is calibrated by the promise that is kept.
    assert kept.threshold.rule.promise.per_second == pytest.approx(sight.kept.per_second)


def test_recorded_faults_tell_the_cost_and_choose_nothing():
    wanted = FalseAlarms()
    scorer, healthy, rule = fitted(wanted)
    high = scorer.threshold.value
    sight = planted(0.0, 0.1 * high, 2 * high).model_copy(
        update={"recorded": (0.1 * high, 0.2 * high, 1.5 * high)}
    )
    kept, told = keep_promise(scorer, healthy, rule, wanted, sight, 10.0)
    assert kept.threshold.value == high
    assert "of 3 recorded faults 1 would raise an alarm" in sight_at(high, told).text


def test_every_promise_blind_is_said():
    scorer, healthy, rule = fitted(FalseAlarms())
    kept, _ = keep_promise(scorer, healthy, rule, FalseAlarms(), planted(-9.0, -9.0, -9.0), 10.0)
    assert any(note.startswith("BLIND at every promise") for note in kept.notes)


def test_planted_faults_have_the_levels_they_say():
    rng = np.random.default_rng(0)
    healthy = rng.normal(0, 0.05, (30, RATE)).astype(np.float32)
    windows, what = plant(healthy, RATE)
    assert len(windows) == len(what)
    assert {kind for kind, _ in what} == {"a tone", "a band of noise", "knocks"}
    for window, (_, level) in zip(windows, what, strict=True):
        extra = min(
            float(np.sqrt(np.mean((window - one) ** 2) / np.mean(one**2))) for one in healthy
        )
        assert 20 * np.log10(extra) == pytest.approx(level, abs=0.5)


def test_a_recording_raises_when_three_quarters_of_its_windows_exceed():
    scores = [1.0, 5.0, 5.0, 5.0, 1.0, 1.0, 5.0, 5.0]
    low, high = sorted(recorded_scores(scores, ["a"] * 4 + ["b"] * 4))
    assert (low, high) == (1.0, 5.0)


def test_a_promise_is_the_default_unless_a_share_of_windows_is_asked_for():
    assert ThresholdConfig().false_alarms == FalseAlarms(at_most=1, per_days=30)
    assert ThresholdConfig(false_alarm_rate=0.05).false_alarms is None
    assert ThresholdConfig(rule="gamma").false_alarms is None
    again = ThresholdConfig.model_validate(ThresholdConfig(false_alarm_rate=0.05).model_dump())
    assert again.false_alarms is None
    kept = ThresholdConfig.model_validate(ThresholdConfig().model_dump())
    assert kept.false_alarms == FalseAlarms()
