"""Fitting the drift baseline: components, running-in, wander, threshold."""

from __future__ import annotations

import numpy as np
import pytest
from support.drift import block_distance

from agent.drift.baseline import DriftError
from agent.drift.monitor import DriftMonitor
from agent.drift_fit.bands import plan_bands
from agent.drift_fit.fit import fit_baseline
from agent.drift_fit.mixture_fit import LEAST_DOF, fit_mixture
from agent.drift_fit.reduce import run_in, split
from agent.drift_fit.settings import DriftSettings, band_tolerance, embedding_tolerance
from agent.drift_fit.threshold import measure_wander

WIDE = 12


def stationary(count: int, seed: int, memory: float = 0.5) -> np.ndarray:
    """Autocorrelated features with three common causes."""
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(99).standard_normal((3, WIDE))
    hidden = np.zeros((count, 3))
    steps = rng.standard_normal((count, 3)) * np.sqrt(1 - memory**2)
    for row in range(1, count):
        hidden[row] = memory * hidden[row - 1] + steps[row]
    return hidden @ mix + 0.5 * rng.standard_normal((count, WIDE))


def fitted(features: np.ndarray, **settings):
    return fit_baseline(
        features,
        names=[f"f{i}" for i in range(features.shape[1])],
        unit="",
        source="test",
        tolerance=embedding_tolerance(features.shape[1]),
        settings=DriftSettings(**settings),
    )


def test_dirichlet_process_finds_the_components_that_are_there() -> None:
    rng = np.random.default_rng(0)
    places = np.array([[-8.0, 0.0], [8.0, 0.0], [0.0, 9.0]])
    which = rng.choice(3, size=600, p=[0.5, 0.3, 0.2])
    found = fit_mixture(places[which] + rng.standard_normal((600, 2)), max_components=8, seed=0)
    assert len(found.logits) == 3
    np.testing.assert_allclose(found.weights, [0.5, 0.3, 0.2], atol=0.05)
    np.testing.assert_allclose(found.means, places, atol=0.4)


def test_degrees_of_freedom_follow_the_tails() -> None:
    rng = np.random.default_rng(1)
    gaussian = fit_mixture(rng.standard_normal((1500, 2)), max_components=1, seed=0)
    heavy = fit_mixture(
        rng.standard_normal((1500, 2)) / np.sqrt(rng.chisquare(4, (1500, 1)) / 4),
        max_components=1,
        seed=0,
    )
    assert gaussian.dof > 25
    assert LEAST_DOF <= heavy.dof < 6
    np.testing.assert_allclose(heavy.scales, 1.0, atol=0.1)


def test_running_in_is_cut_and_settled_data_are_not() -> None:
    settled = stationary(100, 2)
    decay = 12 * np.exp(-np.arange(100) / 8)[:, None]
    assert 10 <= run_in(settled + decay) <= 50
    assert run_in(settled) <= 5


@pytest.mark.parametrize(("count", "block"), [(8, 4), (16, 4), (51, 6), (87, 10), (500, 16)])
def test_split_uses_every_window_once_and_holds_out_whole_blocks(count: int, block: int) -> None:
    model, threshold = split(count, block)
    rows = np.concatenate([np.arange(count)[piece] for piece in (*model, *threshold)])
    assert sorted(rows) == list(range(count))
    assert all(piece.stop - piece.start >= block for piece in threshold)
    assert sum(piece.stop - piece.start for piece in model) >= 0.4 * count


def test_wander_is_found_where_it_is_and_not_where_it_is_not() -> None:
    rng = np.random.default_rng(3)
    scale = np.ones(WIDE)
    noise = rng.standard_normal((800, WIDE))
    walk = np.cumsum(rng.standard_normal((800, WIDE)) * np.sqrt(0.1 / 16), axis=0)
    none = measure_wander(noise, scale, 16, seed=0)
    some = measure_wander(noise + walk, scale, 16, seed=0)
    assert none.variance < 0.01
    assert some.variance == pytest.approx(0.1, rel=0.6)
    draws = some.draw(np.full(4000, 5.0), np.full(WIDE, 100.0), np.random.default_rng(4))
    assert (draws**2).mean() == pytest.approx(5 * some.variance, rel=0.1)
    capped = some.draw(np.full(4000, 500.0), scale, np.random.default_rng(5))
    assert capped.std(axis=0).max() <= 1.1


def test_threshold_is_mean_plus_k_sigma_of_the_normal_mixtures() -> None:
    record = fitted(stationary(200, 4), sigmas=2.5, mixtures=150).baseline.record
    assert record.normal_mixtures == 150
    assert record.threshold == pytest.approx(record.normal_mean + 2.5 * record.normal_sd)


def test_fit_is_repeatable() -> None:
    one, two = (fitted(stationary(120, 5), seed=3).baseline for _ in range(2))
    assert one.digest == two.digest


@pytest.mark.parametrize("seed", range(4))
def test_long_stationary_sequence_is_quiet_and_a_fault_is_not(seed: int) -> None:
    x = stationary(1200, 10 + seed)
    monitor = DriftMonitor(fitted(x[:120]).baseline)
    readings = [reading for row in x[120:] if (reading := monitor.observe(row)) is not None]
    assert not any(reading.raised for reading in readings)
    faulty = stationary(100, 50 + seed)
    faulty[:, :4] += 6.0
    readings = [reading for row in faulty if (reading := monitor.observe(row)) is not None]
    assert any(reading.raised for reading in readings)


def test_short_baselines_are_refused_or_work() -> None:
    with pytest.raises(DriftError, match="16 are needed"):
        fitted(stationary(15, 6))
    monitor = DriftMonitor(fitted(stationary(23, 7)).baseline)
    assert any(monitor.observe(row) is not None for row in stationary(40, 8))
    holes = stationary(60, 9)
    holes[::2] = np.nan
    assert fitted(holes).baseline.record.model_windows < 30


def test_features_that_never_vary_do_no_harm() -> None:
    x = stationary(100, 11)
    x[:, 5] = 7.0
    monitor = DriftMonitor(fitted(x).baseline)
    later = stationary(200, 12)
    later[:, 5] = 7.0
    readings = [reading for row in later if (reading := monitor.observe(row)) is not None]
    assert not any(reading.raised for reading in readings)


def test_what_is_tolerated_widens_the_scales_and_health_stays_below_the_threshold():
    plan = plan_bands(12800, 1280, 2)
    kinds = np.tile([0.1, 0.3, 0.5], len(plan.names) // 3)  # levels that hardly vary
    narrow, wide = (
        fit_baseline(
            kinds * np.random.default_rng(0).standard_normal((80, len(kinds))),
            names=plan.names, unit="dB", source="made up", tolerance=band_tolerance(plan),
            settings=DriftSettings(scale_share=share),
        ).baseline
        for share in (0.0, 0.5)
    )  # fmt: skip
    assert (wide.mixture.log_scales > narrow.mixture.log_scales).all()
    assert (wide.mixture.means == narrow.mixture.means).all()
    assert wide.record.threshold < narrow.record.threshold
    healthy = kinds * np.random.default_rng(3).standard_normal((10, len(kinds)))
    louder = healthy + np.tile([2.0, 0.0, 0.0], len(plan.names) // 3)
    impulsive = healthy.copy()
    impulsive[:, 4] += 8.0  # kurtosis of one band, dB
    impulsive[:, 5] += 5.0  # its crest factor follows
    limit = wide.record.threshold
    assert block_distance(wide, healthy) < limit
    assert block_distance(wide, louder) < limit
    assert block_distance(wide, impulsive) > limit


def test_tolerance_without_a_unit_widens_nothing():
    features = np.random.default_rng(0).standard_normal((60, 12))
    fits = [
        fit_baseline(
            features, names=[str(i) for i in range(12)], unit="", source="made up",
            tolerance=embedding_tolerance(12), settings=DriftSettings(scale_share=share),
        )
        for share in (0.0, 0.5)
    ]  # fmt: skip
    assert fits[0].baseline.digest == fits[1].baseline.digest
