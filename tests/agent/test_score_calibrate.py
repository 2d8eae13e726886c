"""Promised against realised false-alarm rates, and what happens with little data."""

from __future__ import annotations

import numpy as np
import pytest

from agent.calibrate.limits import calibrate
from agent.calibrate.tail import fit_tail, upper_quantile
from agent.config.threshold import ThresholdRule
from agent.core.errors import AuscultError


def rate_of(rate, **changes):
    return ThresholdRule(false_alarm_rate=rate, **changes)


@pytest.mark.parametrize("draw", ["gamma", "normal", "exponential"])
@pytest.mark.parametrize(("n", "rate"), [(2000, 0.01), (2000, 0.001), (300, 0.01), (60, 0.01)])
def test_the_realised_rate_is_near_the_promised_one(draw, n, rate):
    """Over 60 trials; new scores from the same law; the mean realised rate within a factor."""
    rng = np.random.default_rng(7)
    laws = {
        "gamma": lambda size: rng.gamma(4.0, 1.0, size),
        "normal": lambda size: rng.normal(size=size),
        "exponential": lambda size: rng.exponential(size=size),
    }
    realised = []
    for _ in range(60):
        value, _ = upper_quantile(laws[draw](n), rate)
        realised.append(np.mean(laws[draw](100_000) > value))
    factor = 2.0 if n * rate >= 5 else 3.0
    assert rate / factor < np.mean(realised) < rate * factor


def test_fit_tail_recovers_a_generalized_pareto():
    rng = np.random.default_rng(0)
    shape, scale = 0.2, 1.5
    u = rng.uniform(size=20_000)
    excess = scale / shape * (u**-shape - 1)
    fitted_scale, fitted_shape = fit_tail(excess)
    assert fitted_shape == pytest.approx(shape, abs=0.04)
    assert fitted_scale == pytest.approx(scale, rel=0.05)


def test_a_rate_beyond_the_recordings_carries_a_caveat():
    scores = np.float32(np.random.default_rng(0).normal(size=40))
    groups = [str(i // 2) for i in range(40)]
    threshold = calibrate(scores, groups, rate_of(0.001))
    assert threshold.healthy_recordings == 20
    assert "extrapolated" in threshold.caveat
    assert threshold.value > scores.max()
    assert calibrate(scores, groups, rate_of(0.1)).caveat == ""


def test_a_lower_rate_never_gives_a_lower_threshold():
    for seed in range(20):
        values = np.random.default_rng(seed).gamma(2.0, size=150).astype(np.float32)
        groups = [str(i) for i in range(150)]
        rates = (0.2, 0.05, 0.02, 0.005, 0.001)
        found = [calibrate(values, groups, rate_of(rate)).value for rate in rates]
        assert found == sorted(found)


def test_ties_and_constants_do_not_break_it():
    value, _ = upper_quantile(np.zeros(30), 0.01)
    assert value == pytest.approx(0, abs=1e-3)


def test_one_recording_is_refused_with_a_remedy():
    with pytest.raises(AuscultError, match="at least two healthy recordings"):
        calibrate(np.float32([1, 2, np.nan]), ["a", "a", "b"], rate_of(0.01))


def test_clip_threshold_follows_the_way_clips_are_scored():
    rng = np.random.default_rng(1)
    scores = rng.normal(size=400).astype(np.float32)
    groups = [str(i // 4) for i in range(400)]
    mean, most = (calibrate(scores, groups, rate_of(0.1), clip=c) for c in ("mean", "max"))
    assert mean.clip_value < mean.value < most.clip_value


def test_the_rate_is_promised_in_every_domain():
    rng = np.random.default_rng(2)
    source, target = rng.normal(0, 1, 900), rng.normal(3, 1, 60)
    scores = np.float32(np.concatenate([source, target]))
    groups = [str(i) for i in range(960)]
    domains = ["source"] * 900 + ["target"] * 60
    pooled = calibrate(scores, groups, rate_of(0.05)).value
    per_domain = calibrate(scores, groups, rate_of(0.05), domains=domains)
    fresh = rng.normal(3, 1, 10_000)
    assert np.mean(fresh > pooled) > 0.3
    assert np.mean(fresh > per_domain.value) < 0.1
    assert "domains" in per_domain.method
