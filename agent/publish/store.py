"""Alarm events on disk, from the moment they are raised until the broker has them."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path

from agent.publish.database import (
    DamagedError,
    is_damage,
    lock,
    open_database,
    salvage,
    set_aside,
)
from agent.publish.outgoing import Outgoing

log = logging.getLogger(__name__)

FILE_NAME = "outbox.db"
# Delivered events remain as a record of what was told, and to know an event that comes twice.
_DELIVERED_KEPT = 1000
_PRUNE_STEP = 100
_RETRY_SECONDS = 5.0
_TELL_SECONDS = 300.0
_DAMAGE_SECONDS = 60.0  # no new file more often than this, should the disk break every one


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event and its place in the order of all events."""

    seq: int
    message: Outgoing


class EventStore:
    """Every alarm event, in order, on disk before anybody is offered it.

    `add` returns when the event is on the disk. When the disk refuses (full, read-only, broken),
    the event is kept in memory, that is logged and counted, and writing is tried again: it may then
    be delivered from memory, for the network is the only way left to tell of it. A damaged file is
    renamed and a new one begun with whatever could be read of the old.

    The file is bounded: delivered events are forgotten, oldest first. Undelivered ones never are,
    even if they alone exceed the bound.

    Args:
        folder: Where `outbox.db` lies.
        max_bytes: The bound, bytes.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._path = folder / FILE_NAME
        self._max_bytes = max_bytes
        self._lock = threading.RLock()
        self._held: TextIOWrapper | None = None
        self._db: sqlite3.Connection | None = None
        self._unsaved: deque[StoredEvent] = deque()
        self._unmarked: set[str] = set()  # delivered, which is yet to be written down
        self._next = 1
        self._undelivered = 0
        self._delivered = 0
        self._read_before = False
        self._retry_at = 0.0
        self._tell_at = 0.0
        self._damage_at = -_DAMAGE_SECONDS
        self._failing = False
        self._closed = False
        #: Changes when events that were not to be had may now be: read from the beginning again.
        self.generation = 0
        #: Times that the disk refused to take or give an event.
        self.failures = 0
        #: Damaged files renamed.
        self.damaged = 0

    def start(self) -> None:
        """Open the file; what an earlier process left undelivered is pending.

        Raises:
            ConfigError: Another process has it open.
        """
        with self._lock:
            self._closed = False
            try:
                self._held = lock(self._path.with_name("outbox.lock"))
            except OSError as fault:
                self._trouble(fault)
            try:
                self._database()
            except (sqlite3.Error, OSError) as fault:
                self._trouble(fault)
            if self._undelivered:
                log.warning(
                    "%s: %d alarm events of an earlier run are still to be delivered",
                    self._path, self._undelivered,
                )  # fmt: skip

    def stop(self) -> None:
        """Write what is left and close. Idempotent."""
        with self._lock:
            if self._closed:
                return
            self._retry_at = 0.0
            self.settle()
            self._closed = True
            self._close()
            if self._held is not None:
                self._held.close()
                self._held = None

    def add(self, message: Outgoing) -> bool:
        """Take an event; one whose id is known already is the same one, and not taken twice.

        Returns:
            Whether it is on the disk now; otherwise it is in memory until the disk takes it.
        """
        with self._lock:
            self._unsaved.append(StoredEvent(self._next, message))
            self._next += 1
            self._undelivered += 1
            return self._save()

    def pending(self, after: int, limit: int) -> list[StoredEvent]:
        """Undelivered events, in order.

        Args:
            after: Only those whose `seq` is greater.
            limit: At most so many.
        """
        with self._lock:
            found: list[StoredEvent] = []
            try:
                rows = self._database().execute(
                    "SELECT seq, id, topic, payload, content_type FROM event "
                    "WHERE delivered IS NULL AND seq > ? ORDER BY seq LIMIT ?",
                    (after, limit + len(self._unmarked)),
                )
                for seq, id_, topic, payload, content_type in rows:
                    message = Outgoing(topic, payload, 1, False, id_, content_type=content_type)
                    found.append(StoredEvent(seq, message))
            except (sqlite3.Error, OSError) as fault:
                self._trouble(fault)
            found += [event for event in self._unsaved if event.seq > after]
            return [event for event in found if event.message.id not in self._unmarked][:limit]

    def delivered(self, ids: Iterable[str]) -> None:
        """The broker has these events; `settle` writes it down."""
        with self._lock:
            for id_ in ids:
                waiting = sum(event.message.id == id_ for event in self._unsaved)
                if waiting:
                    # It never was on the disk, and need not be any more.
                    self._unsaved = deque(e for e in self._unsaved if e.message.id != id_)
                    self._undelivered -= waiting
                elif id_ not in self._unmarked:
                    self._unmarked.add(id_)
                    self._undelivered -= 1

    def settle(self) -> None:
        """Write down what was delivered, and what the disk refused before; call often."""
        with self._lock:
            if not (self._unmarked or self._unsaved) or time.monotonic() < self._retry_at:
                return
            if self._save() and self._unmarked:
                self._mark()

    @property
    def ready(self) -> bool:
        """Whether the file is open: else there may be events in it that are not known of."""
        return self._db is not None

    @property
    def undelivered(self) -> int:
        """Events that the broker has not acknowledged."""
        return self._undelivered

    @property
    def unsaved(self) -> int:
        """Those of them that are in memory alone."""
        return len(self._unsaved)

    def recall(self, key: str) -> str | None:
        """A note made earlier, perhaps by an earlier process; None when there is none to be had."""
        with self._lock:
            try:
                row = (
                    self._database()
                    .execute("SELECT value FROM note WHERE key = ?", (key,))
                    .fetchone()
                )
            except (sqlite3.Error, OSError) as fault:
                self._trouble(fault)
                return None
            return None if row is None else str(row[0])

    def note(self, key: str, value: str | None) -> None:
        """Remember something small over restarts; None forgets it."""
        with self._lock:
            try:
                with self._transaction() as db:
                    if value is None:
                        db.execute("DELETE FROM note WHERE key = ?", (key,))
                    else:
                        db.execute("INSERT OR REPLACE INTO note VALUES (?, ?)", (key, value))
            except (sqlite3.Error, OSError) as fault:
                self._trouble(fault)

    # Everything below runs with the lock held.

    def _database(self) -> sqlite3.Connection:
        """The open file; opened anew after a failure."""
        if self._db is not None:
            return self._db
        if self._closed:
            raise sqlite3.OperationalError("the outbox is closed")
        if time.monotonic() < self._retry_at:
            raise _NotYetError
        salvaged: list[Outgoing] = []
        try:
            self._db = open_database(self._path, check=not self._read_before)
        except DamagedError as fault:
            salvaged = self._put_aside(fault)
            self._db = open_database(self._path, check=False)
        self._count(salvaged)
        self._read_before = True
        self.generation += 1
        return self._db

    def _put_aside(self, fault: DamagedError) -> list[Outgoing]:
        aside = set_aside(self._path)
        self.damaged += 1
        salvaged = salvage(aside)
        log.error(
            "%s: the outbox is damaged (%s); it is kept as %s and a new one begun. %d undelivered "
            "alarm events were read from it; others it may have held are lost",
            self._path, fault, aside.name, len(salvaged),
        )  # fmt: skip
        return salvaged

    def _count(self, salvaged: list[Outgoing]) -> None:
        """How much an opened file holds; what waits in memory comes after it."""
        assert self._db is not None
        ((last, undelivered, delivered),) = self._db.execute(
            "SELECT coalesce(max(seq), 0), count(*) - count(delivered), count(delivered) FROM event"
        ).fetchall()
        known = {message.id for message in salvaged}
        waiting = [event.message for event in self._unsaved if event.message.id not in known]
        self._unsaved = deque(
            StoredEvent(last + number, message)
            for number, message in enumerate([*salvaged, *waiting], start=1)
        )
        self._next = last + len(self._unsaved) + 1
        self._delivered = delivered
        # Marked in memory, still undelivered on the disk (or salvaged from it): not to be counted.
        unmarked = sum(event.message.id in self._unmarked for event in self._unsaved)
        if self._unmarked:
            marks = ",".join("?" * len(self._unmarked))
            ((on_disk,),) = self._db.execute(
                f"SELECT count(*) FROM event WHERE delivered IS NULL AND id IN ({marks})",  # noqa: S608 - marks
                tuple(self._unmarked),
            ).fetchall()
            unmarked += on_disk
        self._undelivered = undelivered + len(self._unsaved) - unmarked

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        db = self._database()
        db.execute("BEGIN IMMEDIATE")
        try:
            yield db
            db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                db.execute("ROLLBACK")
            raise

    def _save(self) -> bool:
        if not self._unsaved:
            return True
        if time.monotonic() < self._retry_at:
            return False
        twice = 0
        try:
            # Opening the file may give them other numbers.
            self._database()
            with self._transaction() as db:
                for event in self._unsaved:
                    message = event.message
                    cursor = db.execute(
                        "INSERT OR IGNORE INTO event (seq, id, topic, payload, content_type, "
                        "created) VALUES (?, ?, ?, ?, ?, ?)",
                        (
                            event.seq, message.id, message.topic, message.payload,
                            message.content_type, time.time(),
                        ),
                    )  # fmt: skip
                    twice += cursor.rowcount == 0
        except (sqlite3.Error, OSError) as fault:
            return self._trouble(fault) and self._save()
        self._unsaved.clear()
        self._undelivered -= twice
        if self._failing:
            self._failing, self._tell_at = False, 0.0
            log.warning(
                "%s: the disk takes alarm events again; none is in memory alone", self._path
            )
        self._prune()
        return True

    def _mark(self) -> None:
        now = time.time()
        try:
            with self._transaction() as db:
                cursor = db.executemany(
                    "UPDATE event SET delivered = ? WHERE id = ? AND delivered IS NULL",
                    [(now, id_) for id_ in self._unmarked],
                )
                marked = cursor.rowcount
        except (sqlite3.Error, OSError) as fault:
            self._trouble(fault)
            return
        self._unmarked.clear()
        self._delivered += marked
        self._prune()

    def _prune(self) -> None:
        """Forget the oldest delivered events beyond the bounds."""
        try:
            while self._delivered > 0:
                surplus = self._delivered - _DELIVERED_KEPT
                over = self._used_bytes() > self._max_bytes
                if surplus < _PRUNE_STEP and not over:
                    return
                number = max(_PRUNE_STEP, surplus)
                with self._transaction() as db:
                    gone = db.execute(
                        "DELETE FROM event WHERE seq IN (SELECT seq FROM event "
                        "WHERE delivered IS NOT NULL ORDER BY seq LIMIT ?)",
                        (number,),
                    ).rowcount
                self._database().execute("PRAGMA incremental_vacuum").fetchall()
                self._delivered -= gone
                if gone <= 0:
                    return
        except (sqlite3.Error, OSError) as fault:
            self._trouble(fault)

    def _used_bytes(self) -> int:
        db = self._database()
        ((pages,),) = db.execute("PRAGMA page_count").fetchall()
        ((free,),) = db.execute("PRAGMA freelist_count").fetchall()
        ((size,),) = db.execute("PRAGMA page_size").fetchall()
        return int((pages - free) * size)

    def _trouble(self, fault: Exception) -> bool:
        """The disk refused: tell, and open the file anew after a while.

        Returns:
            Whether to try again at once: the file was damaged in use, and a new one can begin.
        """
        if isinstance(fault, _NotYetError) or self._closed:
            return False
        self.failures += 1
        now = time.monotonic()
        # A full disk can still be read. Whatever else goes on failing may be mended by opening
        # the file anew: a file system that was mounted again, a file that was put back.
        if is_damage(fault) or (self._failing and "full" not in str(fault)):
            self._close()
        if is_damage(fault):
            # The next access looks through it all.
            self._read_before = False
            if now >= self._damage_at + _DAMAGE_SECONDS:
                self._damage_at, self._retry_at = now, 0.0
                return True
        self._retry_at = now + _RETRY_SECONDS
        self._failing = True
        if now >= self._tell_at:
            self._tell_at = now + _TELL_SECONDS
            log.error(
                "%s: the disk refuses (%s). %d alarm events are in memory alone and would be lost "
                "with the power. Free space or mend the disk; writing is tried again",
                self._path, fault, len(self._unsaved),
            )  # fmt: skip
        return False

    def _close(self) -> None:
        if self._db is not None:
            with contextlib.suppress(sqlite3.Error):
                self._db.close()
            self._db = None


class _NotYetError(sqlite3.OperationalError):
    """The disk refused a moment ago."""
