"""The past on disk: down-sampled, joined after restarts, bounded, and honest about faults."""

from __future__ import annotations

import sqlite3
import time

import numpy as np
import pytest
from support.told import give, tell, to

from agent.core.clock import utc
from agent.core.errors import AuscultError
from agent.core.records import Decision, Level, Score, Window
from agent.drift.events import DriftEvent, DriftEventKind, DriftStatus
from agent.history import recorder as module
from agent.history.bucket import Bucket, bucket_of
from agent.history.recorder import HistoryRecorder
from agent.history.store import KEPT, PastFile


def score(at, value, **changes):
    return {
        "time": utc(at), "score": value, "state": "running", "validity": "valid",
        "threshold": 0.5, "exceeded": value is not None and value > 0.5, "level": "normal",
        **changes,
    }  # fmt: skip


@pytest.fixture
def place(tmp_path):
    return tmp_path / "history" / "history.db"


def hear(history, begin, values):
    for n, value in enumerate(values):
        give(history, "score", score(begin + n, value))


def test_each_range_has_the_same_least_mean_and_largest(place):
    history = HistoryRecorder(place)
    begin = int(time.time()) // 3600 * 3600 - 3600 + 600
    values = [0.1 + n % 7 / 10 for n in range(120)]
    hear(history, begin, values)
    give(history, "drift", {"time": utc(begin), "distance": 3.0, "threshold": 2.0})
    for name in ("hour", "day", "month", "year"):
        _, points = history.read("pump", name, begin + 900)
        buckets = [bucket for _, bucket in points]
        assert min(b.score_min for b in buckets if b.scored) == pytest.approx(min(values)), name
        assert max(b.score_max for b in buckets if b.scored) == pytest.approx(max(values)), name
        mean = sum(b.score_sum for b in buckets) / sum(b.scored for b in buckets)
        assert mean == pytest.approx(sum(values) / len(values)), name
        assert sum(b.windows for b in buckets) == len(values), name
        assert max(b.drift for b in buckets if b.drift is not None) == 3.0
    assert history.read("fan", "day")[1] == []


def test_a_step_cut_by_a_restart_counts_both_halves(place):
    begin = int(time.time()) // 60 * 60 - 120
    for half in (0, 20):
        history = HistoryRecorder(place)
        history.start()
        hear(history, begin + half, [0.2 + half] * 20)
        history.stop()
    _, points = HistoryRecorder(place).read("pump", "day")
    (bucket,) = [bucket for start, bucket in points if start == begin]
    assert (bucket.windows, bucket.score_min, bucket.score_max) == (40, 0.2, 20.2)


def test_windows_that_cannot_be_judged_leave_a_reason_and_no_score(place):
    history = HistoryRecorder(place)
    now = time.time() - 5
    give(history, "score", score(now, None, validity="clipped", state="unknown", exceeded=False))
    ((_, bucket),) = history.read("pump", "hour")[1]
    assert (bucket.scored, bucket.score_min, bucket.invalid) == (0, None, "clipped")
    assert bucket_of("sensor", {}) is None


def test_what_happens_to_drift_is_no_event_of_an_alarm(place, caplog):
    """Both are cleared, and only an alarm has an `alarm_id`."""
    history = HistoryRecorder(place)
    status = DriftStatus(
        wall=time.time(), active=False, exceeded=False, distance=0.5, threshold=1.0, reference=0
    )
    for kind in DriftEventKind:
        event = DriftEvent(
            id=f"w1-{kind.value}", kind=kind, wall=status.wall, warning_id="w1", status=status
        )
        tell(history, event)
    assert "failed" not in caplog.text
    assert history.read("pump", "hour")[1] == []


def test_the_file_is_bounded_by_age_and_by_number(place, monkeypatch):
    file = PastFile(place)
    now = 2e9
    rows = {(1, "pump", int(now) - n): Bucket(windows=1) for n in range(0, 9000, 100)}
    file.add(rows)
    file.thin(now)
    kept = file.read("pump", 1, 0, 2**40, 1)
    assert min(start for start, _ in kept) >= now - KEPT[1]
    assert len(kept) == 38
    monkeypatch.setitem(KEPT, 1, 5)
    file.thin(None)  # nothing is too old by such a clock, but there are too many
    kept = file.read("pump", 1, 0, 2**40, 1)
    assert len(kept) == 10
    assert max(start for start, _ in kept) == now


def test_a_damaged_file_is_set_aside_and_a_full_disk_is_made_up_for(place, monkeypatch):
    place.parent.mkdir()
    place.write_bytes(b"no database " * 1000)
    history = HistoryRecorder(place)
    now = time.time() - 2
    hear(history, now, [0.1])
    assert len(history.read("pump", "hour")[1]) == 1
    assert place.with_name("history.db.damaged").exists()

    def full(self, buckets):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(PastFile, "add", full)
        hear(history, now, [0.3])
        with pytest.raises(AuscultError, match="No space"):
            history.read("pump", "hour")
        hear(history, now, [0.4])
    total = sum(bucket.windows for _, bucket in history.read("pump", "hour")[1])
    assert total == 3


def test_memory_is_bounded_while_nothing_can_be_written(place, monkeypatch):
    monkeypatch.setattr(module, "_WAITING", 30)
    history = HistoryRecorder(place)
    hear(history, 1e9, [0.1] * 100)
    assert len(history.waiting) <= 30


def _of_version_1(place, rows):
    """A file as versions before the scale wrote it: raw scores, no median of healthy sound."""
    place.parent.mkdir()
    with sqlite3.connect(place) as db:
        db.executescript(
            "CREATE TABLE past (step INTEGER, machine TEXT, start INTEGER, windows INTEGER, "
            "scored INTEGER, score_sum REAL, score_min REAL, score_max REAL, threshold REAL, "
            "exceeded INTEGER, drift REAL, drift_threshold REAL, level INTEGER, running INTEGER, "
            "idle INTEGER, invalid TEXT, PRIMARY KEY (step, machine, start)) WITHOUT ROWID; "
            "PRAGMA user_version = 1;"
        )
        for machine, start, value, threshold in rows:
            db.execute(
                "INSERT INTO past VALUES (60, ?, ?, 4, 4, ?, ?, ?, ?, ?, 2.5, 3, 0, 4, 0, '')",
                (machine, start, 4 * value, value - 0.5, value + 0.5, threshold,
                 4 * (value > threshold)),
            )  # fmt: skip
    db.close()


def test_raw_scores_of_an_earlier_version_are_put_on_the_scale_and_marked(place):
    begin = int(time.time()) // 3600 * 3600 - 7200
    quiet = [3.0, 4.0, 5.0] * 10
    rows = [("pump", begin + 60 * n, value, 5.5) for n, value in enumerate([*quiet, 7.0])]
    # Another bank's axis, after it had grown; and one of which too little is known.
    rows += [("pump", begin + 60 * (40 + n), -1.5 + 0.1 * n, -0.5) for n in range(11)]
    rows += [("fan", begin, -2.0, -1.0), ("fan", begin + 60, 0.3, 0.6)]
    _of_version_1(place, rows)
    history = HistoryRecorder(place)
    hear(history, begin + 60 * 60, [0.25])
    found = dict(history.read("pump", "day")[1])
    assert found[begin].score_sum / 4 == pytest.approx((3.0 - 4.0) / 1.5)
    assert found[begin + 60 * 30].score_sum / 4 == pytest.approx((7.0 - 4.0) / 1.5)
    assert found[begin + 60 * 30].score_max == pytest.approx(3.5 / 1.5)
    assert found[begin + 60 * 40].score_sum / 4 == pytest.approx(-1.0, abs=0.15)
    assert {bucket.threshold for bucket in found.values()} == {1.0, 0.5}
    assert {bucket.drift for start, bucket in found.items() if bucket.estimated} == {2.5}
    new = found[begin + 60 * 60]
    assert (new.score_sum, new.estimated) == (0.25, 0)
    assert found[begin].estimated == 1
    (unknown, first), (_, second) = history.read("fan", "day")[1]
    assert (unknown, first.scored, first.score_min, first.windows) == (begin, 0, None, 4)
    assert second.score_sum / 4 == pytest.approx(0.5)
    history.stop()
    # Once is enough.
    again = dict(HistoryRecorder(place).read("pump", "day")[1])
    assert again[begin].score_sum == found[begin].score_sum


@pytest.mark.parametrize("hop", [1, 5])
def test_sound_between_two_windows_is_spoken_for_whatever_the_hop(place, hop):
    history, now = HistoryRecorder(place), int(time.time())
    for at in range(now - 200, now, hop):
        give(history, "score", score(at, 0.2, seconds=10.0))
    _, points = history.read("pump", "hour")
    assert sum(bucket.windows for _, bucket in points) == pytest.approx(200, abs=hop)


def test_a_window_speaks_for_no_more_than_it_holds(place):
    history, now = HistoryRecorder(place), int(time.time())
    for at in (now - 300, now):
        give(history, "score", score(at, 0.2, seconds=10.0))
    _, points = history.read("pump", "hour")
    assert sum(bucket.windows for _, bucket in points) == 11


def test_before_a_window_that_its_sound_called_for_the_one_before_speaks(place):
    history, now = HistoryRecorder(place), time.time()
    for ago, value in ((20, 1.0), (15, 9.0)):
        window = Window(np.zeros(1000), 100, 0, 0.0, now - ago - 10, called=ago == 15)
        made = Decision(Score(window, value), 3.0, value > 3.0, Level.NORMAL, False, 0.0)
        to(history).tell(made)
    _, points = history.read("pump", "hour")
    assert sum(bucket.windows for _, bucket in points) == 6
    assert sum(bucket.exceeded for _, bucket in points) == 1
