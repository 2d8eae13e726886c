"""Promises in days become shares of windows that keep them."""

from __future__ import annotations

import tracemalloc
from statistics import NormalDist

import numpy as np
import pytest

from agent.bundle.manifest import Row
from agent.calibrate.rate import Correlation, Counting, measure_correlation, window_rate
from agent.calibrate.rules import find_limit
from agent.config.threshold import ThresholdRule

DAY = 86_400.0


def counted(share, hop, rate, *, steps, streams=400, window=10.0, seconds=60.0, n=3, m=5, clear=10):
    """Alarms a window of simulated healthy machines, by the decider's rule written out anew."""
    from statistics import NormalDist

    rng = np.random.default_rng(3)
    limit = NormalDist().inv_cdf(1 - rate)
    width = max(1, round(window / hop))
    held = rng.standard_normal((streams, width))
    slow, keep = rng.standard_normal(streams), np.exp(-hop / seconds)
    alarms, recent = 0, [np.zeros(streams, bool)] * m
    active, quiet = np.zeros(streams, bool), np.zeros(streams, int)
    for step in range(steps):
        held[:, step % width] = rng.standard_normal(streams)
        slow = keep * slow + np.sqrt(1 - keep**2) * rng.standard_normal(streams)
        value = np.sqrt(share) * slow + np.sqrt((1 - share) / width) * held.sum(axis=1)
        loud = value > limit
        recent = [*recent[1:], loud & ~active]
        raised = ~active & (np.sum(recent, axis=0) >= n)
        alarms += int(raised.sum())
        quiet = np.where(active & ~loud, quiet + 1, 0)
        cleared = active & (quiet >= clear)
        active = (active | raised) & ~cleared
        recent = [past & ~(raised | cleared) for past in recent]
    return alarms / (steps * streams)


@pytest.mark.parametrize(("share", "hop"), [(0.0, 1.0), (0.5, 1.0), (0.3, 5.0), (0.0, 10.0)])
def test_the_share_of_windows_gives_the_rate_of_alarms_asked_for(share, hop):
    """Often enough to count: 100 alarms a day."""
    promised = 100.0 / DAY
    rate = window_rate(promised, Counting(hop, 10.0, 3, 5, 10), Correlation(share, 60.0))
    realised = counted(share, hop, rate, steps=4000) / hop
    assert promised / 2.0 < realised < promised * 1.5


def test_an_alarm_takes_n_windows_whatever_the_correlation():
    for share in (None, 0.0, 0.9):
        for hop in (0.5, 10.0):
            counting = Counting(hop, 10.0, 3, 5, 10)
            rate = window_rate(1 / (30 * DAY), counting, Correlation(share, 60.0))
            assert rate >= 0.99 * 3 * hop / (30 * DAY)


def test_stricter_promises_give_smaller_shares_and_unknown_correlation_the_smallest():
    counting, known = Counting(5.0, 10.0, 3, 5, 10), Correlation(0.3, 60.0)
    rates = [window_rate(1 / (days * DAY), counting, known) for days in (0.1, 1, 30, 365)]
    assert rates == sorted(rates, reverse=True)
    assert len(set(rates)) == 4
    assert window_rate(1 / DAY, counting, Correlation(None, 60.0)) < rates[1]


def scores_of(share, recordings, windows, seed=0):
    rng = np.random.default_rng(seed)
    common = rng.standard_normal((recordings, 1))
    own = rng.standard_normal((recordings, windows))
    values = np.sqrt(share) * common + np.sqrt(1 - share) * own
    rows = [
        Row(source=f"r{i}", start=10.0 * j, group=f"r{i}")
        for i in range(recordings)
        for j in range(windows)
    ]
    return np.exp(values).astype(np.float32).reshape(-1), rows


@pytest.mark.parametrize("share", [0.0, 0.5, 0.8])
def test_correlation_is_measured_within_recordings_by_rank(share):
    scores, rows = scores_of(share, 200, 6)
    found = measure_correlation(scores, rows, 10.0)
    assert found.share == pytest.approx(share, abs=0.1)
    assert found.seconds == 60.0


def test_a_recording_of_hours_is_measured_by_its_pairs_in_little_memory():
    rng = np.random.default_rng(2)
    rows = [Row(source=f"r{i}", start=0.7 * j, group="g") for i in range(6) for j in range(300)]
    shuffled = [rows[i] for i in rng.permutation(len(rows))]
    usual = np.array([float(row.source[1:]) for row in shuffled])
    scores = (usual + rng.normal(size=len(rows))).astype(np.float32)
    normal = np.empty(len(scores))
    normal[np.argsort(scores)] = [
        NormalDist().inv_cdf((rank + 0.5) / len(scores)) for rank in range(len(scores))
    ]
    products = [
        np.mean([
            normal[a] * normal[b]
            for a in mine for b in mine
            if shuffled[b].start - shuffled[a].start >= 10.0 - 1e-6
        ])
        for mine in ([i for i, row in enumerate(shuffled) if row.source == f"r{n}"] for n in range(6))
    ]  # fmt: skip
    expected = float(np.mean(products) / np.mean(np.square(normal)))
    assert 0.2 < expected < 0.95
    assert measure_correlation(scores, shuffled, 10.0).share == pytest.approx(expected, abs=1e-9)
    hours = [Row(source="one", start=float(j), group="one") for j in range(5000)]
    tracemalloc.start()
    measure_correlation(rng.normal(size=5000).astype(np.float32), hours, 10.0)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 20e6  # a table of all pairs takes 200 MB


def test_short_or_few_recordings_tell_no_correlation():
    scores, rows = scores_of(0.5, 100, 1)
    assert measure_correlation(scores, rows, 10.0).share is None
    scores, rows = scores_of(0.5, 4, 50)
    assert measure_correlation(scores, rows, 10.0).share is None


def test_at_most_is_kept_far_more_often_than_by_the_likeliest_threshold():
    from statistics import NormalDist

    rate, kept = 1e-4, {False: 0, True: 0}
    for seed in range(30):
        scores, rows = scores_of(0.5, 100, 6, seed)
        values, groups = np.log(scores).astype(float), [row.group for row in rows]
        for sure in kept:
            limit = find_limit(
                values, groups, [""] * len(rows), ThresholdRule(false_alarm_rate=rate, sure=sure)
            ).value
            kept[sure] += 1 - NormalDist().cdf(limit) <= rate
    assert kept[True] >= 0.75 * 30
    assert kept[False] <= 0.6 * 30


@pytest.mark.parametrize("hop", [1.0, 10.0])
@pytest.mark.parametrize("per_day", [1.0, 1 / 30])
def test_what_is_not_measured_allows_what_the_least_favourable_of_several_does(hop, per_day):
    counting = Counting(hop, 10.0, 3, 5, 10)
    alone = [
        window_rate(per_day / DAY, counting, Correlation(share, 120.0)) for share in (0, 0.3, 0.6)
    ]
    found = window_rate(per_day / DAY, counting, Correlation(None, 12.0))
    assert found == min(alone)
    assert len(set(alone)) > 1
