"""Exact intervals and tests without scipy, held against scipy."""

import numpy as np
import pytest
from scipy import signal, stats

from agent.learn.planted import plant
from agent.verdict.figures import DailyRate, DecisionFigures, Share
from agent.verdict.intervals import rate_interval, share_interval
from agent.verdict.verdict import judge


@pytest.mark.parametrize("total", [1, 2, 7, 100, 3000])
def test_a_share_has_scipys_interval(total):
    for hits in {0, 1, total // 3, total - 1, total}:
        low, high = share_interval(hits, total)

        assert low == pytest.approx(
            0.0 if hits == 0 else stats.beta.ppf(0.025, hits, total - hits + 1), abs=1e-10
        )
        assert high == pytest.approx(
            1.0 if hits == total else stats.beta.ppf(0.975, hits + 1, total - hits), abs=1e-10
        )


@pytest.mark.parametrize("count", [0, 1, 4, 60, 2500])
def test_a_rate_has_scipys_interval(count):
    low, high = rate_interval(count, 3.0)

    expected = 0.0 if count == 0 else stats.chi2.ppf(0.025, 2 * count) / 6
    assert low == pytest.approx(expected, rel=1e-9)
    assert high == pytest.approx(stats.chi2.ppf(0.975, 2 * count + 2) / 6, rel=1e-9)


@pytest.mark.parametrize(("found", "false"), [(4, 1), (5, 4), (6, 3), (9, 2), (11, 9)])
def test_chance_is_fishers(found, false):
    figures = {
        "all": DecisionFigures(Share.of(found, 12), Share.of(false, 15), DailyRate.of(0, 1.0))
    }

    by_chance = stats.fisher_exact([[found, 12 - found], [false, 15 - false]], "greater").pvalue
    told = any("may be chance" in reason for reason in judge(figures).reasons)

    assert told == (by_chance > 0.05)


def test_the_planted_band_is_butterworths():
    rate = 16000
    windows = np.zeros((1, rate), np.float32) + np.float32(0.01)
    planted, what = plant(windows, rate)
    band = planted[what.index(("a band of noise", 0.0))] - windows[0]

    hertz, power = signal.welch(band.astype(np.float64), rate, nperseg=1024)
    inside = power[(hertz > 2600) & (hertz < 3800)].mean()

    assert power[(hertz < 1200) | (hertz > 6500)].mean() < 0.02 * inside
