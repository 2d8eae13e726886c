"""Embeddings kept in the user's cache, so that a window is embedded once by a graph.

An embedding is found by what it was computed from: every byte of the graph and of the window's
samples, the version of onnxruntime and the instruction sets of the processor, since INT8 differs
between them. A recording that was changed, another rate, channel, hop or window length, another
encoder, precision or checkpoint therefore is another key: nothing stale can be found.

It is one SQLite file, which several processes may use at once. Each value carries a checksum of
itself and its key; one that does not fit is computed again, and a file that is no database any more
is begun anew. A cache that cannot be used (no room, no permission) costs time, never a result.
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

import numpy as np
import onnxruntime

from agent.bundle.seal import file_record
from agent.core.cache_home import cache_home, cache_limit
from agent.core.records import Matrix, Samples
from agent.encode.processor import in_words, this_processor

FILE = "embeddings.sqlite"
# Of what is computed from what: another number here makes all that was kept unknown.
_FORMAT = 1
_KEY, _SUM = 20, 8  # bytes of a key and of a checksum
_WAIT = 10.0  # seconds for another process that writes
# What is over the limit goes, the longest unused first, down to this share of it.
_LEFT = 0.8
# An embedding in use is noted as such once an hour: reading need not write.
_NOTED = 3600
_AT_ONCE = 500  # keys of a query
_SCHEMA = """
CREATE TABLE IF NOT EXISTS embedding (
    key BLOB NOT NULL UNIQUE, used INTEGER NOT NULL, size INTEGER NOT NULL, value BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS embedding_used ON embedding (used, size);
"""
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Kept:
    """What a cache holds.

    Attributes:
        path: Its file.
        count: Embeddings.
        bytes: Of the file.
        limit: Bytes that it may take.
    """

    path: Path
    count: int
    bytes: int
    limit: int


class EmbeddingCache:
    """Embeddings by key, in one file; any thread may ask.

    Args:
        path: The file; it and its folder are made when the first embedding is kept.
        limit: Bytes that it may take; with 0 nothing is kept.
    """

    def __init__(self, path: Path, *, limit: int) -> None:
        self.path = path
        self._limit = limit
        self._turn = threading.Lock()
        self._open: sqlite3.Connection | None = None
        self._broken = limit <= 0

    @classmethod
    def of_user(cls) -> EmbeddingCache:
        """The one that all commands of this user share.

        Raises:
            ConfigError: `AUSCULT_CACHE_MB` is no number.
        """
        return cls(cache_home() / FILE, limit=cache_limit())

    def find(self, keys: Sequence[bytes], dim: int) -> dict[int, Samples]:
        """What is known.

        Args:
            keys: From `window_keys`.
            dim: Length of an embedding.

        Returns:
            By place in `keys`, float32 `(dim,)` each.
        """
        if not self.path.is_file():
            return {}
        found: dict[int, Samples] = {}
        with self._database() as base:
            if base is None:
                return found
            now, stale = int(time.time()), []
            for start in range(0, len(keys), _AT_ONCE):
                some = keys[start : start + _AT_ONCE]
                marks = ",".join("?" * len(some))
                rows = base.execute(
                    f"SELECT key, value, used FROM embedding WHERE key IN ({marks})",  # noqa: S608
                    list(some),
                )
                known = {key: (value, used) for key, value, used in rows}
                for place, key in enumerate(some, start):
                    value, used = known.get(key, (b"", 0))
                    vector = _read(key, value, dim)
                    if vector is not None:
                        found[place] = vector
                        if used < now - _NOTED:
                            stale.append((now, key))
            if stale:
                base.executemany("UPDATE embedding SET used = ? WHERE key = ?", stale)
        return found

    def keep(self, keys: Sequence[bytes], vectors: Matrix) -> None:
        """Keep embeddings; what is over the limit goes, the longest unused first.

        Args:
            keys: From `window_keys`.
            vectors: float32 `(len(keys), dim)`.
        """
        now, rows = int(time.time()), []
        for key, vector in zip(keys, np.ascontiguousarray(vectors, np.float32), strict=True):
            value = vector.tobytes()
            rows.append((key, now, len(value), _checksum(key, value) + value))
        with self._database() as base:
            if base is not None:
                base.executemany("INSERT OR REPLACE INTO embedding VALUES (?, ?, ?, ?)", rows)
                self._evict(base)

    def kept(self) -> Kept:
        """How much there is."""
        count = 0
        if self.path.is_file():
            with self._database() as base:
                if base is not None:
                    ((count,),) = base.execute("SELECT count(*) FROM embedding")
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
            base.executescript(_SCHEMA)
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
            log.warning("embeddings are not kept in %s: %s", self.path, fault)

    def _evict(self, base: sqlite3.Connection) -> None:
        total = _used_bytes(base)
        if total <= self._limit:
            return
        over, gone = total - _LEFT * self._limit, []
        for row, size in base.execute("SELECT rowid, size FROM embedding ORDER BY used, rowid"):
            if over <= 0:
                break
            gone.append((row,))
            over -= size
        base.executemany("DELETE FROM embedding WHERE rowid = ?", gone)
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


def window_keys(graph: str, waveforms: Matrix) -> list[bytes]:
    """What embeddings of windows are found by.

    Args:
        graph: From `graph_name`.
        waveforms: float32 `(n, window_samples)`.
    """
    return [_hash(_KEY, graph.encode(), np.ascontiguousarray(one, np.float32)) for one in waveforms]


def graph_name(path: Path) -> str:
    """What a graph gives here, as a name: digest of its bytes, onnxruntime, processor.

    Args:
        path: The graph; its tensors may lie in `<name>.data` beside it.
    """
    parts = filter(Path.is_file, (path, path.with_name(f"{path.name}.data")))
    files = " ".join(file_record(part).sha256 for part in parts)
    runtime = f"{onnxruntime.__version__} {in_words(this_processor())}"
    return f"{_FORMAT} {files} {runtime}"


def _hash(size: int, first: bytes, second: bytes | Samples) -> bytes:
    digest = hashlib.blake2b(first, digest_size=size)
    digest.update(second if isinstance(second, bytes) else second.data)
    return digest.digest()


def _used_bytes(base: sqlite3.Connection) -> int:
    facts = [
        base.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size")
    ]
    return int((facts[0] - facts[1]) * facts[2])


def _checksum(key: bytes, value: bytes) -> bytes:
    return _hash(_SUM, key, value)


def _read(key: bytes, kept: bytes, dim: int) -> Samples | None:
    value = kept[_SUM:]
    if len(value) != 4 * dim or kept[:_SUM] != _checksum(key, value):
        return None
    return np.frombuffer(value, np.float32).copy()
