"""Scorers that were fitted are taken up for the same windows, and for nothing else."""

from __future__ import annotations

import numpy as np
import pytest

import agent.calibrate.fit as fitting
import agent.calibrate.fit_cache as caching
from agent.bundle.manifest import Row
from agent.calibrate.fit_cache import FitCache
from agent.config.scorer import FusionConfig, Part
from agent.config.scorer_density import MahalanobisConfig
from agent.config.scorer_knn import KnnConfig
from agent.config.threshold import ThresholdRule
from agent.score.scorer import HealthySet

RULE = ThresholdRule(kind="gamma", false_alarm_rate=0.1)
FUSION = FusionConfig(
    parts=(
        Part(columns=(0, 8), scorer=KnnConfig(normalization="ldn_ratio")),
        Part(columns=(8, 16), scorer=MahalanobisConfig()),
    )
)


def healthy(seed=0, domain="source"):
    vectors = np.random.default_rng(seed).normal(size=(60, 16)).astype(np.float32)
    rows = [
        Row(source=f"{i // 3}.wav", start=float(i % 3), group=f"{i // 3}.wav", domain=domain)
        for i in range(60)
    ]
    return HealthySet(vectors, rows)


@pytest.fixture
def fitted(tmp_path, monkeypatch):
    """Fits with a cache, and how often something was fitted."""
    count = []
    real = fitting.trusted
    monkeypatch.setattr(fitting, "trusted", lambda *how: (count.append(1), real(*how))[1])

    def fit(windows, config, cached=True, **how):
        cache = FitCache(tmp_path / "cache" / "f.sqlite", limit=10**8) if cached else None
        return fitting.fit_scorer(windows, config, RULE, window_seconds=10.0, fits=cache, **how)

    return fit, count


def same(one, other):
    assert (one.config, one.threshold, one.notes) == (other.config, other.threshold, other.notes)
    np.testing.assert_array_equal(one.healthy_scores, other.healthy_scores)
    assert list(one.state) == list(other.state)
    for name, array in one.state.items():
        assert array.dtype == other.state[name].dtype
        np.testing.assert_array_equal(array, other.state[name])


@pytest.mark.parametrize("config", [KnnConfig(), FUSION])
def test_the_second_time_it_is_taken_up_to_the_same_bits(fitted, config):
    fit, count = fitted
    plain = fit(healthy(), config, cached=False)
    count.clear()
    same(fit(healthy(), config), plain)
    same(fit(healthy(), config), plain)
    assert len(count) == 1


def test_other_windows_or_another_scorer_are_another_fit(fitted, monkeypatch):
    fit, count = fitted
    fit(healthy(), FUSION)
    touched = healthy()
    touched.vectors[5, 3] = np.nextafter(touched.vectors[5, 3], np.float32(9))
    for windows, config in (
        (touched, FUSION),
        (healthy(domain="target"), FUSION),
        (healthy(), FUSION.model_copy(update={"combine": "max"})),
    ):
        before = len(count)
        same(fit(windows, config), fit(windows, config, cached=False))
        assert len(count) == before + 2
    before = len(count)
    monkeypatch.setattr(caching, "_code_digest", lambda: "of other code")
    fit(healthy(), FUSION)
    assert len(count) == before + 1


def test_what_calibrates_the_threshold_is_asked_every_time(fitted):
    fit, count = fitted
    fit(healthy(), FUSION)
    left = np.arange(60) < 12
    found = fit(healthy(), FUSION, uncounted=left)
    assert len(count) == 1
    assert np.isnan(found.healthy_scores[left]).all()
    same(found, fit(healthy(), FUSION, cached=False, uncounted=left))


def test_a_large_one_or_a_spoilt_one_is_fitted_anew(fitted, monkeypatch):
    fit, count = fitted
    plain = fit(healthy(), FUSION)
    monkeypatch.setattr(caching, "_read", lambda _: None)
    same(fit(healthy(), FUSION), plain)
    assert len(count) == 2
    monkeypatch.undo()
    assert caching._read(b"no archive") is None
