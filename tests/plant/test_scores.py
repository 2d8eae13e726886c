"""Scores are counted, added up and split without losing a window."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta, timezone

import pytest

from plant.watch.reading import Score
from plant.watch.scores import Scores, median, read_bins, written

NOON = datetime(2026, 11, 29, 12, tzinfo=timezone.utc)


def told(machine, second, value):
    return Score(device="dev", machine=machine, time=NOON + timedelta(seconds=second), score=value)


def windows(scores):
    found = Counter()
    for (_, machine, step, start), stretch in scores.stretches.items():
        found[machine, step, start] += stretch.windows
    return found


def test_what_is_split_is_the_whole():
    scores = Scores()
    for n in range(1000):
        scores.add(told(f"m{n % 70}", n * 7, n / 1000))
    parts = scores.split(8)

    assert len(parts) == 9
    assert max(len(one.latest) for one in parts) == 8
    again = Scores()
    for one in parts:
        again.merge(one)
    assert windows(again) == windows(scores)
    assert again.latest == scores.latest


@pytest.mark.parametrize("values", [[0.2], [0.1, 0.9], [-0.5, 0.0, 0.3], [1e9, 2.0, -1e9]])
def test_a_median_is_the_lower_middle_one_to_half_a_bin(values):
    scores = Scores()
    for n, value in enumerate(values):
        scores.add(told("m", n, value))
    (stretch, _) = scores.stretches.values()

    assert median(stretch.bins) == pytest.approx(sorted(values)[(len(values) - 1) // 2], abs=0.0051)
    assert read_bins(written(stretch.bins)) == stretch.bins
    assert stretch.maximum == max(values)


def test_no_window_has_no_median():
    assert median(Counter()) is None
