"""What goes on beside listening: signs of life, retained states, queues of the dead, old rows."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from agent.core.broker import BrokerConfig
from agent.core.errors import AuscultError
from plant.store.database import Database, away, first_line
from plant.store.many import forget
from plant.store.tables import COMMANDS, EVENTS, INSTANCES, REFUSED, SCORES
from plant.watch.again import Resend
from plant.watch.config import DatabaseConfig, WatchConfig
from plant.watch.ingest import Ingest
from plant.watch.machines import Machines
from plant.watch.retained import retained_states
from plant.watch.write import Writer
from plant.watch.write_scores import forget_open

log = logging.getLogger(__name__)

_BEAT_SECONDS = 5.0
_TURN_SECONDS = 0.5
_RESEND_SECONDS = 5.0
# Whoever has more to read than can be written at once does not know what is missing.
_CAUGHT_UP_SECONDS = 10.0
_TIDY_SECONDS = 3600.0
# An instance whose ingest has not turned for so long is stuck: it gives no sign of life.
_STUCK_SECONDS = 60.0
# Who began to empty a dead instance's queue and died over it is given up after so long.
_ADOPTION = timedelta(minutes=5)
_MOST_REFUSED = 10_000
_CHUNK = 10_000


class Keeper:
    """One instance's chores, in a thread of its own.

    Args:
        broker: Where devices publish.
        watch: How they are listened to.
        keep: How long rows are kept.
        database: Migrated.
        client_id: This instance's.
        alive: When its ingest turned last (monotonic, seconds).
        listening: Whether its ingest is connected.
        behind_at: When its ingest had last more to write than one batch takes (monotonic, seconds).
        stopping: Ends it.
    """

    def __init__(
        self,
        broker: BrokerConfig,
        watch: WatchConfig,
        keep: DatabaseConfig,
        database: Database,
        client_id: str,
        *,
        alive: Callable[[], float],
        listening: Callable[[], bool],
        behind_at: Callable[[], float],
        stopping: threading.Event,
    ) -> None:
        self._broker, self._watch, self._keep = broker, watch, keep
        self._database, self._client_id = database, client_id
        self._alive, self._listening, self._stopping = alive, listening, stopping
        self._behind_at = behind_at
        self._resend = Resend(broker, database)
        self._writer = Writer(database, Machines(database))
        self._steady_since: float | None = None  # since when signs of life were written
        self._beat_due = self._tidy_due = self._resend_due = 0.0
        self._states_due: float | None = None  # at the next connection
        self._adopting: threading.Thread | None = None

    def run(self) -> None:
        """Do chores until stopped."""
        while not self._stopping.wait(_TURN_SECONDS):
            self._try()
        if self._adopting is not None:
            self._adopting.join()

    def _try(self) -> None:
        """A turn; outages of broker and database are waited out."""
        try:
            self._turn(time.monotonic())
        except AuscultError as fault:
            log.warning("%s", fault)
        except (SQLAlchemyError, OSError) as fault:
            if not away(fault):
                log.exception("the database refuses a chore")
            self._steady_since = None
            self._beat_due = time.monotonic() + _BEAT_SECONDS

    def _turn(self, now: float) -> None:
        if not self._listening():
            self._states_due = None
        elif self._states_due is None or now >= self._states_due:
            self._states_due = now + self._watch.reconcile_seconds
            self._reconcile()
        elif now >= self._resend_due and now - self._behind_at() > _CAUGHT_UP_SECONDS:
            self._resend_due = now + _RESEND_SECONDS
            self._resend.turn()
        if now >= self._beat_due and now - self._alive() < _STUCK_SECONDS:
            self._beat_due = now + _BEAT_SECONDS
            self._beat()
            self._steady_since = self._steady_since or now
            # After an outage all seem dead: who has just come back judges nobody.
            if now - self._steady_since > self._watch.adopt_seconds:
                self._adopt()
        if now >= self._tidy_due:
            self._tidy_due = now + _TIDY_SECONDS
            self._tidy()

    def _reconcile(self) -> None:
        """Write what the broker retains."""
        states, asked = retained_states(self._broker, self._stopping)
        for at in range(0, len(states), self._watch.commit_messages):
            self._writer.write(states[at : at + self._watch.commit_messages])
        log.info("%d retained states read, as of %s", len(states), asked.isoformat(" ", "seconds"))

    def _beat(self) -> None:
        insert = self._database.insert(INSTANCES)
        with self._database.writing() as connection:
            connection.execute(
                insert.on_conflict_do_update(
                    index_elements=["name"],
                    set_={"heard": insert.excluded.heard, "adopter": None, "adopted": None},
                ),
                [{"name": self._client_id, "heard": datetime.now(timezone.utc)}],
            )

    def _adopt(self) -> None:
        """Empty the queue of an instance that is gone, if nobody does."""
        if self._adopting is not None and self._adopting.is_alive():
            return
        now = datetime.now(timezone.utc)
        gone = sa.and_(
            INSTANCES.c.heard < now - timedelta(seconds=self._watch.adopt_seconds),
            sa.or_(INSTANCES.c.adopted.is_(None), INSTANCES.c.adopted < now - _ADOPTION),
        )
        with self._database.writing() as connection:
            row = connection.execute(
                sa.select(INSTANCES).where(gone).order_by(INSTANCES.c.name).limit(1)
            ).first()
            if row is None:
                return
            mine = connection.execute(
                sa.update(INSTANCES)
                .where(INSTANCES.c.name == row.name, gone)
                .values(adopter=self._client_id, adopted=now)
            )
            if not mine.rowcount:
                return
        log.warning(
            "%s was not heard of since %s: what the broker keeps for it is taken over",
            row.name, row.heard.isoformat(" ", "seconds"),
        )  # fmt: skip
        self._adopting = threading.Thread(
            target=self._take_over, args=(row.name, row.heard), name="adopt", daemon=True
        )
        self._adopting.start()

    def _take_over(self, name: str, heard: datetime) -> None:
        stopping = threading.Event()
        ingest = Ingest(
            self._broker, self._watch, self._database, name, stopping=stopping,
            beat=lambda: stopping.set() if self._stopping.is_set() else None, session_only=True,
        )  # fmt: skip
        try:
            ingest.run()
            if ingest.emptied:
                with self._database.writing() as connection:
                    connection.execute(
                        sa.delete(INSTANCES).where(
                            INSTANCES.c.name == name, INSTANCES.c.heard == heard
                        )
                    )
                log.info(
                    "%s: its %d messages are written, and its session is ended", name,
                    ingest.counts.messages,
                )  # fmt: skip
        except (SQLAlchemyError, OSError) as fault:
            log.warning("%s: not taken over yet: %s", name, first_line(fault))
        except Exception:
            log.exception("%s: not taken over", name)

    def _tidy(self) -> None:
        """Forget what is older than is kept, a little at a time."""
        forget_open(self._database)
        now, keep = datetime.now(timezone.utc), self._keep
        for table, column, days in (
            (EVENTS, EVENTS.c.time, keep.events_days),
            (COMMANDS, COMMANDS.c.asked, keep.events_days),
        ):
            self._forget(table, column < now - timedelta(days=days))
        for step, days in ((300, keep.minutes_days), (3600, keep.hours_days)):
            self._forget(
                SCORES,
                sa.and_(SCORES.c.step == step, SCORES.c.start < now - timedelta(days=days)),
            )
        with self._database.reading() as connection:
            last = connection.execute(sa.select(sa.func.max(REFUSED.c.id))).scalar_one()
        if last is not None:
            self._forget(REFUSED, REFUSED.c.id <= last - _MOST_REFUSED)

    def _forget(self, table: sa.Table, old: sa.ColumnElement[bool]) -> None:
        while not self._stopping.is_set():
            with self._database.writing() as connection:
                found = forget(self._database, connection, table, old, _CHUNK)
            if found < _CHUNK:
                return
