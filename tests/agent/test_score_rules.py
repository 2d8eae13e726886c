"""Threshold rules: against SciPy, against their promise, and kept by a grown bank."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import special, stats

from agent.bundle.manifest import Row
from agent.calibrate.conformal import PValues
from agent.calibrate.fit import fit_scorer
from agent.calibrate.gamma import digamma, fit_gamma, gamma_quantile, lower_share, trigamma
from agent.calibrate.limits import HealthyScores, calibrate, significance
from agent.calibrate.rules import find_limit
from agent.calibrate.tail import upper_quantile
from agent.config.recipe import ThresholdConfig
from agent.config.scorer_knn import KnnConfig
from agent.config.threshold import ThresholdRule
from agent.score.scorer import HealthySet


def limit_of(values, kind, rate, **changes):
    names = [str(i) for i in range(len(values))]
    rule = ThresholdRule(kind=kind, false_alarm_rate=rate, **changes)
    return find_limit(np.asarray(values, float), names, [""] * len(values), rule)


@pytest.mark.parametrize(("shape", "scale"), [(0.3, 5.0), (2.0, 0.01), (80.0, 3.0)])
def test_the_gamma_fit_is_scipys(shape, scale):
    values = np.random.default_rng(0).gamma(shape, scale, 400)
    wanted_shape, _, wanted_scale = stats.gamma.fit(values, floc=0)
    found_shape, found_scale = fit_gamma(values)
    assert found_shape == pytest.approx(wanted_shape, rel=1e-5)
    assert found_scale == pytest.approx(wanted_scale, rel=1e-5)
    for rate in (0.1, 0.01, 1e-4):
        wanted = stats.gamma.ppf(1 - rate, found_shape, scale=found_scale)
        assert gamma_quantile(1 - rate, found_shape, found_scale) == pytest.approx(wanted, rel=1e-9)
        found = limit_of(values, "gamma", rate)
        assert found.value == pytest.approx(wanted, rel=1e-6)


def test_the_gamma_law_of_scores_that_hardly_differ():
    """Wilson and Hilferty's form takes over where the series would not end."""
    values = 1.0 + 1e-4 * np.random.default_rng(1).standard_normal(300)
    shape, scale = fit_gamma(values)
    assert shape > 1e7
    wanted = stats.gamma.ppf(0.9, shape, scale=scale)
    assert gamma_quantile(0.9, shape, scale) == pytest.approx(wanted, rel=1e-7)
    assert limit_of(np.ones(30), "gamma", 0.1).value == pytest.approx(1.0, rel=1e-3)


def test_special_functions_are_scipys():
    for x in (0.01, 0.7, 3.0, 25.0, 4000.0):
        assert digamma(x) == pytest.approx(special.digamma(x), rel=1e-10)
        assert trigamma(x) == pytest.approx(special.polygamma(1, x), rel=1e-10)
        for a in (0.05, 1.0, 12.0, 900.0):
            assert lower_share(x, a) == pytest.approx(special.gammainc(a, x), abs=1e-10)


def test_scores_that_no_gamma_law_has_are_told_of():
    values = np.random.default_rng(2).normal(size=300)
    found = limit_of(values, "gamma", 0.1)
    assert "positive" in found.caveat
    assert found.value == limit_of(values, "tail", 0.1).value
    assert "positive" not in limit_of(values + 10, "gamma", 0.1).caveat


def test_mean_and_sigmas():
    values = np.random.default_rng(3).normal(5, 2, 4000)
    found = limit_of(values, "mean_sigma", 0.01)
    assert found.value == pytest.approx(values.mean() + stats.norm.isf(0.01) * values.std(ddof=1))
    three = limit_of(values, "mean_sigma", 0.01, sigmas=3.0)
    assert three.value == pytest.approx(values.mean() + 3 * values.std(ddof=1))
    assert three.rate == pytest.approx(stats.norm.sf(3))


def test_the_tail_reads_the_quantile_of_scipys_generalized_pareto():
    """Fitted to the same excesses by scipy's maximum likelihood, the two laws nearly agree."""
    values = stats.genpareto.rvs(0.15, size=3000, random_state=4)
    found, how = upper_quantile(values, 1e-3)
    assert "Pareto" in how
    start = np.quantile(values, 0.9)
    shape, _, scale = stats.genpareto.fit(values[values > start] - start, floc=0)
    wanted = start + stats.genpareto.ppf(1 - 1e-3 / 0.1, shape, scale=scale)
    assert found == pytest.approx(wanted, rel=0.1)


@pytest.mark.parametrize("windows", [1, 5])
def test_conformal_p_values_are_valid(windows):
    """Over 4000 machines: P(p <= rate) is at most the rate, and near it where it can be.

    Windows of one recording share most of their score, so that counting windows alone would not be
    valid; and recordings have one to `windows` of them.
    """
    rng = np.random.default_rng(5)
    recordings, trials = 19, 4000
    found = np.empty(trials)
    for trial in range(trials):
        counts = rng.integers(1, windows + 1, recordings + 1)
        groups = np.repeat(np.arange(recordings + 1), counts)
        scores = rng.standard_exponential(recordings + 1)[groups]
        scores += 0.3 * rng.standard_normal(len(groups))
        healthy = groups < recordings
        p = PValues.of(scores[healthy], groups[healthy], np.zeros(healthy.sum(), np.int64))
        found[trial] = p(rng.choice(scores[~healthy]))
    for rate in (0.05, 0.1, 0.3):
        share = float(np.mean(found <= rate + 1e-12))
        assert share <= rate + 3 * np.sqrt(rate / trials)
        if windows == 1:
            assert share >= rate - 3 * np.sqrt(rate / trials)
    assert found.min() >= 1 / (recordings + 1)


def test_the_conformal_threshold_is_where_the_p_value_is_the_rate():
    rng = np.random.default_rng(6)
    groups = np.repeat(np.arange(60), 4)
    scores = np.round(rng.gamma(3.0, size=240), 1)  # with ties
    p = PValues.of(scores, groups, np.zeros(240, np.int64))
    for rate in (0.02, 0.05, 0.3):
        limit = p.limit(rate)
        assert p(np.nextafter(limit, np.inf)) <= rate
        lower = scores[scores < limit].max()
        assert p(np.nextafter(lower, np.inf)) > rate
    assert p.floor == pytest.approx(1 / 61)
    assert p(1e9) == pytest.approx(1 / 61)
    assert p(-1e9) == 1.0


def test_a_rate_below_the_floor_is_not_promised():
    values = np.random.default_rng(7).gamma(2.0, size=10)
    found = limit_of(values, "conformal", 0.01)
    assert found.value == values.max()
    assert found.rate == pytest.approx(1 / 11)
    assert "0.0909" in found.caveat
    assert limit_of(values, "conformal", 0.2).caveat == ""


def test_domains_each_or_pooled():
    rng = np.random.default_rng(8)
    values = np.concatenate([rng.normal(0, 1, 500), rng.normal(5, 1, 20)])
    names, domains = [str(i) for i in range(520)], ["source"] * 500 + ["target"] * 20
    for kind in ("tail", "mean_sigma", "conformal"):
        each, pooled = (
            find_limit(values, names, domains, ThresholdRule(
                kind=kind, false_alarm_rate=0.1, domains=how)).value
            for how in ("each", "pooled")
        )  # fmt: skip
        assert each > 5.5 > pooled
    p = PValues.of(values, np.arange(520), np.array([0] * 500 + [1] * 20))
    # Strange for the source, ordinary for the target: the machine may run in either.
    assert p(5.0) > 0.2


@pytest.mark.parametrize("kind", ["tail", "gamma", "mean_sigma", "conformal"])
def test_a_grown_bank_keeps_the_rule(kind):
    """What the threshold remembers is enough to find it anew with numpy alone."""
    rng = np.random.default_rng(9)
    vectors = rng.standard_normal((40, 8)).astype(np.float32)
    rows = [Row(source=f"{i}.wav", start=0.0, group=f"{i}.wav") for i in range(40)]
    rule = ThresholdRule(kind=kind, false_alarm_rate=0.1)
    config = KnnConfig(normalization="none")
    first = fit_scorer(HealthySet(vectors, rows), config, rule, window_seconds=10.0)
    again = fit_scorer(HealthySet(vectors, rows), config, first.threshold.rule, window_seconds=10.0)
    assert again.threshold == first.threshold
    assert first.threshold.rule.kind == kind
    healthy = HealthyScores(first.healthy_scores, rows)
    found = significance(healthy, first.threshold.rule, "mean")
    assert (found is not None) == (kind == "conformal")
    if found is not None:
        strange = np.nextafter(np.float64(first.threshold.value), np.inf)
        assert found.windows(strange) <= 0.1 < found.windows(np.median(first.healthy_scores))


def test_uncounted_windows_have_no_part():
    scores = np.float32([1, 2, 3, np.nan, 4])
    rule = ThresholdRule(kind="conformal", false_alarm_rate=0.2)
    assert calibrate(scores, list("abcde"), rule).healthy_recordings == 4


def test_a_promise_in_days_takes_a_tail():
    with pytest.raises(ValidationError, match="rule: tail"):
        ThresholdConfig(rule="conformal", false_alarms={"at_most": 1, "per_days": 30})
    with pytest.raises(ValidationError, match="mean_sigma"):
        ThresholdConfig(rule="gamma", sigmas=3)
