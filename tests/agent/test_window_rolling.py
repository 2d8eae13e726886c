"""Windows of a stream: the same whatever the blocks, never across lost sound."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.errors import AudioError
from agent.core.records import AudioBlock, Validity
from agent.window.rolling import Due, RollingWindow

RATE = 100


def noise(n, seed=0):
    return np.random.default_rng(seed).normal(0, 0.1, n).astype(np.float32)


def blocks_of(samples, sizes, *, start=50.0, gaps=()):
    at = 0
    for number, size in enumerate(sizes):
        yield AudioBlock(
            samples[at : at + size],
            RATE,
            start + at / RATE,
            1e9 + at / RATE,
            number in gaps,
            f"b{number}",
        )
        at += size


def windows_of(rolling, blocks):
    return [window for block in blocks for window in rolling.push(block)]


@settings(max_examples=150, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 300), max_size=25),
    window=st.integers(1, 120),
    hop=st.integers(1, 250),
)
def test_windows_are_the_slices_of_the_stream(sizes, window, hop):
    samples = noise(sum(sizes))
    got = windows_of(RollingWindow(window, hop, RATE), blocks_of(samples, sizes))
    starts = list(range(0, len(samples) - window + 1, hop))
    assert [w.index for w in got] == list(range(len(starts)))
    for start, w in zip(starts, got, strict=True):
        np.testing.assert_array_equal(w.samples, samples[start : start + window])
        assert w.monotonic == pytest.approx(50.0 + start / RATE)
        assert w.wall == pytest.approx(1e9 + start / RATE, abs=1e-4)
        ends = np.cumsum(sizes)
        assert w.origin == f"b{np.searchsorted(ends, start + window)}"


@settings(max_examples=100, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 200), min_size=1, max_size=20),
    gaps=st.sets(st.integers(0, 19)),
    window=st.integers(1, 120),
    hop=st.integers(1, 200),
)
def test_no_window_spans_a_gap_and_the_index_counts_on(sizes, gaps, window, hop):
    samples = noise(sum(sizes))
    got = windows_of(RollingWindow(window, hop, RATE), blocks_of(samples, sizes, gaps=gaps))
    # The reference: each unbroken stretch is a stream of its own.
    edges = [sum(sizes[:n]) for n in sorted(gaps) if n < len(sizes)]
    starts = []
    for begin, end in zip([0, *edges], [*edges, len(samples)], strict=True):
        starts += range(begin, end - window + 1, hop)
    assert [w.index for w in got] == list(range(len(starts)))
    for start, w in zip(starts, got, strict=True):
        np.testing.assert_array_equal(w.samples, samples[start : start + window])


def test_a_block_is_taken_in_even_when_its_windows_are_not_asked_for():
    rolling, samples = RollingWindow(100, 50, RATE), noise(300)
    first, second = blocks_of(samples, [150, 150])
    rolling.push(first)
    got = list(rolling.push(second))
    assert [w.index for w in got] == [2, 3, 4]
    np.testing.assert_array_equal(got[0].samples, samples[100:200])


def test_bad_samples_spoil_only_the_windows_that_hold_them():
    samples = noise(600)
    samples[130] = np.nan
    got = windows_of(RollingWindow(100, 100, RATE), blocks_of(samples, [90] * 6 + [60]))
    assert [w.validity for w in got] == [
        Validity.VALID, Validity.NOT_FINITE, *[Validity.VALID] * 4,
    ]  # fmt: skip
    assert "NaN" in got[1].reason


def test_a_dead_microphone_and_its_return_are_told():
    samples = noise(1000)
    samples[300:700] = 0.25
    got = windows_of(RollingWindow(100, 100, RATE), blocks_of(samples, [50] * 20))
    assert [w.validity is Validity.SILENT for w in got] == [3 <= n < 7 for n in range(10)]


def test_short_windows_are_not_too_short():
    (window,) = windows_of(RollingWindow(20, 20, RATE), blocks_of(noise(20), [20]))
    assert window.validity is Validity.VALID


def test_times_follow_the_newest_block_when_the_sound_card_drifts():
    """A card 1 % slow: after 100 s of its samples 101 s have passed."""
    rolling, got = RollingWindow(100, 100, RATE), []
    for n in range(100):
        got += rolling.push(AudioBlock(noise(100, n), RATE, n * 1.01, 1e9 + n * 1.01))
    assert got[99].monotonic == pytest.approx(99 * 1.01)


def test_another_rate_is_refused_and_leaves_nothing_behind():
    rolling = RollingWindow(100, 100, RATE)
    list(rolling.push(AudioBlock(noise(60), RATE, 0, 0)))
    with pytest.raises(AudioError, match="mic: gives sound at 48000 Hz where 100 Hz"):
        rolling.push(AudioBlock(noise(60), 48000, 0, 0, origin="mic"))
    after = noise(100, seed=9)
    (window,) = rolling.push(AudioBlock(after, RATE, 5, 5))
    np.testing.assert_array_equal(window.samples, after)


def test_memory_stays_bounded():
    rolling = RollingWindow(1000, 100, RATE)
    for n in range(3000):
        list(rolling.push(AudioBlock(noise(10, n), RATE, 0, 0)))
        assert sum(len(piece) for piece in rolling.pieces) <= 1000 + 10
        assert len(rolling.anchors) <= 103


def test_the_source_may_reuse_its_buffer():
    rolling, buffer, samples, got = (
        RollingWindow(100, 50, RATE),
        np.empty(30, np.float32),
        noise(300),
        [],
    )
    for at in range(0, 300, 30):
        buffer[:] = samples[at : at + 30]
        got += rolling.push(AudioBlock(buffer, RATE, 0, 0))
        buffer[:] = 9
    assert len(got) == 5
    for n, window in enumerate(got):
        np.testing.assert_array_equal(window.samples, samples[n * 50 : n * 50 + 100])


@pytest.mark.parametrize("numbers", [(0, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_sizes_must_be_positive(numbers):
    with pytest.raises(ValueError, match="must be positive"):
        RollingWindow(*numbers)


def test_places_that_the_pace_leaves_out_cost_nothing_and_do_not_count():
    samples = noise(1000)
    rolling = RollingWindow(100, 50, RATE, lambda end: Due.YES if end % 200 == 0 else Due.NO)
    got = windows_of(rolling, blocks_of(samples, [30] * 33))
    assert [w.index for w in got] == [0, 1, 2, 3]
    assert [w.position for w in got] == [100, 300, 500, 700]
    for window in got:
        np.testing.assert_array_equal(window.samples, samples[window.position :][:100])
        assert window.monotonic == pytest.approx(50.0 + window.position / RATE)


def test_the_first_window_of_a_stream_and_after_a_gap_begins_so_much_later():
    sound = noise(900)
    rolling = RollingWindow(100, 50, RATE, first=25)
    got = windows_of(rolling, blocks_of(sound, [90] * 10, gaps={5}))
    starts = [round((window.monotonic - 50.0) * RATE) for window in got]
    assert starts == [*range(25, 351, 50), *range(475, 801, 50)]
    for start, window in zip(starts, got, strict=True):
        np.testing.assert_array_equal(window.samples, sound[start : start + 100])
