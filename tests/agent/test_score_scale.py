"""One scale: 0 the healthy median, 1.0 the threshold in force, whatever the bundle."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from agent.bundle.manifest import Row
from agent.calibrate.fit import fit_scorer
from agent.config.scorer_knn import KnnConfig
from agent.config.threshold import ThresholdRule
from agent.core.scale import LEAST_D, Zone, measure_spread, scale_of
from agent.score.scorer import HealthySet


@pytest.fixture
def healthy():
    return np.random.default_rng(0).gamma(4.0, 0.3, 2000).astype(np.float32)


def test_zero_is_the_median_and_one_the_threshold(healthy):
    for factor, shift in ((1.0, 0.0), (40.0, -7.0), (0.01, 3.0)):
        scores = factor * healthy + shift
        threshold = float(np.quantile(scores, 0.999))
        scale = scale_of(threshold, measure_spread(scores))
        assert scale.of(float(np.median(scores))) == pytest.approx(0.0, abs=1e-4)
        assert scale.of(threshold) == 1.0
        places = [scale.of(raw) for raw in np.sort(scores).tolist()]
        assert all(low <= high for low, high in pairwise(places))
        # Another axis changes nothing of what is seen.
        assert scale.of(float(scores[17])) == pytest.approx(
            scale_of(float(np.quantile(healthy, 0.999)), measure_spread(healthy)).of(
                float(healthy[17])
            ),
            rel=1e-3, abs=1e-4,
        )  # fmt: skip


def test_zones_begin_at_the_stated_quantiles_and_tail(healthy):
    threshold = float(np.quantile(healthy, 0.99))
    scale = scale_of(threshold, measure_spread(healthy))
    share = np.mean([scale.zone(float(raw)) is Zone.A for raw in healthy])
    assert share == pytest.approx(0.95, abs=0.002)
    assert scale.zone(threshold) is Zone.B
    assert scale.zone(np.nextafter(threshold, 9).item()) is Zone.C
    start = np.quantile(healthy, 0.9)
    tail = float((healthy[healthy > start] - start).mean())
    assert scale.severe == pytest.approx(
        max(threshold + tail * math.log(1000), threshold + 0.6 * (threshold - scale.median)),
        rel=1e-4,
    )
    assert scale.zone(scale.severe) is Zone.D
    # However short the healthy tail, D is not reached just above the threshold.
    steady = scale_of(1.0, measure_spread(np.linspace(0.0, 0.01, 100)))
    assert steady.of(steady.severe) == pytest.approx(LEAST_D)


@pytest.mark.parametrize(
    ("threshold", "scores"),
    [(-0.5, np.full(20, -0.5)), (0.0, np.zeros(5)), (0.1, np.linspace(1, 2, 50)), (3.0, None),
     (0.0, None), (-2.0, None), (1.0, np.full(9, np.nan))],
)  # fmt: skip
def test_whatever_the_threshold_it_is_one_and_scores_keep_their_order(threshold, scores):
    scale = scale_of(threshold, None if scores is None else measure_spread(scores))
    assert scale.of(threshold) == 1.0
    rising = [threshold + step for step in (-1.0, -1e-3, 0.0, 1e-3, 5.0)]
    told = [scale.of(raw) for raw in rising]
    assert told == sorted(told)
    assert len(set(told)) == len(told)
    assert all(math.isfinite(one) for one in told)
    assert [scale.zone(raw) for raw in rising[:3]].count(Zone.C) == 0
    assert scale.zone(rising[3]).rank >= Zone.C.rank


def test_a_grown_bank_moves_the_raw_axis_and_not_the_one_people_see():
    rng = np.random.default_rng(3)
    vectors = rng.standard_normal((240, 6)).astype(np.float32)
    rows = [Row(source=f"{n // 6}.wav", start=0.0, group=f"{n // 6}.wav") for n in range(240)]
    rule = ThresholdRule(false_alarm_rate=0.02)
    before = _fitted(vectors, rows, "none", rule)
    # What was accepted after an alarm lies apart, and the normalisation goes on another axis.
    more = np.concatenate([vectors, 3.0 + vectors[:60]])
    new = [*rows, *(Row(source=f"a{n}", start=0.0, group=f"a{n // 6}") for n in range(60))]
    after = _fitted(more, new, "varmin", rule)
    assert abs(before.threshold.value - after.threshold.value) > 0.5
    for fitted in (before, after):
        scale = scale_of(fitted.threshold.value, measure_spread(fitted.healthy_scores))
        assert scale.of(fitted.threshold.value) == 1.0
        assert scale.of(float(np.nanmedian(fitted.healthy_scores))) == pytest.approx(0, abs=1e-5)


def _fitted(vectors, rows, normalization, rule):
    config = KnnConfig(metric="euclidean", normalization=normalization)
    return fit_scorer(HealthySet(vectors, rows), config, rule, window_seconds=1.0)
