"""The outbox's open file: opened anew when the disk has failed, renamed when it is damaged."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
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
from agent.publish.mqtt_message import MqttMessage

log = logging.getLogger(__name__)

_RETRY_SECONDS = 5.0
_TELL_SECONDS = 300.0
_DAMAGE_SECONDS = 60.0  # no new file more often than this, should the disk break every one

DISK_FAULTS = (sqlite3.Error, OSError)
"""What reading and writing may raise; `OutboxFile.trouble` takes it."""


class OutboxFile:
    """Gives the database whenever the disk lets it. Not thread-safe: its owner holds a lock.

    Args:
        path: The file.
        on_open: Told of each opening, before the file is used: the database, and the undelivered
            events that were read from a damaged one it replaces.
    """

    def __init__(
        self, path: Path, on_open: Callable[[sqlite3.Connection, list[MqttMessage]], None]
    ) -> None:
        self.path = path
        self._on_open = on_open
        self._held: TextIOWrapper | None = None
        self._db: sqlite3.Connection | None = None
        self._read_before = False
        self._retry_at = 0.0
        self._tell_at = 0.0
        self._damage_at = -_DAMAGE_SECONDS
        self._failing = False
        #: Whether `release` has ended its use.
        self.closed = False
        #: Openings so far.
        self.generation = 0
        #: Times that the disk refused.
        self.failures = 0
        #: Damaged files renamed.
        self.damaged = 0

    @property
    def is_open(self) -> bool:
        """Whether it is open: else there may be events in it that are not known of."""
        return self._db is not None

    @property
    def resting(self) -> bool:
        """Whether the disk refused a moment ago, and is to be left alone."""
        return time.monotonic() < self._retry_at

    def claim(self) -> None:
        """Begin to use the folder, for this process alone.

        Raises:
            ConfigError: Another process uses it.
            OSError: The folder cannot be written to.
        """
        self.closed = False
        self._held = lock(self.path.with_name("outbox.lock"))

    def release(self) -> None:
        """Close it for good, and leave the folder to others."""
        self.closed = True
        self.shut()
        if self._held is not None:
            self._held.close()
            self._held = None

    def shut(self) -> None:
        """Close it; the next use opens it anew."""
        if self._db is not None:
            with contextlib.suppress(sqlite3.Error):
                self._db.close()
            self._db = None

    def wake(self) -> None:
        """Try the disk again at once."""
        self._retry_at = 0.0

    def database(self) -> sqlite3.Connection:
        """The open file; opened anew after a failure.

        Raises:
            sqlite3.Error: It cannot be opened now.
            OSError: Likewise.
        """
        if self._db is not None:
            return self._db
        if self.closed:
            raise sqlite3.OperationalError("the outbox is closed")
        if self.resting:
            raise _NotYetError
        salvaged: list[MqttMessage] = []
        try:
            self._db = open_database(self.path, check=not self._read_before)
        except DamagedError as fault:
            salvaged = self._put_aside(fault)
            self._db = open_database(self.path, check=False)
        self._on_open(self._db, salvaged)
        self._read_before = True
        self.generation += 1
        return self._db

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All of what is done inside, on the disk when it ends well, or nothing of it.

        Raises:
            sqlite3.Error: The disk refused.
            OSError: Likewise.
        """
        db = self.database()
        db.execute("BEGIN IMMEDIATE")
        try:
            yield db
            db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                db.execute("ROLLBACK")
            raise

    def trouble(self, fault: Exception, in_memory: int) -> bool:
        """The disk refused: tell, and open the file anew after a while.

        Args:
            fault: One of `DISK_FAULTS`.
            in_memory: Events that the disk has yet to take.

        Returns:
            Whether to try again at once: the file was damaged in use, and a new one can begin.
        """
        if isinstance(fault, _NotYetError) or self.closed:
            return False
        self.failures += 1
        now = time.monotonic()
        # A full disk can still be read. Whatever else goes on failing may be mended by opening
        # the file anew: a file system that was mounted again, a file that was put back.
        if is_damage(fault) or (self._failing and "full" not in str(fault)):
            self.shut()
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
                self.path, fault, in_memory,
            )  # fmt: skip
        return False

    def well(self) -> None:
        """The disk has taken all there was."""
        if self._failing:
            self._failing, self._tell_at = False, 0.0
            log.warning("%s: the disk takes alarm events again; none is in memory alone", self.path)

    def _put_aside(self, fault: DamagedError) -> list[MqttMessage]:
        aside = set_aside(self.path)
        self.damaged += 1
        salvaged = salvage(aside)
        log.error(
            "%s: the outbox is damaged (%s); it is kept as %s and a new one begun. %d undelivered "
            "alarm events were read from it; others it may have held are lost",
            self.path, fault, aside.name, len(salvaged),
        )  # fmt: skip
        return salvaged


class _NotYetError(sqlite3.OperationalError):
    """The disk refused a moment ago."""
