"""Overlapping windows share frames, and embed as whole ones do."""

from __future__ import annotations

import weakref
from itertools import pairwise

import numpy as np
import pytest

from agent.core.records import AudioBlock
from agent.encode.frames import FrameLayout, SharedFrames, _marks, layout_of
from agent.window.rolling import RollingWindow

HOP, COUNT, RATE = 10, 60, 100
WINDOW = HOP * COUNT


class Reaching:
    """Frames reach 25 samples back and 15 on; beyond the edges sound is mirrored."""

    def __init__(self, tail: int = 2, least: int = 0) -> None:
        self.layout = FrameLayout(hop=HOP, head=3, tail=tail, chunk=16, count=COUNT, least=least)
        self.made = 0
        self.whole = 0

    def frames(self, chunks):
        self.made += chunks.shape[0] * chunks.shape[1] // HOP
        padded = np.pad(chunks, ((0, 0), (25, 15)), mode="reflect")
        views = np.lib.stride_tricks.sliding_window_view(padded, 40, axis=1)[:, ::HOP]
        views = views[:, : chunks.shape[1] // HOP]
        return np.stack([views.max(axis=2), views.min(axis=2)], axis=1)

    def embed_frames(self, frames, waveform):
        assert waveform.shape == (WINDOW,)
        return frames.reshape(1, -1).copy()  # nobody keeps the frames

    def encode(self, waveforms):
        self.whole += 1
        made, frames = self.made, self.frames(waveforms)
        self.made = made
        return frames.reshape(len(waveforms), -1)


def sound(samples, seed=0):
    return np.random.default_rng(seed).normal(0, 0.1, samples).astype(np.float32)


def windows(step, *blocks):
    rolling = RollingWindow(WINDOW, step, RATE)
    found = []
    for samples, gap in blocks:
        found += rolling.push(AudioBlock(samples, RATE, 0.0, 0.0, gap_before=gap))
    return found


def embedded(encoder, stream, shared=None):
    shared = shared or SharedFrames()
    return np.stack([shared.encode(encoder, window) for window in stream])


def whole(stream):
    return np.concatenate([Reaching().encode(window.samples[None]) for window in stream])


@pytest.mark.parametrize("least", [0, 5, 6])
@pytest.mark.parametrize("step", [10, 50, 130, 300, 560, 590])
def test_embeddings_are_those_of_whole_windows_at_any_step(step, least):
    stream = windows(step, (sound(8 * WINDOW), False))
    encoder = Reaching(least=least)
    np.testing.assert_array_equal(embedded(encoder, stream), whole(stream))
    assert encoder.whole == 0


def test_a_short_hop_makes_few_frames():
    stream = windows(50, (sound(20 * WINDOW), False))
    encoder = Reaching()
    embedded(encoder, stream)
    assert encoder.made / len(stream) < 0.6 * COUNT  # two chunks of sixteen of sixty


def test_chunks_of_any_length_are_no_longer_than_they_need_be():
    stream = windows(50, (sound(20 * WINDOW), False))
    fixed, free = Reaching(), Reaching(least=5)
    embedded(fixed, stream)
    embedded(free, stream)
    # The first window whole, then the edge's five and five new ones with what they reach to.
    assert free.made == COUNT + 5 + (len(stream) - 1) * (5 + 3 + 5 + 2)
    assert fixed.made > 2 * free.made


@pytest.mark.parametrize("fresh", range(1, 61))
def test_no_chunk_is_shorter_or_longer_than_the_graph_takes(fresh):
    layout = FrameLayout(hop=1, head=1, tail=1, chunk=6, count=60, least=2)
    plan = layout.chunks(fresh)
    assert all(2 <= one.length <= 24 and 0 <= one.at <= 60 - one.length for one in plan)
    made = sorted((one.start, one.stop) for one in plan[1:])
    assert (made[0][0], made[-1][1]) == (max(1, 59 - fresh), 60)
    assert all(one[1] == other[0] for one, other in pairwise(made))


def test_too_little_said_to_depend_on_the_edge_is_seen():
    stream = windows(50, (sound(4 * WINDOW), False))
    assert not np.array_equal(embedded(Reaching(tail=0), stream), whole(stream))


def test_after_a_gap_nothing_of_before_is_used():
    stream = windows(50, (sound(2 * WINDOW), False), (sound(2 * WINDOW, 1), True))
    assert any(one.index == other.index + 1 for other, one in pairwise(stream))
    np.testing.assert_array_equal(embedded(Reaching(), stream), whole(stream))


def test_windows_left_out_are_stepped_over():
    stream = windows(50, (sound(6 * WINDOW), False))[::3]
    encoder = Reaching()
    np.testing.assert_array_equal(embedded(encoder, stream), whole(stream))
    assert encoder.made < 0.9 * COUNT * len(stream)


def test_another_stream_another_step_another_encoder_begin_anew():
    shared = SharedFrames()
    for step, seed in ((50, 0), (100, 0), (100, 1)):
        stream = windows(step, (sound(3 * WINDOW, seed), False))
        for encoder in (Reaching(), Reaching()):
            np.testing.assert_array_equal(embedded(encoder, stream, shared), whole(stream))


@pytest.mark.parametrize("step", [WINDOW, 2 * WINDOW, 55])
def test_windows_that_share_no_frames_are_embedded_whole(step):
    stream = windows(step, (sound(6 * WINDOW), False))
    encoder = Reaching()
    np.testing.assert_array_equal(embedded(encoder, stream), whole(stream))
    assert (encoder.whole, encoder.made) == (len(stream), 0)


@pytest.mark.parametrize(
    "changes",
    [{"chunk": "4"}, {"hop": "0"}, {"count": "8"}, {"tail": "-1"}, {"least": "4"}, {"least": "17"}],
)
def test_a_layout_that_makes_no_sense_is_refused(changes):
    good = {"hop": "10", "head": "3", "tail": "2", "chunk": "16", "count": "60"}
    assert (layout_of(good).count, layout_of(good).least) == (60, 0)
    assert layout_of(good | {"least": "5"}).least == 5
    with pytest.raises(ValueError, match="laid out"):
        layout_of(good | changes)
    with pytest.raises(ValueError, match="lack"):
        layout_of({"hop": "10"})


def test_a_hop_that_varies_shares_frames_all_the_same():
    stream = windows(50, (sound(12 * WINDOW), False))
    chosen = [one for one in stream if one.index < 30 or one.index % 5 == 0 or one.index > 90]
    encoder = Reaching()
    np.testing.assert_array_equal(embedded(encoder, chosen), whole(chosen))
    assert (encoder.whole, encoder.made < 0.7 * COUNT * len(chosen)) == (0, True)


@pytest.mark.parametrize("hop", [2, 3, 10])
def test_any_change_of_the_sound_is_seen(hop):
    samples = np.random.default_rng(0).normal(0, 0.1, 30 * hop).astype(np.float32)
    marks = _marks(samples, hop)
    assert marks.shape == (30,)
    np.testing.assert_array_equal(_marks(samples.copy(), hop), marks)
    for place in range(len(samples)):
        other = samples.copy()
        other[place] = np.nextafter(other[place], np.float32(1))
        assert (_marks(other, hop) != marks).nonzero()[0].tolist() == [place // hop]
    assert not (_marks(-samples, hop) == marks).any()
    assert not (_marks(samples.reshape(-1, hop)[:, ::-1].ravel(), hop) == marks).any()


def test_the_sound_of_the_last_window_is_not_kept():
    (window,) = windows(50, (sound(WINDOW), False))
    shared = SharedFrames()
    shared.encode(Reaching(), window)
    kept = weakref.ref(window.samples)
    del window
    assert kept() is None
