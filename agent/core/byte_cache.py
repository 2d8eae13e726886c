"""Small results kept in one SQLite file of the user's cache, found by what they follow from.

Several processes may use it at once. Each value carries a checksum of itself and its key: one that
does not fit is unknown, and a file that is no database any more is begun anew. A cache that cannot
be used (no room, no permission) costs time, never a result.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from agent.core.cache_home import cache_home, cache_limit

if TYPE_CHECKING:
    from typing_extensions import Self

KEY, _SUM = 20, 8  # bytes of a key and of a checksum
_WAIT = 10.0  # seconds for another process that writes
# What is over the limit goes, the longest unused first, down to this share of it.
_LEFT = 0.8
# A value in use is noted as such once an hour: reading need not write.
_NOTED = 3600
_AT_ONCE = 500  # keys of a query
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Kept:
    """What a cache holds.

    Attributes:
        path: Its file.
        count: Values.
        bytes: Of the file.
        limit: Bytes that it may take.
    """

    path: Path
    count: int
    bytes: int
    limit: int


class ByteCache:
    """Values by key, in one file; any thread may ask.

    Args:
        path: The file; it and its folder are made when the first value is kept.
        what: What a value is called: the table in the file, and in the log.
        limit: Bytes that it may take; with 0 nothing is kept.
    """

    def __init__(self, path: Path, what: str, *, limit: int) -> None:
        self.path = path
        self._what = what
        self._limit = limit
        self._turn = threading.Lock()
        self._open: sqlite3.Connection | None = None
        self._broken = limit <= 0

    def find(self, keys: Sequence[bytes]) -> dict[int, bytes]:
        """What is known, by place in `keys` (`KEY` bytes each)."""
        if not self.path.is_file():
            return {}
        found: dict[int, bytes] = {}
        with self._database() as base:
            if base is None:
                return found
            now, stale = int(time.time()), []
            for start in range(0, len(keys), _AT_ONCE):
                some = keys[start : start + _AT_ONCE]
                marks = ",".join("?" * len(some))
                rows = base.execute(
                    f"SELECT key, value, used FROM {self._what} WHERE key IN ({marks})",  # noqa: S608
                    list(some),
                )
                known = {key: (value, used) for key, value, used in rows}
                for place, key in enumerate(some, start):
                    kept, used = known.get(key, (b"", 0))
                    value = kept[_SUM:]
                    if not kept or kept[:_SUM] != _checksum(key, value):
                        continue
                    found[place] = value
                    if used < now - _NOTED:
                        stale.append((now, key))
            if stale:
                base.executemany(f"UPDATE {self._what} SET used = ? WHERE key = ?", stale)  # noqa: S608
        return found

    def keep(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        """Keep values; what is over the limit goes, the longest unused first."""
        now = int(time.time())
        rows = [
            (key, now, len(value), _checksum(key, value) + value)
            for key, value in zip(keys, values, strict=True)
        ]
        with self._database() as base:
            if base is not None:
                base.executemany(
                    f"INSERT OR REPLACE INTO {self._what} VALUES (?, ?, ?, ?)",  # noqa: S608
                    rows,
                )
                self._evict(base)

    def kept(self) -> Kept:
        """How much there is."""
        count = 0
        if self.path.is_file():
            with self._database() as base:
                if base is not None:
                    ((count,),) = base.execute(f"SELECT count(*) FROM {self._what}")  # noqa: S608
        return Kept(self.path, count, self._bytes(), self._limit)

    def clear(self) -> None:
        """Remove all of it."""
        with self._turn:
            self._close()
            self._remove()

    def close(self) -> None:
        """Close the file; the next question opens it again."""
        with self._turn:
            self._close()

    @contextlib.contextmanager
    def _database(self) -> Iterator[sqlite3.Connection | None]:
        """The database in a transaction; None where there is none to be had.

        A damaged one is begun anew, and what was asked of it is not known.
        """
        with self._turn:
            base = self._ready()
            if base is None:
                yield None
                return
            try:
                with base:
                    yield base
            except (sqlite3.Error, OSError) as fault:
                self._fault(fault)

    def _ready(self) -> sqlite3.Connection | None:
        """The database, open; begun anew where the file is none."""
        for _ in range(2):
            if self._broken:
                return None
            try:
                return self._opened()
            except (sqlite3.Error, OSError) as fault:
                self._fault(fault)
        return None

    def _opened(self) -> sqlite3.Connection:
        if self._open is None:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            base = sqlite3.connect(self.path, timeout=_WAIT, check_same_thread=False)
            self._open = base
            base.execute("PRAGMA auto_vacuum = INCREMENTAL")
            # After a power cut it may be damaged, which is noticed; waiting for the disk at every
            # batch would cost more than the cache saves.
            base.execute("PRAGMA synchronous = OFF")
            base.executescript(
                f"CREATE TABLE IF NOT EXISTS {self._what} (key BLOB NOT NULL UNIQUE,"
                "used INTEGER NOT NULL, size INTEGER NOT NULL, value BLOB NOT NULL);"
                f"CREATE INDEX IF NOT EXISTS {self._what}_used ON {self._what} (used, size);"
            )
            self.path.chmod(0o600)
        return self._open

    def _fault(self, fault: sqlite3.Error | OSError) -> None:
        """Begin a damaged file anew; go on without one that cannot be used."""
        self._close()
        damaged = isinstance(fault, sqlite3.DatabaseError) and (
            not isinstance(fault, sqlite3.OperationalError) or "no such" in str(fault)
        )
        if damaged:
            log.warning("%s is damaged (%s) and begun anew", self.path, fault)
            self._remove()
        else:  # no room, no permission, or locked for long
            self._broken = True
            log.warning("%ss are not kept in %s: %s", self._what, self.path, fault)

    def _evict(self, base: sqlite3.Connection) -> None:
        total = _used_bytes(base)
        if total <= self._limit:
            return
        over, gone = total - _LEFT * self._limit, []
        ordered = f"SELECT rowid, size FROM {self._what} ORDER BY used, rowid"  # noqa: S608
        for row, size in base.execute(ordered):
            if over <= 0:
                break
            gone.append((row,))
            over -= size
        base.executemany(f"DELETE FROM {self._what} WHERE rowid = ?", gone)  # noqa: S608
        # As a script, which commits first: `execute` would give back a single page.
        base.executescript("PRAGMA incremental_vacuum")

    def _bytes(self) -> int:
        try:
            return self.path.stat().st_size
        except OSError:
            return 0

    def _close(self) -> None:
        if self._open is not None:
            with contextlib.suppress(sqlite3.Error):
                self._open.close()
            self._open = None

    def _remove(self) -> None:
        for path in (self.path, self.path.with_name(f"{self.path.name}-journal")):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


class UserCache:
    """A file of results that all commands of a user share; a subclass says of what.

    Args:
        path: The file; it and its folder are made when the first result is kept.
        limit: Bytes that it may take; with 0 nothing is kept.
    """

    #: Name of the file in the user's cache, and what a result is called (see `ByteCache`).
    file: ClassVar[str]
    what: ClassVar[str]

    def __init__(self, path: Path, *, limit: int) -> None:
        self._bytes = ByteCache(path, self.what, limit=limit)

    @classmethod
    def of_user(cls) -> Self:
        """The one that all commands of this user share.

        Raises:
            ConfigError: `AUSCULT_CACHE_MB` is no number.
        """
        return cls(cache_home() / cls.file, limit=cache_limit())

    @property
    def path(self) -> Path:
        """The file."""
        return self._bytes.path

    def kept(self) -> Kept:
        """How much there is."""
        return self._bytes.kept()

    def clear(self) -> None:
        """Remove all of it."""
        self._bytes.clear()

    def close(self) -> None:
        """Close the file; the next question opens it again."""
        self._bytes.close()


def key_of(*parts: bytes | memoryview) -> bytes:
    """A key of what a value follows from; parts of varying length belong last."""
    return _hash(KEY, *parts)


def _hash(size: int, *parts: bytes | memoryview) -> bytes:
    digest = hashlib.blake2b(digest_size=size)
    for part in parts:
        digest.update(part)
    return digest.digest()


def _used_bytes(base: sqlite3.Connection) -> int:
    facts = [
        base.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size")
    ]
    return int((facts[0] - facts[1]) * facts[2])


def _checksum(key: bytes, value: bytes) -> bytes:
    return _hash(_SUM, key, value)
