"""No alarm event is lost: not to kill -9, a full disk, or a damaged file."""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from agent.core.errors import ConfigError
from agent.publish import file as file_module
from agent.publish.forget import used_bytes
from agent.publish.mqtt_message import MqttMessage
from agent.publish.outbox import Outbox
from agent.publish.store import EventStore


def event(number, size=0):
    payload = json.dumps({"n": number, "fill": "x" * size}).encode()
    return MqttMessage("t/event", payload, 1, retain=False, id=f"e{number}", content_type="c")


def ids(store, after=0, limit=100_000):
    return [stored.message.id for stored in store.pending(after, limit)]


@pytest.fixture
def opened(tmp_path):
    made = []

    def make(max_bytes=1_000_000, folder=tmp_path):
        store = EventStore(folder, max_bytes)
        made.append(store)
        store.start()
        return store

    yield make
    for store in made:
        store.stop()


@pytest.fixture
def impatient(monkeypatch):
    """Writing is tried again with every call."""
    monkeypatch.setattr(file_module, "_RETRY_SECONDS", 0.0)


def test_what_was_added_is_there_in_the_next_process_and_what_was_delivered_is_not(opened):
    store = opened()
    for n in range(5):
        assert store.add(event(n))
    store.delivered(["e1", "e3"])
    store.settle()
    store.stop()
    store.stop()
    again = opened()
    assert again.undelivered == 3
    assert [(stored.seq, stored.message.id) for stored in again.pending(0, 9)] == [
        (1, "e0"), (3, "e2"), (5, "e4"),
    ]  # fmt: skip
    assert json.loads(again.pending(0, 1)[0].message.payload) == {
        **json.loads(event(0).payload), "sequence": "000000000001",
    }  # fmt: skip
    again.add(event(5))
    assert ids(again) == ["e0", "e2", "e4", "e5"]


def test_an_acknowledgement_that_was_not_written_down_delivers_twice_never_not_at_all(opened):
    store = opened()
    store.add(event(0))
    store.delivered(["e0"])
    assert ids(store) == []
    store.file.release()  # as a kill would: nothing is settled
    assert ids(opened()) == ["e0"]


def test_an_event_whose_id_is_known_is_not_taken_twice(opened):
    store = opened()
    for _ in range(2):
        assert store.add(event(7))
    assert (ids(store), store.undelivered) == (["e7"], 1)
    store.delivered(["e7"])
    store.settle()
    store.add(event(7))
    assert (ids(store), store.undelivered) == ([], 0)


def test_a_second_agent_on_the_same_folder_is_refused(opened, tmp_path):
    opened()
    with pytest.raises(ConfigError, match="another agent uses this folder"):
        EventStore(tmp_path, 1000).start()


WRITER = """
import json, sys
from pathlib import Path
from agent.publish.mqtt_message import MqttMessage
from agent.publish.store import EventStore
store = EventStore(Path(sys.argv[1]), 1_000_000)
store.start()
first = int(sys.argv[2])
for n in range(first, first + 100_000):
    assert store.add(MqttMessage("t/event", json.dumps({"n": n}).encode(), 1, False, id=f"e{n}"))
    print("raised", n, flush=True)
    if n % 3 == 0:
        store.delivered([f"e{n}"])
        store.settle()
        print("settled", n, flush=True)
"""


def test_kill_9_at_any_instant_loses_no_raised_event(opened, tmp_path):
    chance = random.Random(5)
    raised, settled, first = set(), set(), 0
    for _ in range(8):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, tmp_path, str(first)], stdout=subprocess.PIPE, text=True
        )
        lines = [process.stdout.readline()]
        time.sleep(chance.uniform(0, 0.15))
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.read().splitlines(keepends=True)
        process.wait()
        for line in lines:
            if line.endswith("\n"):
                word, number = line.split()
                (raised if word == "raised" else settled).add(int(number))
        first = max(raised) + 2  # the next one may be on disk without having been told
    store = opened()
    found = {int(id_[1:]) for id_ in ids(store)}
    assert len(raised) > 50
    assert store.file.damaged == 0
    # Every third was delivered, which may have been written down before it could be told.
    assert {n for n in raised if n % 3} <= found
    assert not settled & found
    rows = store.file.database().execute("SELECT id FROM event").fetchall()
    assert raised <= {int(id_[1:]) for (id_,) in rows}
    assert len(found - raised) <= 8
    assert ids(store) == sorted(ids(store), key=lambda id_: int(id_[1:]))
    assert store.undelivered == len(found)


@pytest.fixture
def disk(tmp_path):
    """A file system of 256 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", place],
        capture_output=True,
        check=False,
    )
    if done.returncode:
        pytest.skip("cannot mount a file system (needs root)")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def fill(disk):
    """Take all the room there is, with a file that is given back."""
    path = disk / "filler"
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 1000)
    return path


def test_a_full_disk_keeps_events_in_memory_until_there_is_room(opened, disk, impatient, caplog):
    store = opened(folder=disk)
    assert store.add(event(0))
    filler = fill(disk)
    added = [store.add(event(n, 2000)) for n in range(1, 30)]
    assert not added[-1]
    assert store.unsaved > 0
    assert store.file.failures > 0
    assert caplog.text.count("the disk refuses") == 1
    # All can be had, in order, and delivered, with the disk still full.
    assert ids(store) == [f"e{n}" for n in range(30)]
    store.delivered(["e29"])
    store.settle()
    filler.unlink()
    store.settle()
    assert store.unsaved == 0
    assert "takes alarm events again" in caplog.text
    store.stop()
    assert ids(opened(folder=disk)) == [f"e{n}" for n in range(29)]


def test_what_is_on_a_full_disk_can_still_be_read_and_delivered(opened, disk, impatient):
    store = opened(folder=disk)
    for n in range(5):
        store.add(event(n))
    store.stop()
    fill(disk)
    again = opened(folder=disk)
    assert ids(again) == [f"e{n}" for n in range(5)]
    again.delivered(["e0"])
    again.settle()
    assert ids(again) == [f"e{n}" for n in range(1, 5)]


def test_a_disk_that_is_full_from_the_start_stops_nothing(opened, disk, impatient):
    filler = fill(disk)
    store = opened(folder=disk)
    assert not store.add(event(0))
    assert ids(store) == ["e0"]
    filler.unlink()
    assert store.add(event(1))
    store.stop()
    assert ids(opened(folder=disk)) == ["e0", "e1"]


def test_events_in_memory_come_after_those_on_a_disk_that_returns(tmp_path, opened, monkeypatch):
    earlier = opened()
    earlier.add(event(0))
    earlier.stop()
    monkeypatch.setattr(file_module, "_RETRY_SECONDS", 0.05)
    refuse = True
    real = file_module.open_database

    def sometimes(*arguments, **options):
        if refuse:
            raise sqlite3.OperationalError("disk I/O error")
        return real(*arguments, **options)

    monkeypatch.setattr(file_module, "open_database", sometimes)
    store = opened()
    outbox = Outbox(store)
    outbox.connected()
    assert not outbox.put_event(event(1))
    assert not outbox.put_event(event(2))
    assert outbox.next_event().id == "e1"
    outbox.sent(1)
    refuse = False
    time.sleep(0.1)
    given = []
    while (message := outbox.next_event()) is not None:
        given.append(message.id)
        outbox.sent(10 + len(given))
    # e2 had been read before the disk was back; what the disk holds is offered all the same.
    assert sorted(given) == ["e0", "e2"]
    for mid in (1, 11, 12):
        outbox.acknowledged(mid)
    outbox.settle()
    assert outbox.pending_events() == 0
    outbox.stop()
    assert ids(opened()) == []


LIMITED = """
import resource, sys
from pathlib import Path
from agent.publish.mqtt_message import MqttMessage
from agent.publish.store import EventStore
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
store = EventStore(Path(sys.argv[1]), 1_000_000)
store.start()
for n in range(100):
    store.add(MqttMessage("t", b'{"n": 1}' + b" " * 1000, 1, False, id=f"e{n}"))
print(len(store.pending(0, 1000)), store.unsaved > 0, [e.message.id for e in store.pending(0, 1000)] == [f"e{n}" for n in range(100)])
"""


def test_a_quota_is_survived_like_a_full_disk(tmp_path, opened):
    assert resource.RLIMIT_FSIZE
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, tmp_path], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["100", "True", "True"]
    store = opened()
    assert store.file.damaged == 0
    assert store.undelivered > 0


def _zero_middle(path):
    data = bytearray(path.read_bytes())
    third = len(data) // 3
    data[third : 2 * third] = bytes(third)
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b"this is no database" * 1000),
        lambda path: path.write_bytes(os.urandom(5000)),
        lambda path: path.write_bytes(path.read_bytes()[:5000]),
        _zero_middle,
    ],
    ids=["text", "noise", "truncated", "zeroed"],
)
def test_a_damaged_file_is_set_aside_and_a_new_one_begun(damage, tmp_path, opened, caplog):
    store = opened()
    for n in range(200):
        store.add(event(n, 200))
    store.stop()
    damage(tmp_path / "outbox.db")
    again = opened()
    assert again.file.damaged == 1
    assert "the outbox is damaged" in caplog.text
    assert len(list(tmp_path.glob("outbox.db.damaged-*"))) == 1
    before = ids(again)
    assert again.add(event(1000))
    assert ids(again) == [*before, "e1000"]
    again.stop()
    third = opened()
    assert third.file.damaged == 0
    assert ids(third) == [*before, "e1000"]


def test_what_can_be_read_of_a_damaged_file_is_taken_over(tmp_path, opened):
    store = opened()
    for n in range(300):
        store.add(event(n, 300))
    store.stop()
    path = tmp_path / "outbox.db"
    data = bytearray(path.read_bytes())
    middle = len(data) // 2 // 4096 * 4096
    data[middle : middle + 4096] = os.urandom(4096)
    path.write_bytes(data)
    found = ids(opened())
    assert len(found) >= 250
    assert found == sorted(found, key=lambda id_: int(id_[1:]))


def test_damage_found_in_use_loses_nothing_that_is_added_then(tmp_path, opened, caplog):
    store = opened()
    for n in range(100):
        store.add(event(n, 500))
    store.file.database().execute("PRAGMA wal_checkpoint(TRUNCATE)")
    path = tmp_path / "outbox.db"
    with path.open("r+b") as file:
        size = file.seek(0, 2)
        file.seek(0)
        file.write(os.urandom(size))
    store.file.database().execute("PRAGMA shrink_memory")  # so that it reads the file again
    assert store.add(event(1000))
    assert store.file.damaged == 1
    assert "e1000" in ids(store)


def alter(path, id_, **columns):
    """Change a row as a failing disk would: no checksum of SQLite's own tells."""
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        for column, value in columns.items():
            db.execute(f"UPDATE event SET {column} = ? WHERE id = ?", (value, id_))


@pytest.mark.parametrize(
    "columns",
    [
        {"payload": b'{"n": 2, "value": "normal"}'},  # as good as any, and not what was written
        {"payload": b"\xff\x00"},
        {"topic": "t/#"},
        {"topic": ""},
        {"topic": b"\xff\xfe"},
        {"content_type": b"\xff"},
        {"payload": 7},
    ],
)
def test_one_damaged_row_is_put_aside_and_told_and_the_rest_goes_on(
    tmp_path, opened, caplog, columns
):
    store = opened()
    for n in range(5):
        store.add(event(n))
    store.stop()
    alter(tmp_path / "outbox.db", "e2", **columns)
    again = opened()
    assert again.undelivered == 5
    found = again.pending(0, 9)
    assert [one.message.id for one in found] == ["e0", "e1", "e3", "e4"]
    assert [one.seq for one in found] == [1, 2, 4, 5]  # the gap shows
    assert (again.undelivered, again.quarantined, again.file.damaged) == (4, 1, 0)
    assert caplog.text.count("event number 3 is damaged") == 1
    again.pending(0, 9)
    again.stop()
    third = opened()
    assert (third.undelivered, len(third.pending(0, 9)), third.quarantined) == (4, 4, 0)
    kept = third.file.database().execute("SELECT seq, why FROM quarantine").fetchall()
    assert [seq for seq, _ in kept] == [3]


def test_the_outbox_goes_on_past_damaged_rows(tmp_path, opened):
    store = opened()
    for n in range(120):
        store.add(event(n))
    store.stop()
    for n in range(3, 110):
        alter(tmp_path / "outbox.db", f"e{n}", payload=b"{}")
    outbox = Outbox(opened())
    outbox.connected()
    taken = []
    while (message := outbox.next_event()) is not None:
        taken.append(message.id)
        outbox.sent(len(taken))
        outbox.acknowledged(len(taken))
    outbox.settle()
    assert taken == [f"e{n}" for n in [0, 1, 2, *range(110, 120)]]
    assert outbox.pending_events() == 0


@pytest.mark.parametrize("how", ["deleted", "emptied", "all"])
def test_a_write_ahead_log_that_is_gone_is_told_at_the_start(tmp_path, opened, caplog, how):
    writer = subprocess.run(
        [sys.executable, "-c", _KILLED, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert writer.returncode == -signal.SIGKILL, writer.stderr
    log = tmp_path / "outbox.db-wal"
    assert log.stat().st_size > 0
    if how == "emptied":
        log.write_bytes(b"")
    else:
        log.unlink()
    if how == "all":
        (tmp_path / "outbox.db").unlink()
    store = opened()
    assert store.vanished > 0
    assert "deleted, emptied or put back" in caplog.text
    # Numbers go on: who counts them sees what is missing.
    store.add(event(1000))
    assert store.pending(0, 99)[-1].seq == 31
    store.stop()
    assert opened().vanished == 0


_KILLED = """
import os, signal, sys
from pathlib import Path
from agent.publish.mqtt_message import MqttMessage
from agent.publish.store import EventStore
store = EventStore(Path(sys.argv[1]), 1_000_000)
store.start()
for n in range(30):
    store.add(MqttMessage("t/event", b'{"n": %d}' % n, 1, False, id=f"e{n}"))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_numbers_go_on_when_all_was_delivered_and_an_id_known_already_takes_none(opened):
    store = opened(max_bytes=200_000)
    for n in range(10):
        store.add(event(n))
        store.add(event(n))
    assert [one.seq for one in store.pending(0, 99)] == list(range(1, 11))
    store.delivered([f"e{n}" for n in range(10)])
    store.settle()
    store.file.database().execute("DELETE FROM event")  # forgotten, as by the bound
    store.stop()
    again = opened()
    again.add(event(77))
    assert [one.seq for one in again.pending(0, 9)] == [11]
    assert again.vanished == 0


def test_an_outbox_of_before_is_taken_over_and_given_back(tmp_path, opened):
    """Rows of an auscult without checksums, and one that goes a step back."""
    store = opened()
    store.add(event(0))
    store.stop()
    with contextlib.closing(sqlite3.connect(tmp_path / "outbox.db")) as db, db:
        db.execute("ALTER TABLE event DROP COLUMN checksum")
        db.execute("DROP TABLE quarantine")
        db.execute("DELETE FROM note")
    again = opened()
    again.add(event(1))
    assert ids(again) == ["e0", "e1"]
    again.stop()
    with contextlib.closing(sqlite3.connect(tmp_path / "outbox.db")) as db, db:
        db.execute(
            "INSERT INTO event (seq, id, topic, payload, content_type, created) "
            "VALUES (3, 'e2', 't/event', '{\"n\": 2}', '', 0)"
        )
        assert db.execute("PRAGMA user_version").fetchone() == (1,)
    assert ids(opened()) == ["e0", "e1", "e2"]


def test_a_database_of_something_else_is_not_touched(tmp_path, opened):
    with sqlite3.connect(tmp_path / "outbox.db") as other:
        other.execute("CREATE TABLE treasure (gold TEXT)")
        other.execute("INSERT INTO treasure VALUES ('all of it')")
    other.close()
    assert opened().add(event(1))
    (aside,) = tmp_path.glob("outbox.db.damaged-*")
    with sqlite3.connect(aside) as kept:
        assert kept.execute("SELECT gold FROM treasure").fetchall() == [("all of it",)]
    kept.close()


def test_damaged_files_do_not_pile_up(tmp_path, opened):
    for _ in range(6):
        (tmp_path / "outbox.db").write_bytes(b"junk" * 2000)
        opened().stop()
    assert len(list(tmp_path.glob("outbox.db.damaged-*"))) == 3


def test_the_bound_forgets_delivered_events_and_never_others(tmp_path, opened):
    store = opened(max_bytes=200_000)
    for n in range(600):
        store.add(event(n, 1000))
        if n < 400:
            store.delivered([f"e{n}"])
            store.settle()
    assert ids(store) == [f"e{n}" for n in range(400, 600)]
    assert store.add(event(600))
    held = (
        store.file.database()
        .execute("SELECT count(*) FROM event WHERE delivered IS NOT NULL")
        .fetchone()
    )
    assert held == (0,)  # 200 undelivered ones alone fill it
    store.delivered([f"e{n}" for n in range(400, 601)])
    store.settle()
    assert used_bytes(store.file.database()) <= 200_000
    store.stop()
    assert (tmp_path / "outbox.db").stat().st_size <= 400_000


def test_size_stays_flat_over_many_events(tmp_path, opened):
    store = opened()
    sizes = []
    for n in range(1600):
        store.add(event(n, 100))
        store.delivered([f"e{n}"])
        if n % 20 == 0:
            store.settle()
        if n in (1200, 1599):
            sizes.append((tmp_path / "outbox.db").stat().st_size)
        if n % 400 == 399:
            store.file.database().execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert 0 < sizes[1] <= 1.2 * sizes[0]


def test_outbox_offers_the_unacknowledged_again_in_order_and_sets_the_refused_aside(
    opened, monkeypatch
):
    outbox = Outbox(opened())
    outbox.connected()
    for n in range(5):
        outbox.put_event(event(n))
    for mid in (1, 2, 3):
        outbox.next_event()
        outbox.sent(mid)
    assert outbox.acknowledged(1)
    assert outbox.acknowledged(2, refused=True)
    assert not outbox.acknowledged(99)
    outbox.settle()
    assert outbox.pending_events() == 4
    assert [outbox.next_event().id for _ in range(2)] == ["e3", "e3"]
    outbox.disconnected()
    outbox.connected()

    def given():
        found = []
        while (message := outbox.next_event()) is not None:
            found.append(message.id)
            outbox.sent(100 + len(found))
        return found

    assert given() == ["e1", "e2", "e3", "e4"]
    monkeypatch.setattr("agent.publish.outbox._REFUSED_SECONDS", 0.0)
    outbox.acknowledged(101, refused=True)
    for mid in (102, 103, 104):
        outbox.acknowledged(mid)
    outbox.settle()
    assert given() == ["e1"]


def test_telemetry_is_dropped_and_counted_alarms_are_not(opened):
    outbox = Outbox(opened(), max_volatile=10)
    score = MqttMessage("s", b"{}", 0, retain=False)
    outbox.put_telemetry(score)
    assert outbox.dropped_telemetry == 1
    outbox.connected()
    for n in range(30):
        outbox.put_telemetry(score)
        outbox.put_event(event(n))
    assert outbox.dropped_telemetry == 21
    assert outbox.pending_events() == 30
    outbox.disconnected()
    assert outbox.dropped_telemetry == 31
    assert outbox.pending_events() == 30


def test_what_a_broker_lost_after_it_acknowledged_it_is_offered_again(tmp_path):
    outbox = Outbox(EventStore(tmp_path, 1_000_000))
    outbox.start()
    outbox.connected()

    def send():
        found = []
        while (message := outbox.next_event()) is not None:
            found.append(message.id)
            outbox.sent(len(found))
        for mid in range(1, len(found) + 1):
            outbox.acknowledged(mid)
        outbox.settle()
        return found

    for n in range(1, 7):
        outbox.put_event(event(n))
        assert outbox.store.acknowledged == 0
    assert send() == ["e1", "e2", "e3", "e4", "e5", "e6"]
    assert outbox.store.acknowledged == 6

    assert outbox.resend(2, 3) == 2
    outbox.put_event(event(7))
    assert outbox.pending_events() == 3
    assert outbox.store.acknowledged == 1
    outbox.settle()  # as the sender does each turn
    assert send() == ["e2", "e3", "e7"]
    assert outbox.store.acknowledged == 7

    assert outbox.resend(5, 100) == 3  # of numbers that were never given there is nothing
    outbox.stop()

    again = Outbox(EventStore(tmp_path, 1_000_000))
    again.start()
    assert again.pending_events() == 3
    assert again.store.acknowledged == 4
    again.stop()


def test_what_is_sent_again_is_forgotten_like_the_others(opened):
    store = opened()
    for n in range(1, 1500):
        store.add(event(n))
        store.delivered([f"e{n}"])
    store.settle()
    kept = store.again(1, 2000)
    assert 1000 <= kept < 1200  # of older ones nothing is kept
    assert store.undelivered == kept
    store.delivered(ids(store))
    store.settle()
    assert (store.undelivered, store.acknowledged) == (0, 1499)
