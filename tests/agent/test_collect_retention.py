"""Collected sound is bounded, and what no bank knows is not removed without having been told."""

from __future__ import annotations

import json
import os
import time

import pytest

from agent.bundle.manifest import GATE_ROWS, ROWS
from agent.collect.retention import prune_collected, sessions_in_banks, survey_sessions
from agent.collect.upkeep import CollectedUpkeep
from agent.config.collect import CollectConfig
from agent.core.clock import ClockQuality

DAY = 86_400.0
NOW = 1.7e9


def session(root, name, *, days=0.0, size=1000, machine="pump", label="healthy"):
    folder = root / "collected" / machine / label / name
    folder.mkdir(parents=True)
    (folder / "0000.flac").write_bytes(b"x" * (size - 2))
    (folder / "session.json").write_bytes(b"{}")
    for file in folder.iterdir():
        os.utime(file, (NOW - days * DAY,) * 2)
    return folder


def prune(root, *, used=(), now=NOW, busy=(), **config):
    return prune_collected(
        root / "collected", CollectConfig(**config), lambda _: set(used), now=now, busy=busy
    )


def left(root):
    return sorted(one.folder.name for one in survey_sessions(root / "collected"))


def test_by_default_only_what_is_in_a_bank_and_old_goes(tmp_path):
    session(tmp_path, "old-added", days=400)
    session(tmp_path, "old-unused", days=4000)
    session(tmp_path, "new-added", days=300)
    pruned = prune(tmp_path, used=("old-added", "new-added"))
    assert (pruned.added, pruned.unused) == (1, 0)
    assert left(tmp_path) == ["new-added", "old-unused"]


def test_what_no_bank_knows_goes_only_when_asked_and_not_in_silence(tmp_path, caplog):
    session(tmp_path, "unused", days=20)
    session(tmp_path, "fresh", days=5)
    prune(tmp_path, keep_unused_days=10)
    assert left(tmp_path) == ["fresh"]
    (record,) = [one for one in caplog.records if one.levelname == "WARNING"]
    assert "in no bank" in record.message
    assert "unused" in record.message


def test_beyond_the_size_the_oldest_in_a_bank_go_first(tmp_path):
    for n in range(4):
        session(tmp_path, f"u{n}", days=50 - n, size=1_000_000)
        session(tmp_path, f"a{n}", days=10 - n, size=1_000_000)
    used = [f"a{n}" for n in range(4)]
    pruned = prune(tmp_path, used=used, max_bytes=6_000_000)
    assert (pruned.added, pruned.unused, pruned.left) == (2, 0, 6_000_000)
    assert left(tmp_path) == ["a2", "a3", "u0", "u1", "u2", "u3"]
    # What may not go stays, beyond the bound.
    assert prune(tmp_path, used=used, max_bytes=1_000_000).left == 4_000_000
    assert left(tmp_path) == ["u0", "u1", "u2", "u3"]
    prune(tmp_path, max_bytes=1_000_000, keep_unused_days=1000)
    assert left(tmp_path) == ["u3"]


def test_a_share_of_the_disk_bounds_it_too(tmp_path, monkeypatch):
    session(tmp_path, "a", size=3000)
    session(tmp_path, "b", size=3000, days=1)

    class Usage:
        total = 10_000

    monkeypatch.setattr("agent.collect.retention.shutil.disk_usage", lambda _: Usage)
    prune(tmp_path, used=("a", "b"), disk_share=0.5)
    assert left(tmp_path) == ["a"]


def test_by_a_clock_that_cannot_be_believed_nothing_is_too_old(tmp_path):
    session(tmp_path, "added", days=4000)
    assert prune(tmp_path, used=("added",), now=None).added == 0
    assert left(tmp_path) == ["added"]


def test_what_is_being_written_and_what_is_linked_stay(tmp_path):
    folder = session(tmp_path, "busy", days=400)
    outside = tmp_path / "outside"
    session(outside, "mine", days=400)
    (tmp_path / "collected" / "fan").symlink_to(outside / "collected" / "pump")
    assert prune(tmp_path, used=("busy", "mine"), busy=[folder]).added == 0
    assert folder.exists()
    assert left(outside) == ["mine"]


def test_what_a_crash_left_of_recordings_goes_the_day_after(tmp_path):
    """A draft has no name of its own yet, and may be all that its session's folder holds."""
    root = tmp_path / "collected"
    places = [root / "pump" / "healthy" / name for name in ("cut", "under_way", "busy")]
    kept = session(tmp_path, "kept", days=4)
    for folder in (*places, kept):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".segment.flac").write_bytes(b"half")
        for one in (folder / ".segment.flac", folder):
            os.utime(one, (time.time() - (0.5 if folder.name == "under_way" else 2) * DAY,) * 2)
    for quality in (ClockQuality.UNSYNCHRONISED, ClockQuality.SYNCHRONISED):
        assert places[0].exists()
        CollectedUpkeep(root, CollectConfig(), lambda _: (), lambda q=quality: q).turn([places[2]])
    assert [folder.exists() for folder in places] == [False, True, True]
    assert sorted(one.name for one in kept.iterdir()) == ["0000.flac", "session.json"]


def test_sessions_are_found_in_banks_gates_and_versions(tmp_path):
    def rows(place, name, *sources):
        place.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(json.dumps([{"source": source} for source in sources]))

    rows(tmp_path / "pump", ROWS, "normal/a.wav", "s1/0000.flac")
    rows(tmp_path / "pump" / "..", "other.json", "s9/0000.flac")
    rows(tmp_path / "versions" / "0002", ROWS, "s2/0003.flac")
    rows(tmp_path / "versions" / "0001", GATE_ROWS, "s3/0000.flac")
    (tmp_path / "versions" / "0003").mkdir()
    (tmp_path / "versions" / "0003" / ROWS).write_text("[")
    bundles = [tmp_path / "pump", tmp_path / "versions", tmp_path / "absent"]
    assert sessions_in_banks(bundles) == {"normal", "s1", "s2", "s3"}


@pytest.mark.parametrize("quality", list(ClockQuality))
def test_upkeep_counts_and_says_when_it_may_not_prune(tmp_path, caplog, quality):
    bundle = tmp_path / "pump"
    bundle.mkdir()
    (bundle / ROWS).write_text(json.dumps([{"source": "added/0000.flac"}]))
    folder = session(tmp_path, "added")
    os.utime(folder / "0000.flac", (time.time() - 500 * DAY,) * 2)
    os.utime(folder / "session.json", (time.time() - 500 * DAY,) * 2)
    session(tmp_path, "unused", size=2_000_000)
    upkeep = CollectedUpkeep(
        tmp_path / "collected", CollectConfig(max_bytes=1_000_000), lambda _: [bundle],
        lambda: quality,
    )  # fmt: skip
    upkeep.turn([])
    # Too large as well: it goes whatever the clock says.
    assert (upkeep.removed_added, upkeep.removed_unused) == (1, 0)
    assert upkeep.kept_bytes == 2_000_000
    assert "keep_unused_days" in caplog.text
    caplog.clear()
    upkeep.turn([])  # not due
    upkeep.hasten()
    upkeep.turn([])
    assert caplog.text == ""  # told once a day
    assert left(tmp_path) == ["unused"]
