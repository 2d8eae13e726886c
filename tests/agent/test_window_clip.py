"""Cutting a whole recording: nothing of it is left out, nothing is made up."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.window.clip import clip_windows


@given(length=st.integers(1, 400), window=st.integers(1, 100), hop=st.integers(1, 100))
def test_windows_cover_the_recording(length, window, hop):
    hop = min(hop, window)
    samples = np.arange(length, dtype=np.float32)
    cut = clip_windows(samples, window_samples=window, hop_samples=hop)
    assert all(piece.shape == (window,) and piece.dtype == np.float32 for _, piece in cut)
    assert set(np.concatenate([piece for _, piece in cut])) == set(samples)
    starts = [start for start, _ in cut]
    assert starts == sorted(set(starts))
    assert all(start % hop == 0 for start in starts[:-1])
    for start, piece in cut:
        np.testing.assert_array_equal(piece, (start + np.arange(window)) % length)


def test_a_twelve_second_clip_gives_its_start_and_its_end():
    cut = clip_windows(np.zeros(12, np.float32), window_samples=10, hop_samples=5)
    assert [start for start, _ in cut] == [0, 2]


def test_an_exact_fit_has_no_extra_window():
    cut = clip_windows(np.zeros(15, np.float32), window_samples=10, hop_samples=5)
    assert [start for start, _ in cut] == [0, 5]


def test_nothing_from_nothing():
    assert clip_windows(np.zeros(0, np.float32), window_samples=10, hop_samples=5) == []


@pytest.mark.parametrize(("shape", "window", "hop"), [((4,), 0, 1), ((4,), 1, 0), ((4, 2), 2, 1)])
def test_misuse_is_refused(shape, window, hop):
    with pytest.raises(ValueError, match="must be"):
        clip_windows(np.zeros(shape, np.float32), window_samples=window, hop_samples=hop)
