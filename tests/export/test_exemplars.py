"""A bundle carries a few healthy windows as sound, and knows which is the likest to each of all."""

from __future__ import annotations

import numpy as np
import pytest

from agent.bundle.exemplars import exemplar_sounds, read_exemplars
from agent.bundle.manifest import HEALTHY_SOUND, HEALTHY_SOUND_INDEX, Row
from agent.core.errors import BundleError
from agent.learn.exemplars import MOST_BYTES, centres, write_exemplars
from agent.recordings.windows import WindowSet

RATE = 8000
STATES = ((1, 0, 0), (0, 1, 0), (0, 0, 1))


def healthy(per_state: int = 10, seconds: float = 1.0):
    """Windows of three states, one of which is rare; the sound of each says which it is."""
    rng = np.random.default_rng(0)
    states = [0] * per_state * 3 + [1] * per_state + [2]
    vectors = np.array([STATES[one] for one in states], np.float32)
    vectors += 0.01 * rng.standard_normal(vectors.shape).astype(np.float32)
    samples = np.stack([np.full(round(seconds * RATE), 0.1 * (one + 1)) for one in states])
    rows = [
        Row(source=f"normal/{n:03}.wav", start=0.5, group=f"{n}", domain="unknown", attributes={})
        for n in range(len(states))
    ]
    return WindowSet(samples.astype(np.float32), tuple(rows), {}), vectors, states


def test_every_healthy_state_is_heard_also_a_rare_one(tmp_path):
    windows, vectors, states = healthy()
    write_exemplars(tmp_path, windows, vectors, {row.source for row in windows.rows}, RATE)
    found = read_exemplars(tmp_path)
    assert len(found.exemplars) == 32
    for row, state in zip(windows.rows, states, strict=True):
        exemplar, _ = found.likest(row.source, row.start)
        (samples,), rate = exemplar_sounds(tmp_path, [exemplar])
        assert (len(samples), rate) == (RATE, RATE)
        assert samples == pytest.approx(0.1 * (state + 1), abs=1e-3)


def test_the_window_itself_is_told_from_the_likest(tmp_path):
    windows, vectors, _ = healthy()
    write_exemplars(tmp_path, windows, vectors, {row.source for row in windows.rows}, RATE)
    found = read_exemplars(tmp_path)
    told = [found.likest(row.source, row.start)[1] for row in windows.rows]
    assert sum(told) == len(found.exemplars)
    assert found.likest("normal/000.wav", 0.7) is None
    assert found.likest("elsewhere.wav", None) is None


def test_it_stays_small_and_leaves_out_what_the_device_will_not_hear(tmp_path):
    windows, vectors, _ = healthy(seconds=20.0)
    heard = {row.source for row in windows.rows[:35]}
    write_exemplars(tmp_path, windows, vectors, heard, RATE)
    found = read_exemplars(tmp_path)
    assert 2 * sum(one.seconds for one in found.exemplars) * RATE <= MOST_BYTES
    assert (tmp_path / HEALTHY_SOUND).stat().st_size < MOST_BYTES
    assert {one.source for one in found.windows} == heard


def test_twins_are_carried_once():
    chosen, nearest = centres(np.ones((5, 3), np.float32), 4)
    assert len(chosen) == 1
    assert nearest == [0] * 5


def test_what_is_damaged_is_not_played(tmp_path, caplog):
    windows, vectors, _ = healthy()
    write_exemplars(tmp_path, windows, vectors, {row.source for row in windows.rows}, RATE)
    exemplar = read_exemplars(tmp_path).exemplars[0]
    (tmp_path / HEALTHY_SOUND).write_bytes(b"fLaC")
    with pytest.raises(BundleError, match="cannot be played"):
        exemplar_sounds(tmp_path, [exemplar])
    (tmp_path / HEALTHY_SOUND_INDEX).write_text('{"exemplars": [], "windows": [{}]}')
    assert read_exemplars(tmp_path) is None
    assert HEALTHY_SOUND_INDEX in caplog.text
    (tmp_path / HEALTHY_SOUND_INDEX).unlink()
    assert read_exemplars(tmp_path) is None
