"""Windows of hours of sound: on the disk, not in memory."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

from agent.capture.files import read_audio
from agent.core.errors import ConfigError
from agent.recordings.held import HeldWindows, forget_mapped
from agent.recordings.model import Machine, Recording
from agent.recordings.windows import healthy_windows
from agent.window.clip import clip_windows

RATE = 16000
WINDOW, HOP = 10 * RATE, 5 * RATE


def recording(path: Path, minutes: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16") as file:
        for _ in range(minutes):
            file.write(0.05 * rng.standard_normal(60 * RATE))
    return path


def windows_of(folder: Path, minutes: int):
    path = recording(folder / f"{minutes}" / "normal" / "long.wav", minutes)
    machine = Machine("pump", path.parents[1], (Recording(path, "pump", "normal"),))
    return path, healthy_windows(machine, rate=RATE, window_samples=WINDOW, hop_samples=HOP)


def test_windows_in_a_file_are_those_in_memory():
    rng = np.random.default_rng(0)
    sound = rng.standard_normal((7, 100)).astype(np.float32)
    few, many = HeldWindows(100), HeldWindows(100, in_memory=1000)
    for window in sound:
        few.add(window)
        many.add(window)
    np.testing.assert_array_equal(few.matrix(), sound)
    mapped = many.matrix()
    forget_mapped()
    np.testing.assert_array_equal(mapped, sound)
    np.testing.assert_array_equal(mapped[[5, 2]], sound[[5, 2]])
    assert HeldWindows(100).matrix().shape == (0, 100)


def test_the_windows_of_a_long_recording_are_those_of_its_samples(tmp_path):
    path, found = windows_of(tmp_path, 4)
    samples = read_audio(path, rate=RATE)
    starts = dict(clip_windows(samples, window_samples=WINDOW, hop_samples=HOP))
    assert len(found.rows) > 30
    for row, window in zip(found.rows, found.waveforms, strict=True):
        np.testing.assert_array_equal(window, starts[round(row.start * RATE)])
    # Six blocks, of which no two share a sample.
    assert len(set(found.groups)) == 6


def test_memory_does_not_grow_with_the_length_of_a_recording(tmp_path):
    peaks = []
    for minutes in (8, 24):
        tracemalloc.start()
        _, found = windows_of(tmp_path, minutes)
        assert len(found.rows) > 10 * minutes
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        del found
    # The sound alone, once, takes 61 MB more for 16 minutes more; its windows twice that.
    assert peaks[1] - peaks[0] < 15e6


def test_what_was_touched_is_let_go():
    held = HeldWindows(250_000, in_memory=0)
    for n in range(40):
        held.add(np.full(250_000, n, np.float32))
    mapped = held.matrix()
    forget_mapped()
    before = resident()
    assert mapped.sum(dtype=np.float64) == 250_000 * sum(range(40))
    touched = resident() - before
    forget_mapped()
    left = resident() - before
    assert touched > 30e6
    assert left < 10e6


def test_a_full_disk_is_told_with_the_place(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "gone"))
    held = HeldWindows(10, in_memory=0)
    with pytest.raises(ConfigError, match="TMPDIR"):
        held.add(np.zeros(10, np.float32))


def resident() -> int:
    """Memory of this process that is present, bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024
    pytest.skip("no /proc/self/status here")
