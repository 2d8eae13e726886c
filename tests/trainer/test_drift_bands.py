"""Band statistics."""

from __future__ import annotations

import numpy as np
import pytest

from agent.drift_fit.bands import band_statistics, plan_bands

RATE, LENGTH = 25600, 2560


def test_bands_tile_the_spectrum_without_gap() -> None:
    plan = plan_bands(RATE, LENGTH, 2)
    assert plan.edges[0] == 1
    assert plan.edges[-1] == LENGTH // 2 + 1
    assert list(plan.edges) == sorted(set(plan.edges))
    assert len(plan.names) == 2 * (len(plan.edges) - 1) * 3


def test_levels_of_all_bands_add_up_to_the_power() -> None:
    plan = plan_bands(RATE, LENGTH, 1)
    x = np.random.default_rng(0).standard_normal((LENGTH, 1))
    levels = band_statistics(x, plan)[0::3]
    assert (10 ** (levels / 10)).sum() == pytest.approx(x.var(), rel=1e-6)


def test_doubling_is_six_decibels_and_leaves_the_shape() -> None:
    plan = plan_bands(RATE, LENGTH, 2)
    x = np.random.default_rng(1).standard_normal((LENGTH, 2))
    change = band_statistics(2 * x, plan) - band_statistics(x, plan)
    np.testing.assert_allclose(change[0::3], 6.0206, atol=1e-3)
    np.testing.assert_allclose(change[1::3], 0, atol=1e-6)
    np.testing.assert_allclose(change[2::3], 0, atol=1e-6)


def test_impacts_raise_kurtosis_in_the_band_they_ring_in() -> None:
    plan = plan_bands(RATE, LENGTH, 1)
    noise = np.random.default_rng(2).standard_normal((LENGTH, 1))
    time = np.arange(120) / RATE
    ring = np.exp(-900 * time) * np.sin(2 * np.pi * 4500 * time)
    struck = noise.copy()
    for start in range(100, LENGTH - 120, 600):
        struck[start : start + 120, 0] += 15 * ring
    change = dict(
        zip(plan.names, band_statistics(struck, plan) - band_statistics(noise, plan), strict=True)
    )
    name = next(name for name in change if "3200-6400" in name and "kurtosis" in name)
    assert change[name] > 3


@pytest.mark.parametrize("fault", ["nan", "dead", "short"])
def test_what_cannot_be_judged_is_nan(fault: str) -> None:
    plan = plan_bands(RATE, LENGTH, 2)
    x = np.random.default_rng(3).standard_normal((LENGTH, 2))
    if fault == "nan":
        x[7, 1] = np.nan
    elif fault == "dead":
        x[:, 0] = 0.25
    else:
        x = x[:-1]
    assert np.isnan(band_statistics(x, plan)).all()


def test_too_short_a_snapshot_is_refused() -> None:
    with pytest.raises(ValueError, match="too short"):
        plan_bands(RATE, 20, 1)
