"""The outbox's file: how it is opened, what its tables are, and what happens when it is damaged."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import sqlite3
import time
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path

from agent.core.errors import ConfigError
from agent.core.storage import sync
from agent.publish.mqtt_message import MqttMessage
from agent.publish.row import COLUMNS, RowError, message_of

log = logging.getLogger(__name__)

_VERSION = 1
# Rows that are not what was written: kept for whoever wants to look.
_QUARANTINE = """
CREATE TABLE IF NOT EXISTS quarantine (
  seq INTEGER PRIMARY KEY, found REAL NOT NULL, why TEXT NOT NULL, id BLOB, topic BLOB,
  payload BLOB, content_type BLOB
);
"""
_SCHEMA = f"""
CREATE TABLE event (
  seq INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  topic TEXT NOT NULL,
  payload BLOB NOT NULL,
  content_type TEXT NOT NULL,
  created REAL NOT NULL,
  delivered REAL,
  checksum TEXT
);
CREATE INDEX undelivered ON event (seq) WHERE delivered IS NULL;
CREATE INDEX delivered ON event (seq) WHERE delivered IS NOT NULL;
CREATE TABLE note (key TEXT PRIMARY KEY, value TEXT NOT NULL);
{_QUARANTINE}
PRAGMA user_version = {_VERSION};
"""
_BUSY_SECONDS = 5.0
_WAL_BYTES = 1_000_000
# Damaged files are kept for whoever wants to look, but a disk must not fill with them.
_DAMAGED_KEPT = 3


class DamagedError(Exception):
    """The file is no outbox, or not a whole one."""


def open_database(path: Path, *, check: bool) -> sqlite3.Connection:
    """Open the file, made when it isn't there.

    A transaction that has been committed is on the disk: write-ahead log, synchronised at every
    commit (`synchronous=FULL`).

    Args:
        path: The file; its folder is made too.
        check: Read it all, to find damage (for a bounded file a fraction of a second).

    Raises:
        DamagedError: It is not a whole outbox.
        sqlite3.Error: It cannot be opened now: a full disk, no permission.
        OSError: The folder cannot be made.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    db = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        # Without others to share with, SQLite needs no file for that: what is on a full disk can
        # then still be read.
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        if db.execute("PRAGMA page_count").fetchone() == (0,):
            # For a new file only: on an old one this writes, which a full disk would refuse.
            db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
        _begin(db, path)
        if check:
            _check(db)
    except BaseException as fault:
        with contextlib.suppress(sqlite3.Error):
            db.close()
        if is_damage(fault):
            raise DamagedError(str(fault)) from fault
        raise
    return db


def _begin(db: sqlite3.Connection, path: Path) -> None:
    """Make the tables of a new file; refuse one that holds something else."""
    ((version,),) = db.execute("PRAGMA user_version").fetchall()
    if version == 0:
        ((tables,),) = db.execute("SELECT count(*) FROM sqlite_schema").fetchall()
        if tables:
            raise DamagedError("it is a database of something else")
        db.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}COMMIT;")
        sync(path.parent)  # a new file must still be there after a power cut
    elif version != _VERSION:
        raise DamagedError(f"its layout is {version}, this auscult knows {_VERSION}")
    db.execute(
        "SELECT seq, id, topic, payload, content_type, created, delivered FROM event LIMIT 0"
    )
    columns = [column[1] for column in db.execute("PRAGMA table_info(event)")]
    if "checksum" not in columns:
        # Of an earlier auscult, which takes the file with this column as well: rows without a
        # checksum are as good as they look.
        db.executescript(
            f"BEGIN IMMEDIATE;ALTER TABLE event ADD COLUMN checksum TEXT;{_QUARANTINE}COMMIT;"
        )
    db.execute("SELECT key, value FROM note LIMIT 0")


def _check(db: sqlite3.Connection) -> None:
    ((verdict,), *_) = db.execute("PRAGMA integrity_check(1)").fetchall()
    if verdict != "ok":
        raise DamagedError(" ".join(verdict.split()))


def is_damage(fault: BaseException) -> bool:
    """Whether trying again is of no use: the file's content is at fault, not the disk's state."""
    if isinstance(fault, sqlite3.OperationalError):
        return str(fault).startswith("no such")
    return isinstance(fault, DamagedError) or (
        isinstance(fault, sqlite3.DatabaseError)
        and not isinstance(fault, (sqlite3.IntegrityError, sqlite3.ProgrammingError))
    )


def set_aside(path: Path) -> Path:
    """Rename a damaged file, so that a new one can begin.

    Args:
        path: The damaged file; its write-ahead log goes with it.

    Returns:
        Its new name.

    Raises:
        OSError: It cannot be renamed.
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    aside, number = path.with_name(f"{path.name}.damaged-{stamp}"), 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.damaged-{stamp}-{number}")
    path.replace(aside)
    for suffix in ("-wal", "-shm"):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.replace(aside.with_name(aside.name + suffix))
    found = path.parent.glob(f"{path.name}.damaged-*")
    earlier = [file for file in found if not file.name.endswith(("-wal", "-shm"))]
    # The clock may have jumped between them; renaming sets the time of the last change.
    earlier.sort(key=lambda file: file.stat().st_ctime_ns)
    for old in earlier[:-_DAMAGED_KEPT]:
        for suffix in ("", "-wal", "-shm"):
            old.with_name(old.name + suffix).unlink(missing_ok=True)
    return aside


def salvage(path: Path) -> list[MqttMessage]:
    """The undelivered events that can still be read from a damaged file, in order.

    It is read from both ends, up to where the damage lies.
    """
    found: dict[int, MqttMessage] = {}
    try:
        db = sqlite3.connect(path)
    except sqlite3.Error:
        return []
    with contextlib.closing(db):
        for order in ("ASC", "DESC"):
            with contextlib.suppress(sqlite3.Error):
                found.update(_rows(db, order))
    return [found[seq] for seq in sorted(found)]


def _rows(db: sqlite3.Connection, order: str) -> Iterator[tuple[int, MqttMessage]]:
    checksum = "checksum" if _has_checksum(db) else "NULL"
    rows = db.execute(
        f"SELECT {COLUMNS}, {checksum} FROM event NOT INDEXED "  # noqa: S608 - ours
        f"WHERE delivered IS NULL ORDER BY seq {order}"
    )
    while True:
        try:
            row = rows.fetchone()
        except (sqlite3.Error, ValueError):
            return
        if row is None:
            return
        with contextlib.suppress(RowError):
            yield row[0], message_of(row)


def _has_checksum(db: sqlite3.Connection) -> bool:
    return any(column[1] == "checksum" for column in db.execute("PRAGMA table_info(event)"))


def lock(path: Path) -> TextIOWrapper:
    """Hold a folder's outbox for this process, until the file given is closed or the process ends.

    Raises:
        ConfigError: Another process holds it.
        OSError: The file cannot be made.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = path.open("a", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as fault:
        file.close()
        raise ConfigError(
            "another agent uses this folder",
            where=path.parent,
            remedy="Stop it, or give this one a `state_dir` of its own.",
        ) from fault
    except OSError:
        file.close()
        raise
    return file
