"""From the broker into the database: read, written in batches, and only then acknowledged."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone

from sqlalchemy.exc import SQLAlchemyError

from agent.core.broker import BrokerConfig
from agent.core.errors import AuscultError
from plant.store.database import Database, away, first_line
from plant.watch.config import WatchConfig
from plant.watch.link import Incoming, Link
from plant.watch.machines import Machines
from plant.watch.reading import EVENTS, TOPICS, Refused, Score, Taken, read
from plant.watch.scores import Scores
from plant.watch.write import Writer
from plant.watch.write_scores import ScoresWriter

log = logging.getLogger(__name__)

_WAIT_LEAST, _WAIT_MOST = 0.5, 15.0
_POLL_SECONDS = 0.05
# Messages on their way to us beside those being written, in batches.
_AHEAD_BATCHES = 4
# Scores are written so many machines at a time, between batches.
_MACHINES_AT_ONCE = 100
# Written late, latencies of so many messages are remembered for the metrics.
_REMEMBERED = 1000


@dataclass(slots=True)
class Counts:
    """What became of messages since the start.

    Attributes:
        messages: Taken from the broker.
        events: Events written that were new.
        refused: Messages that could not be read.
        failures: Times the database did not take a batch.
        connections: To the broker.
        written: Seconds from a message's arrival to its commit, the latest thousand.
    """

    messages: int = 0
    events: int = 0
    refused: int = 0
    failures: int = 0
    connections: int = 0
    written: deque[float] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))


@dataclass(slots=True)
class _Batch:
    """Messages that wait to be written together."""

    read: list[Taken | Refused] = field(default_factory=list)
    came: list[Incoming] = field(default_factory=list)
    began: float = 0.0


class Ingest:
    """Listens to devices as one of a group, until it is stopped.

    Args:
        broker: Where they publish.
        watch: How they are listened to.
        database: Migrated.
        client_id: This instance's, the same at each start.
        stopping: Ends it.
        beat: Called each second or so from the same thread; must not raise.
        session_only: Take what the broker has kept for this client and nothing new, and end: how
            an instance that is gone is emptied.
    """

    def __init__(
        self,
        broker: BrokerConfig,
        watch: WatchConfig,
        database: Database,
        client_id: str,
        *,
        stopping: threading.Event,
        beat: Callable[[], None] = lambda: None,
        session_only: bool = False,
    ) -> None:
        self._broker, self._watch = broker, watch
        self._stopping = stopping
        self._beat = beat
        self._session_only = session_only
        machines = Machines(database)
        self._writer, self._scores_writer = (
            Writer(database, machines), ScoresWriter(database, machines),
        )  # fmt: skip
        self._link = Link(
            broker, client_id, session_seconds=round(3600 * watch.session_hours),
            ahead=min(65_535, _AHEAD_BATCHES * watch.commit_messages),
        )  # fmt: skip
        self._batch = _Batch()
        self._scores = Scores()
        self._flushing: deque[Scores] = deque()
        self._scores_due = time.monotonic() + watch.scores_seconds
        self._beat_due = 0.0
        self._retry_at = 0.0
        self._told_away = False
        self.filters = [
            f"{broker.prefix}/{one}"
            if one == EVENTS and watch.events == "every"
            else f"$share/{watch.group}/{broker.prefix}/{one}"
            for one in TOPICS
        ]
        self.counts = Counts()
        #: When there was last more to write than one batch takes, monotonic: it may be behind.
        self.behind_at = time.monotonic()
        #: Whether the broker is there.
        self.connected = False
        #: With `session_only`: everything was written, and the session is ended.
        self.emptied = False

    def run(self) -> None:
        """Listen until stopped. Outages of broker and database are waited out."""
        wait = _WAIT_LEAST
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                self._connect()
                self._serve()
            except AuscultError as fault:
                if self._session_only and self._link.taken_over:
                    log.info("%s is back, and empties its queue itself", self._link.client_id)
                    self._stopping.set()
                    break
                log.warning("%s; trying again", fault)
            finally:
                self.connected = False
                self._link.close()
            self._forget_numbers()
            wait = _WAIT_LEAST if time.monotonic() - began > _WAIT_MOST else min(
                2 * wait, _WAIT_MOST
            )  # fmt: skip
            self._idle(wait)
        self._flush_all()

    def take(self, messages: Sequence[Taken | Refused]) -> None:
        """Write messages that came another way (the broker's retained ones); from this thread.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: The database is away.
        """
        self._write(messages)

    def _connect(self) -> None:
        self._link.open()
        self.counts.connections += 1
        if self._session_only:
            self._link.unsubscribe(self.filters)
        else:
            self._link.subscribe(self.filters, qos=1, retained=False)

    def _heard(self) -> None:
        """The broker lets us hear the devices."""
        self.connected = True
        log.info(
            "listening to %s/# at %s as %s%s", self._broker.prefix, self._broker.host,
            self._link.client_id, ", with what was kept for us" if self._link.resumed else "",
        )  # fmt: skip

    def _serve(self) -> None:
        watch, quiet = self._watch, time.monotonic()
        while not self._stopping.is_set():
            arrived = self._link.turn(_POLL_SECONDS)
            now = time.monotonic()
            if self._link.subscribed and not self.connected:
                self._heard()
            if arrived:
                quiet = now
                self._take(arrived, now)
            batch = self._batch
            full = len(batch.read) >= watch.commit_messages
            if full:
                self.behind_at = now
            if batch.read and now >= self._retry_at and (
                full or not arrived or now - batch.began >= watch.commit_seconds
            ):  # fmt: skip
                self._commit()
            if now >= self._scores_due:
                self._flush()
            if self._flushing and now >= self._retry_at:
                self._flush_some()
            if now >= self._beat_due:
                self._beat_due = now + 1.0
                self._beat()
            if self._session_only and not batch.read and now - quiet > 2.0:
                self._finish_session()
                return

    def _take(self, arrived: Sequence[Incoming], now: float) -> None:
        received = datetime.now(timezone.utc)
        batch = self._batch
        if not batch.read:
            batch.began = now
        self.counts.messages += len(arrived)
        for message in arrived:
            found = read(self._broker.prefix, message.topic, message.payload, received)
            if isinstance(found, Taken) and isinstance(found.body, Score):
                self._scores.add(found.body)
                if message.qos:
                    batch.came.append(message)
                continue
            if isinstance(found, Refused):
                self.counts.refused += 1
                log.warning("%s: refused: %s", message.topic, found.reason)
            batch.read.append(found)
            batch.came.append(message)

    def _commit(self) -> None:
        """Write the batch, then acknowledge it; kept and tried again while the database is away."""
        batch = self._batch
        try:
            self._write(batch.read)
        except (SQLAlchemyError, OSError) as fault:
            if not away(fault):
                raise
            self._missed(fault)
            return
        if self._told_away:
            self._told_away = False
            log.info("the database is back")
        self.counts.written.append(time.monotonic() - batch.began)
        self._batch = _Batch()
        self._link.acknowledge(batch.came)

    def _write(self, messages: Sequence[Taken | Refused]) -> None:
        """Write messages; one that no database takes is set aside, and the others are written.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: The database is away.
        """
        try:
            self.counts.events += self._writer.write(messages)
        except Exception as fault:
            if away(fault):
                raise
            if len(messages) > 1:
                middle = len(messages) // 2
                self._write(messages[:middle])
                self._write(messages[middle:])
                return
            found = messages[0]
            if isinstance(found, Refused):
                raise
            log.exception("%s: a message of %s cannot be written", found.topic, found.device)
            topic = "/".join(filter(None, (found.device, found.machine, found.topic)))
            reason = f"the database does not take it: {first_line(fault)}"
            self.counts.refused += 1
            self._writer.write([Refused(topic, reason, found.payload.encode(), found.received)])

    def _flush(self) -> None:
        """Have the scores counted so far written, a few machines at a time: alarms go before."""
        scores, self._scores = self._scores, Scores()
        self._flushing.extend(scores.split(_MACHINES_AT_ONCE))
        self._scores_due = time.monotonic() + self._watch.scores_seconds

    def _flush_some(self) -> bool:
        """Write the scores of a few machines; kept while the database is away.

        Returns:
            Whether the database took them.
        """
        scores = self._flushing.popleft()
        try:
            self._scores_writer.write(scores)
        except (SQLAlchemyError, OSError) as fault:
            if not away(fault):
                log.exception("scores cannot be written")
                return True
            self._missed(fault)
            self._scores.merge(scores)
            return False
        return True

    def _flush_all(self) -> None:
        """Write every score counted so far, at the end."""
        self._flush()
        while self._flushing:
            if not self._flush_some():
                log.warning("scores of the last moments are lost: the database is away")
                return

    def _missed(self, fault: BaseException) -> None:
        self.counts.failures += 1
        self._retry_at = time.monotonic() + _WAIT_LEAST
        if not self._told_away:
            self._told_away = True
            log.warning(
                "the database does not answer (%s); the broker keeps what devices tell until it "
                "does", first_line(fault),
            )  # fmt: skip

    def _idle(self, seconds: float) -> None:
        """Wait for the broker; what has come is written meanwhile."""
        deadline = time.monotonic() + seconds
        while not self._stopping.is_set() and (left := deadline - time.monotonic()) > 0:
            self._beat()
            if self._batch.read:
                try:
                    self._commit()
                except AuscultError:
                    log.debug("not acknowledged: the connection is lost")
            self._stopping.wait(min(1.0, left))

    def _forget_numbers(self) -> None:
        """A new connection numbers messages anew: those of the old one come again."""
        self._batch.came.clear()

    def _finish_session(self) -> None:
        """Nothing is kept for this client any more: end its session."""
        self._flush_all()
        self._link.close(end_session=True)
        self.emptied = True
        self._stopping.set()
