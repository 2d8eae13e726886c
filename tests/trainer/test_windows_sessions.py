"""Recordings whose names tell the time: their sessions reach the bank and the inspection."""

from __future__ import annotations

import numpy as np
import soundfile

from agent.hygiene.stage import inspect_machine
from agent.recordings.load import load_machines
from agent.recordings.plain import read_plain
from agent.recordings.windows import healthy_windows

RATE = 16000


def write(folder, names):
    rng = np.random.default_rng(0)
    for name in names:
        place = folder / "pump" / "normal" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(place, rng.normal(0, 0.05, 2 * RATE).astype(np.float32), RATE)
    (machine,) = load_machines(folder)
    return machine


def test_rows_know_their_session_by_name_or_folder(tmp_path):
    machine = write(
        tmp_path,
        ["20260302_234228.wav", "20260303_001500.wav", "2026-03-26/a.wav", "2026-03-26/b.wav"],
    )
    windows = healthy_windows(machine, rate=RATE, window_samples=RATE, hop_samples=RATE)
    found = {row.source.removeprefix("normal/"): row.session for row in windows.rows}
    assert found == {
        "20260302_234228.wav": "2026-03-02T23:42",
        "20260303_001500.wav": "2026-03-02T23:42",
        "2026-03-26/a.wav": "2026-03-26T00:00",
        "2026-03-26/b.wav": "2026-03-26T00:00",
    }


def test_recordings_of_one_go_are_told_of(tmp_path):
    notes = inspect_machine(write(tmp_path, [f"20260302_23{i:02}00.wav" for i in range(5)])).record
    (note,) = [one.text for one in notes.notes if one.kind == "session"]
    assert "all 5 recordings are of one session (from 2026-03-02 23:00 on)" in note


def test_recordings_without_times_are_not_told_of(tmp_path):
    notes = inspect_machine(write(tmp_path, [f"{i:04}.wav" for i in range(5)])).record.notes
    assert not [one for one in notes if one.kind == "session"]


def test_recordings_are_cut_alike_on_one_core_and_on_several(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    (tmp_path / "pump" / "normal").mkdir(parents=True)
    for number, seconds in enumerate((3, 12, 1, 70, 5, 9)):  # one of them long, one too short
        sound = 0.05 * rng.normal(size=8000 * seconds)
        if number == 4:
            sound[:] = 0.0  # silent: none of its windows can be judged
        soundfile.write(tmp_path / "pump" / "normal" / f"{number}.wav", sound, 8000)
    machine = read_plain(tmp_path / "pump")
    found = []
    for count in (1, 3):
        monkeypatch.setattr("agent.core.cores.usable_cores", lambda count=count: count)
        found.append(healthy_windows(machine, rate=8000, window_samples=16000, hop_samples=8000))
    one, several = found
    np.testing.assert_array_equal(one.waveforms, several.waveforms)
    assert one.rows == several.rows
    assert one.invalid == several.invalid
    assert sum(one.invalid.values()) == 4
    assert len(one.rows) > 80
