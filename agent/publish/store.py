"""Alarm events on disk, from the moment they are raised until the broker has them."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.publish.file import DISK_FAULTS, OutboxFile
from agent.publish.forget import forget_some
from agent.publish.mark import HighMark
from agent.publish.mqtt_message import MqttMessage
from agent.publish.row import COLUMNS, RowError, checksum, message_of, numbered

log = logging.getLogger(__name__)

FILE_NAME = "outbox.db"
MARK_NAME = "outbox.mark"
_SEQUENCE = "sequence"  # the note of the greatest number given


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event and its place in the order of all events."""

    seq: int
    message: MqttMessage


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
        self.file = OutboxFile(folder / FILE_NAME, self._count)
        self._max_bytes = max_bytes
        self._lock = threading.RLock()
        self._unsaved: deque[StoredEvent] = deque()
        self._unmarked: set[str] = set()  # delivered, which is yet to be written down
        self._mark_file = HighMark(folder / MARK_NAME)
        self._bad: set[int] = set()  # rows that are not what was written
        #: Rows that were not what was written: put aside, never sent.
        self.quarantined = 0
        #: Events that were on the disk and are not known there any more.
        self.vanished = 0
        self._next = 1
        #: Events that the broker has not acknowledged.
        self.undelivered = 0
        self._delivered = 0

    def start(self) -> None:
        """Open the file; what an earlier process left undelivered is pending.

        Raises:
            ConfigError: Another process has it open.
        """
        with self._lock:
            try:
                self.file.claim()
            except OSError as fault:
                self._trouble(fault)
            try:
                self.file.database()
            except DISK_FAULTS as fault:
                self._trouble(fault)
            if self.undelivered:
                log.warning(
                    "%s: %d alarm events of an earlier run are still to be delivered",
                    self.file.path, self.undelivered,
                )  # fmt: skip

    def stop(self) -> None:
        """Write what is left and close. Idempotent."""
        with self._lock:
            if self.file.closed:
                return
            self.file.wake()
            self.settle()
            self.file.release()

    def add(self, message: MqttMessage) -> bool:
        """Take an event; one whose id is known already is the same one, and not taken twice.

        Returns:
            Whether it is on the disk now; otherwise it is in memory until the disk takes it.
        """
        with self._lock:
            if self._knows(message.id):
                return self._save()  # the number of an event is used once: a gap tells of a loss
            self._unsaved.append(StoredEvent(self._next, message))
            self._next += 1
            self.undelivered += 1
            return self._save()

    def pending(self, after: int, limit: int) -> list[StoredEvent]:
        """Undelivered events, in order.

        Args:
            after: Only those whose `seq` is greater.
            limit: At most so many.
        """
        with self._lock:
            found: list[StoredEvent] = []
            bad: list[tuple[tuple[Any, ...], str]] = []
            try:
                rows = self.file.database().execute(
                    f"SELECT {COLUMNS}, checksum FROM event "  # noqa: S608 - ours
                    "WHERE delivered IS NULL AND seq > ? ORDER BY seq",
                    (after,),
                )
                for row in rows:
                    if len(found) >= limit + len(self._unmarked):
                        break
                    if row[0] in self._bad:
                        continue
                    try:
                        found.append(StoredEvent(row[0], message_of(row)))
                    except RowError as fault:
                        bad.append((row, str(fault)))
                rows.close()
            except DISK_FAULTS as fault:
                self._trouble(fault)
            for row, why in bad:
                self._quarantine(row, why)
            found += [event for event in self._unsaved if event.seq > after]
            return [
                StoredEvent(event.seq, numbered(event.message, event.seq))
                for event in found
                if event.message.id not in self._unmarked
            ][:limit]

    def delivered(self, ids: Iterable[str]) -> None:
        """The broker has these events; `settle` writes it down."""
        with self._lock:
            for id_ in ids:
                waiting = sum(event.message.id == id_ for event in self._unsaved)
                if waiting:
                    # It never was on the disk, and need not be any more.
                    self._unsaved = deque(e for e in self._unsaved if e.message.id != id_)
                    self.undelivered -= waiting
                elif id_ not in self._unmarked:
                    self._unmarked.add(id_)
                    self.undelivered -= 1

    def settle(self) -> None:
        """Write down what was delivered, and what the disk refused before; call often."""
        with self._lock:
            if not (self._unmarked or self._unsaved) or self.file.resting:
                return
            if self._save() and self._unmarked:
                self._mark()

    @property
    def acknowledged(self) -> int:
        """Every event up to this number was acknowledged, damaged or lost here; 0 before any."""
        with self._lock:
            waiting = [event.seq for event in self._unsaved]
            try:
                ((least,),) = self.file.database().execute(
                    "SELECT min(seq) FROM event WHERE delivered IS NULL"
                )
            except DISK_FAULTS as fault:
                self._trouble(fault)
                return 0
            return min([*waiting, self._next if least is None else least]) - 1

    def again(self, first: int, last: int) -> int:
        """Delivered events are undelivered once more, as who was to get them says.

        Args:
            first: The first number.
            last: The last.

        Returns:
            How many there are; of older ones nothing is kept.
        """
        with self._lock:
            self.settle()
            try:
                with self.file.transaction() as db:
                    number = db.execute(
                        "UPDATE event SET delivered = NULL "
                        "WHERE delivered IS NOT NULL AND seq BETWEEN ? AND ?",
                        (first, last),
                    ).rowcount
            except DISK_FAULTS as fault:
                self._trouble(fault)
                return 0
            self._delivered -= number
            self.undelivered += number
            return number

    @property
    def unsaved(self) -> int:
        """Events that are in memory alone."""
        return len(self._unsaved)

    def recall(self, key: str) -> str | None:
        """A note made earlier, perhaps by an earlier process; None when there is none to be had."""
        with self._lock:
            try:
                row = (
                    self.file.database()
                    .execute("SELECT value FROM note WHERE key = ?", (key,))
                    .fetchone()
                )
            except DISK_FAULTS as fault:
                self._trouble(fault)
                return None
            return None if row is None else str(row[0])

    def note(self, key: str, value: str | None) -> None:
        """Remember something small over restarts; None forgets it."""
        with self._lock:
            try:
                with self.file.transaction() as db:
                    if value is None:
                        db.execute("DELETE FROM note WHERE key = ?", (key,))
                    else:
                        db.execute("INSERT OR REPLACE INTO note VALUES (?, ?)", (key, value))
            except DISK_FAULTS as fault:
                self._trouble(fault)

    # Everything below runs with the lock held.

    def _count(self, db: sqlite3.Connection, salvaged: list[MqttMessage]) -> None:
        """How much an opened file holds; what waits in memory comes after it."""
        ((last, undelivered, delivered),) = db.execute(
            "SELECT coalesce(max(seq), 0), count(*) - count(delivered), count(delivered) FROM event"
        ).fetchall()
        noted = db.execute("SELECT value FROM note WHERE key = ?", (_SEQUENCE,)).fetchone()
        known_to = max(last, int(noted[0]) if noted and str(noted[0]).isdigit() else 0)
        # A number is given once, whatever has become of the event that bore it.
        last = max(known_to, self._mark_file.read())
        known = {message.id for message in salvaged}
        waiting = [event.message for event in self._unsaved if event.message.id not in known]
        self._unsaved = deque(
            StoredEvent(last + number, message)
            for number, message in enumerate([*salvaged, *waiting], start=1)
        )
        self._next = last + len(self._unsaved) + 1
        self._tell_vanished(known_to, last)
        self._delivered = delivered
        # Marked in memory, still undelivered on the disk (or salvaged from it): not to be counted.
        unmarked = sum(event.message.id in self._unmarked for event in self._unsaved)
        if self._unmarked:
            marks = ",".join("?" * len(self._unmarked))
            ((on_disk,),) = db.execute(
                f"SELECT count(*) FROM event WHERE delivered IS NULL AND id IN ({marks})",  # noqa: S608 - marks
                tuple(self._unmarked),
            ).fetchall()
            unmarked += on_disk
        self.undelivered = undelivered + len(self._unsaved) - unmarked

    def _save(self) -> bool:
        if not self._unsaved:
            return True
        if self.file.resting:
            return False
        twice = 0
        try:
            # Opening the file may give them other numbers.
            self.file.database()
            with self.file.transaction() as db:
                for event in self._unsaved:
                    message = event.message
                    cursor = db.execute(
                        "INSERT OR IGNORE INTO event (seq, id, topic, payload, content_type, "
                        "created, checksum) VALUES (?, ?, ?, ?, ?, ?, ?)",
                        (
                            event.seq, message.id, message.topic, message.payload,
                            message.content_type, time.time(), checksum(message),
                        ),
                    )  # fmt: skip
                    twice += cursor.rowcount == 0
                db.execute(
                    "INSERT OR REPLACE INTO note VALUES (?, ?)", (_SEQUENCE, str(self._next - 1))
                )
        except DISK_FAULTS as fault:
            return self._trouble(fault) and self._save()
        self._unsaved.clear()
        self.undelivered -= twice
        self._mark_file.write(self._next - 1)
        self.file.well()
        self._prune()
        return True

    def _knows(self, id_: str) -> bool:
        """Whether an event is on the disk or waits for it, delivered or not."""
        if any(event.message.id == id_ for event in self._unsaved):
            return True
        try:
            found = self.file.database().execute("SELECT 1 FROM event WHERE id = ?", (id_,))
            return found.fetchone() is not None
        except DISK_FAULTS as fault:
            self._trouble(fault)
            return False

    def _tell_vanished(self, known_to: int, last: int) -> None:
        """Say that the file knows of fewer events than there were."""
        if last <= known_to or self.file.generation or self.file.damaged:
            return  # nothing is missing, or that is told already
        self.vanished = last - known_to
        log.error(
            "%s: knows of events up to number %d, and %d were written: its write-ahead log, or "
            "the file, was deleted, emptied or put back. What was undelivered of the %d between is "
            "lost; consumers see the gap in `sequence`",
            self.file.path, known_to, last, self.vanished,
        )  # fmt: skip

    def _quarantine(self, row: tuple[Any, ...], why: str) -> None:
        """Put a row aside that is not what was written, and tell."""
        seq, id_, topic, payload, content_type, _ = row
        self._bad.add(seq)
        self.quarantined += 1
        self.undelivered = max(0, self.undelivered - 1)
        log.error(
            "%s: event number %s is damaged (%s; its id reads %.60r) and is not sent; it is kept "
            "in the table `quarantine`. The disk may be failing",
            self.file.path, seq, why, id_,
        )  # fmt: skip
        try:
            with self.file.transaction() as db:
                db.execute(
                    "INSERT OR REPLACE INTO quarantine VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (seq, time.time(), why, id_, topic, payload, content_type),
                )
                db.execute("DELETE FROM event WHERE seq = ?", (seq,))
        except DISK_FAULTS as fault:
            self._trouble(fault)

    def _mark(self) -> None:
        now = time.time()
        try:
            with self.file.transaction() as db:
                cursor = db.executemany(
                    "UPDATE event SET delivered = ? WHERE id = ? AND delivered IS NULL",
                    [(now, id_) for id_ in self._unmarked],
                )
                marked = cursor.rowcount
        except DISK_FAULTS as fault:
            self._trouble(fault)
            return
        self._unmarked.clear()
        self._delivered += marked
        self._prune()

    def _prune(self) -> None:
        """Forget the oldest delivered events beyond the bounds."""
        try:
            while gone := forget_some(self.file, self._delivered, self._max_bytes):
                self._delivered -= gone
        except DISK_FAULTS as fault:
            self._trouble(fault)

    def _trouble(self, fault: Exception) -> bool:
        return self.file.trouble(fault, len(self._unsaved))
