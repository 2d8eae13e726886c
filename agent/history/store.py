"""The file of the past: one SQLite table, added to in few transactions, and thinned out."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import TypeAlias

from agent.core.clock import utc
from agent.history.bucket import STEPS, Bucket
from agent.history.migrate import to_scale

log = logging.getLogger(__name__)

Key: TypeAlias = tuple[int, str, int]
"""Step in seconds, machine, start of the step in seconds since the epoch."""

_VERSION = 2
_COLUMNS = tuple(field.name for field in fields(Bucket))
_KINDS = {"windows": "INTEGER", "scored": "INTEGER", "exceeded": "INTEGER", "level": "INTEGER",
          "running": "INTEGER", "idle": "INTEGER", "invalid": "TEXT",
          "estimated": "INTEGER NOT NULL DEFAULT 0"}  # fmt: skip
_SCHEMA = f"""
CREATE TABLE past (step INTEGER, machine TEXT, start INTEGER,
  {", ".join(f"{name} {_KINDS.get(name, 'REAL')}" for name in _COLUMNS)},
  PRIMARY KEY (step, machine, start)) WITHOUT ROWID;
PRAGMA user_version = {_VERSION};
"""
# Events of alarms, added to files of any version that lack them.
_TOLD = """
CREATE TABLE IF NOT EXISTS told (machine TEXT, second INTEGER, kind TEXT, operator TEXT, note TEXT,
  alarm TEXT, PRIMARY KEY (machine, second, kind, alarm)) WITHOUT ROWID
"""
_MOST_TOLD = 5000  # a machine
_SUMMED = ("windows", "scored", "score_sum", "exceeded", "running", "idle")
_JOINED = {
    **{name: f"{name} + excluded.{name}" for name in _SUMMED},
    "score_min": "min(coalesce(score_min, excluded.score_min), "
    "coalesce(excluded.score_min, score_min))",
    "score_max": "max(coalesce(score_max, excluded.score_max), "
    "coalesce(excluded.score_max, score_max))",
    "drift": "max(coalesce(drift, excluded.drift), coalesce(excluded.drift, drift))",
    "level": "max(level, excluded.level)",
    "threshold": "coalesce(excluded.threshold, threshold)",
    "drift_threshold": "coalesce(excluded.drift_threshold, drift_threshold)",
    "estimated": "max(estimated, excluded.estimated)",
    "invalid": "CASE excluded.invalid WHEN '' THEN invalid ELSE excluded.invalid END",
}
# Every part below is one of this module's own names; values are bound.
_ADD = (
    f"INSERT INTO past VALUES ({', '.join('?' * (3 + len(_COLUMNS)))}) "  # noqa: S608
    "ON CONFLICT (step, machine, start) DO UPDATE SET "
    + ", ".join(f"{name} = {_JOINED[name]}" for name in _COLUMNS)
)
_READ = """
SELECT start / :by * :by AS place, sum(windows), sum(scored), sum(score_sum), min(score_min),
  max(score_max), max(threshold), sum(exceeded), max(drift), max(drift_threshold), max(level),
  sum(running), sum(idle), max(invalid), max(estimated)
FROM past WHERE step = :step AND machine = :machine AND start >= :begin AND start < :end
GROUP BY place ORDER BY place
"""
# Kept at most, seconds by step; twice as many rows where the clock cannot be believed.
KEPT = {1: 3600 + 120, 60: 31 * 86_400, 3600: 20 * 366 * 86_400}
_DAY = 86_400


@dataclass(frozen=True, slots=True)
class Told:
    """An event of a machine's alarm.

    Attributes:
        machine: The machine.
        second: When, seconds since the epoch.
        kind: What happened, as `EventKind` has it.
        operator: Who asked for it; empty when nobody did.
        note: What they said.
        alarm: The alarm; empty for a muting while all is normal.
    """

    machine: str
    second: int
    kind: str
    operator: str = ""
    note: str = ""
    alarm: str = ""

    @property
    def words(self) -> str:
        """`2026-11-29T10:00:00Z muted by Ann: bearing greased`."""
        by = f" by {self.operator}" if self.operator else ""
        return f"{utc(self.second)} {self.kind}{by}" + (f": {self.note}" if self.note else "")


class PastFile:
    """Opened lazily; a damaged file is moved aside and begun anew. One thread at a time.

    Args:
        path: The file; its folder is made when needed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._db: sqlite3.Connection | None = None

    def add(self, buckets: Mapping[Key, Bucket]) -> None:
        """Join buckets to what is kept, all or none.

        Raises:
            OSError: The disk is full or gone.
            sqlite3.Error: Likewise.
        """
        with self._transaction() as db:
            db.executemany(_ADD, [(*key, *astuple(bucket)) for key, bucket in buckets.items()])

    def tell(self, events: Sequence[Told]) -> None:
        """Keep events of alarms, all or none; one that comes again changes nothing.

        Raises:
            OSError: The disk is full or gone.
            sqlite3.Error: Likewise.
        """
        with self._transaction() as db:
            db.executemany(
                "INSERT OR IGNORE INTO told VALUES (?, ?, ?, ?, ?, ?)",
                [astuple(event) for event in events],
            )

    def told(self, machine: str, end: float) -> list[Told]:
        """A machine's events up to a moment, the oldest first.

        Raises:
            OSError: The disk is gone.
            sqlite3.Error: Likewise.
        """
        rows = self._opened().execute(
            "SELECT * FROM told WHERE machine = ? AND second <= ? ORDER BY second", (machine, end)
        )
        return [Told(*row) for row in rows]

    def last_told(self, machine: str) -> Told | None:
        """A machine's latest event; None before the first.

        Raises:
            OSError: The disk is gone.
            sqlite3.Error: Likewise.
        """
        row = self._opened().execute(
            "SELECT * FROM told WHERE machine = ? ORDER BY second DESC LIMIT 1", (machine,)
        ).fetchone()  # fmt: skip
        return None if row is None else Told(*row)

    def ends(self, machine: str) -> dict[str, int]:
        """When each of a machine's alarms was cleared, seconds since the epoch, by its id.

        Raises:
            OSError: The disk is gone.
            sqlite3.Error: Likewise.
        """
        rows = self._opened().execute(
            "SELECT alarm, max(second) FROM told WHERE machine = ? AND kind = 'cleared' "
            "GROUP BY alarm",
            (machine,),
        )
        return dict(rows.fetchall())

    def read(
        self, machine: str, step: int, begin: int, end: int, by: int
    ) -> list[tuple[int, Bucket]]:
        """A stretch of the past.

        Args:
            machine: The machine.
            step: One of `STEPS`.
            begin: From, seconds since the epoch.
            end: Up to, seconds since the epoch.
            by: Steps are joined to this length, seconds.

        Returns:
            Starts and buckets in order; steps without anything are left out.

        Raises:
            OSError: The disk is gone.
            sqlite3.Error: Likewise.
        """
        asked = {"by": by, "step": step, "machine": machine, "begin": begin, "end": end}
        rows = self._opened().execute(_READ, asked).fetchall()
        return [(row[0], Bucket(*row[1:])) for row in rows]

    def thin(self, now: float | None) -> None:
        """Remove what is too old, or too much.

        Args:
            now: Seconds since the epoch; None when the clock cannot be believed: then nothing is
                too old, and only the number of rows is bounded.

        Raises:
            OSError: The disk is full or gone.
            sqlite3.Error: Likewise.
        """
        with self._transaction() as db:
            machines = [row[0] for row in db.execute("SELECT DISTINCT machine FROM past")]
            for machine in machines:
                db.execute(
                    "DELETE FROM told WHERE machine = ?1 AND second <= (SELECT second FROM told "
                    "WHERE machine = ?1 ORDER BY second DESC LIMIT 1 OFFSET ?2)",
                    (machine, _MOST_TOLD),
                )
            for step in STEPS:
                if now is not None:
                    db.execute(
                        "DELETE FROM past WHERE step = ? AND (start < ? OR start > ?)",
                        (step, now - KEPT[step], now + _DAY),
                    )
                for machine in machines:
                    db.execute(
                        "DELETE FROM past WHERE step = ?1 AND machine = ?2 AND start <= (SELECT "
                        "start FROM past WHERE step = ?1 AND machine = ?2 "
                        "ORDER BY start DESC LIMIT 1 OFFSET ?3)",
                        (step, machine, 2 * KEPT[step] // step),
                    )

    def close(self) -> None:
        """Let go of the file. Idempotent."""
        if self._db is not None:
            with contextlib.suppress(sqlite3.Error):
                self._db.close()
            self._db = None

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        db = self._opened()
        try:
            db.execute("BEGIN IMMEDIATE")
            yield db
            db.execute("COMMIT")
        except BaseException as fault:
            with contextlib.suppress(sqlite3.Error):
                db.execute("ROLLBACK")
            if isinstance(fault, sqlite3.DatabaseError):
                # Damage shows up here too: opened anew, the file is checked.
                self.close()
            raise

    def _opened(self) -> sqlite3.Connection:
        if self._db is None:
            try:
                self._db = _open(self._path)
            except sqlite3.DatabaseError as fault:
                if isinstance(fault, sqlite3.OperationalError):
                    raise
                aside = self._path.with_name(self._path.name + ".damaged")
                log.warning("%s is damaged (%s): kept as %s, begun anew", self._path, fault, aside)
                self._path.replace(aside)
                for end in ("-wal", "-shm"):
                    self._path.with_name(self._path.name + end).unlink(missing_ok=True)
                self._db = _open(self._path)
        return self._db


def _open(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    db = sqlite3.connect(path, timeout=2.0, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        # A power cut may cost the last minute, never the file; each commit is then one write.
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA journal_size_limit = 1000000")
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version == 0:
            db.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
        elif version == 1:
            db.execute("BEGIN IMMEDIATE")
            to_scale(db)
            db.execute("COMMIT")
        elif version != _VERSION:
            raise sqlite3.DatabaseError(f"it is of version {version}")  # noqa: TRY301
        elif db.execute("PRAGMA quick_check").fetchone() != ("ok",):
            raise sqlite3.DatabaseError("it fails SQLite's check")  # noqa: TRY301
        db.execute(_TOLD)
    except BaseException:
        db.close()
        raise
    return db
