from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

import pytest

from agent.core.errors import ConfigError
from agent.recordings.model import Machine, Recording
from agent.recordings.split import parse_cut, split_by_time

ROOT = Path("/data/pump")


def made(names, role="normal", label=None) -> list[Recording]:
    folder = role if label is None else f"{role}/{label}"
    return [Recording(ROOT / folder / name, "pump", role, label) for name in names]


def taken(day: int, count: int) -> list[str]:
    return [f"202603{day:02}_0{i}0000.wav" for i in range(count)]


def pump(*recordings: list[Recording]) -> Machine:
    return Machine("pump", ROOT, tuple(one for some in recordings for one in some))


def roles(machine: Machine) -> dict[str, tuple[str, str | None]]:
    return {r.path.name: (r.role, r.label) for r in machine.recordings}


def test_earlier_days_are_learnt_and_later_ones_judged_wherever_they_lie():
    own = pump(
        made(["20260302_010000.wav", "20260328_010000.wav"]),
        made(["20260302_020000.wav", "20260328_020000.wav"], "test", "normal"),
        made(["20260301_000000.wav"], "test", "anomaly"),
        made(["20260301_000000.wav"], "idle"),
    )
    found = split_by_time(own, parse_cut("2026-03-26"))
    assert [(r.path.name[:8], r.role, r.label) for r in found.machine.recordings] == [
        ("20260302", "normal", None),
        ("20260328", "test", "normal"),
        ("20260302", "normal", None),
        ("20260328", "test", "normal"),
        # Faults are judged whenever they were recorded; they were never learnt.
        ("20260301", "test", "anomaly"),
        ("20260301", "idle", None),
    ]
    assert (found.learnt, found.judged, found.by) == (2, 2, "names")
    assert "before 2026-03-28 01:00:00" in found.words()


@pytest.mark.parametrize(
    ("share", "learnt"),
    # Days of 4, 8 and 4: cuts at 0.25 and 0.75; in the middle, the one that learns more.
    [(0.3, 4), (0.5, 12), (0.6, 12), (0.9, 12)],
)
def test_a_share_cuts_between_days(share, learnt):
    own = pump(made([*taken(2, 4), *taken(26, 8), *taken(28, 4)]))
    assert split_by_time(own, share).learnt == learnt


def test_within_one_day_a_share_cuts_between_moments():
    names = [f"20260302_0{i // 3}0000_{i}.wav" for i in range(12)]
    found = split_by_time(pump(made(names)), 0.4)
    assert found.learnt == 6, "three pieces of one moment stay together: 3, 6 or 9"


def test_folders_of_days_tell_as_well():
    own = pump(
        made(["2026-03-02/1.wav", "2026-03-02/2.wav", "2026-03-03/1.wav"]),
    )
    assert split_by_time(own, 0.5).learnt == 2


def test_where_names_tell_nothing_the_files_times_are_believed_and_it_is_said(tmp_path):
    recordings = []
    for i in range(4):
        path = tmp_path / "normal" / f"{'dbca'[i]}.wav"
        path.parent.mkdir(exist_ok=True)
        path.touch()
        os.utime(path, (1000.0 + 90_000.0 * i, 1000.0 + 90_000.0 * i))
        recordings.append(Recording(path, "pump", "normal"))
    found = split_by_time(Machine("pump", tmp_path, tuple(recordings)), 0.5)
    assert [r.path.stem for r in found.machine.of("normal")] == ["d", "b"]
    assert found.by == "files"
    assert "copying may have set" in found.words()


def test_files_of_one_moment_tell_nothing(tmp_path):
    recordings = []
    for i in range(4):
        path = tmp_path / f"{i}.wav"
        path.touch()
        os.utime(path, (1000.0, 1000.0))
        recordings.append(Recording(path, "pump", "normal"))
    with pytest.raises(ConfigError, match="neither names nor files tell"):
        split_by_time(Machine("pump", tmp_path, tuple(recordings)), 0.5)


@pytest.mark.parametrize(("cut", "what"), [("2026-01-01", "learn from"), ("2027-01-01", "judge")])
def test_a_cut_outside_the_recordings_is_refused_with_their_range(cut, what):
    own = pump(made([*taken(2, 3), *taken(5, 3)]))
    with pytest.raises(ConfigError, match=f"nothing is left to {what}.*2026-03-02 00:00:00 to"):
        split_by_time(own, parse_cut(cut))


def test_one_recording_cannot_be_divided():
    with pytest.raises(ConfigError, match="1 healthy recording"):
        split_by_time(pump(made(taken(2, 1))), 0.5)


def test_cuts_are_shares_or_dates():
    assert parse_cut("0.7") == 0.7
    found = parse_cut("2026-03-26T06:00")
    assert isinstance(found, datetime)
    assert found.isoformat() == "2026-03-26T06:00:00"
    for text in ("0", "1", "1.5", "-1", "nan", "yesterday", ""):
        with pytest.raises(ConfigError, match="--cut"):
            parse_cut(text)
