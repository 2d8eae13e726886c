"""Opens the plant's database: SQLite in a file, or PostgreSQL."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, cast

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from agent.core.errors import AuscultError

_SQLITE_WAIT_SECONDS = 30.0
_CONNECT_SECONDS = 5
# An instance that waits for another's locks asks again rather than hang.
_LOCK_MILLISECONDS = 20_000
_AWAY = re.compile(
    r"(deadlock detected|could not serialize|lock timeout|shutting down)", re.IGNORECASE
)


class StoreError(AuscultError):
    """The plant's database cannot be used."""


class Insert(Protocol):
    """What both databases' INSERT can do with a row that is there already."""

    excluded: Any

    def on_conflict_do_nothing(self, *args: Any, **options: Any) -> Any: ...
    def on_conflict_do_update(self, *args: Any, **options: Any) -> Any: ...


class Database:
    """Connections to the database, for writers and for readers.

    Args:
        url: `sqlite:///FILE` or `postgresql://USER@HOST/NAME`.
        password: Of PostgreSQL's user; None where the URL or the server needs none.

    Raises:
        StoreError: The URL cannot be understood.
    """

    def __init__(self, url: str, password: str | None = None) -> None:
        try:
            parsed = sa.make_url(url)
        except ArgumentError as fault:
            raise _no_url(url) from fault
        if parsed.drivername in {"postgresql", "postgres"}:
            parsed = parsed.set(drivername="postgresql+psycopg")
        if parsed.get_backend_name() not in {"sqlite", "postgresql"}:
            raise _no_url(url)
        if password is not None:
            parsed = parsed.set(password=password)
        self.url = parsed
        self.postgresql = parsed.get_backend_name() == "postgresql"
        if self.postgresql:
            self._reader = self._writer = _postgresql(parsed)
        else:
            self._reader, self._writer = (
                _sqlite(parsed, "BEGIN"),
                _sqlite(parsed, "BEGIN IMMEDIATE"),
            )

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A transaction that only reads."""
        with self._reader.begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A transaction that writes; committed, and on the disk, when it ends without an error."""
        with self._writer.begin() as connection:
            yield connection

    def insert(self, table: sa.Table) -> Insert:
        """An INSERT that knows what to do with a row that is there already."""
        made = postgresql.insert(table) if self.postgresql else sqlite.insert(table)
        return cast(Insert, made)

    def close(self) -> None:
        """Close every connection. Idempotent."""
        self._writer.dispose()
        self._reader.dispose()

    def __str__(self) -> str:
        """Where it is, without its password."""
        return self.url.render_as_string(hide_password=True)


def away(fault: BaseException) -> bool:
    """Whether a fault is of the database (away, busy, full), not of what was to be written."""
    if isinstance(fault, PoolTimeoutError | OSError):
        return True
    if isinstance(fault, OperationalError | InterfaceError):
        return True
    return isinstance(fault, DBAPIError) and (
        fault.connection_invalidated or _AWAY.search(str(fault.orig)) is not None
    )


def wait_for(database: Database, seconds: float) -> None:
    """Wait until the database answers.

    Raises:
        StoreError: It does not, for so long.
    """
    deadline = time.monotonic() + seconds
    while (fault := _asked(database)) is not None:
        if time.monotonic() > deadline:
            raise StoreError(
                f"the database does not answer ({first_line(fault)})",
                where=str(database),
                remedy="Check `database.url` and its password file, and that it runs.",
            ) from fault
        time.sleep(0.5)


def _asked(database: Database) -> Exception | None:
    """Why the database does not answer; None when it does."""
    try:
        with database.reading() as connection:
            connection.execute(sa.text("SELECT 1"))
    except (DBAPIError, OSError) as fault:
        return fault
    return None


def first_line(fault: BaseException) -> str:
    """What a database's driver says, in a line."""
    said = str(getattr(fault, "orig", None) or fault).strip()
    return said.splitlines()[0] if said else type(fault).__name__


def _no_url(url: str) -> StoreError:
    shown = re.sub(r"://[^@/]*@", "://***@", url)
    return StoreError(
        f"{shown!r} is no address of a database",
        remedy="Give `database.url` as sqlite:///plant.db or postgresql://USER@HOST/NAME.",
    )


def _postgresql(url: sa.URL) -> sa.Engine:
    return sa.create_engine(
        url,
        pool_size=5,
        max_overflow=15,
        pool_timeout=10,
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": _CONNECT_SECONDS,
            "options": f"-c lock_timeout={_LOCK_MILLISECONDS} -c timezone=UTC",
            "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3,
            "application_name": "auscult plant",
        },
    )  # fmt: skip


def _sqlite(url: sa.URL, begin: str) -> sa.Engine:
    place = url.database
    if place and place != ":memory:":
        folder = Path(place).parent
        if not folder.is_dir():
            raise StoreError(
                "the folder of the database is not there", where=folder,
                remedy="Create it, or change `database.url`.",
            )  # fmt: skip
    engine = sa.create_engine(url, connect_args={"timeout": _SQLITE_WAIT_SECONDS})

    @sa.event.listens_for(engine, "connect")
    def _connected(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions begin as we say, not as sqlite3 guesses
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")  # what was acknowledged survives a power cut

    @sa.event.listens_for(engine, "begin")
    def _begun(connection: sa.Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine
