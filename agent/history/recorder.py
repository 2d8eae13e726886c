"""Keeps the past of every machine: hears what is told of it, and writes it once a minute."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from agent.core.clock import WALL_CLOCK, ClockQuality
from agent.core.cloud_event import Message
from agent.core.errors import AuscultError
from agent.core.records import Decision
from agent.history.bucket import STEPS, Bucket, bucket_of, second_of
from agent.history.store import Key, PastFile, Told
from agent.history.why import RAISING
from agent.publish.route import Promise
from agent.publish.telling import Telling

log = logging.getLogger(__name__)

_Found = TypeVar("_Found")
_Asked = ParamSpec("_Asked")

_FLUSH_SECONDS = 60.0
_THIN_SECONDS = 600.0
# What a full disk leaves in memory: some hours of seconds, then the oldest goes.
_WAITING = 20_000
_EVENTS_WAITING = 1000
_STOP_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Range:
    """How a stretch of the past is shown.

    Attributes:
        seconds: Its length.
        step: What is read.
        by: Length of a point, seconds.
    """

    seconds: int
    step: int
    by: int


RANGES = {
    "hour": Range(3600, 1, 2),
    "day": Range(86_400, 60, 60),
    "month": Range(31 * 86_400, 60, 1800),
    "year": Range(366 * 86_400, 3600, 6 * 3600),
}


class HistoryRecorder:
    """A publisher that remembers in numbers. Its caller never waits for the disk.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._file = PastFile(path)
        self._disk = threading.Lock()  # held while the file is used
        self._lock = threading.Lock()  # held while what waits is touched
        self.waiting: dict[Key, Bucket] = {}
        self._latest: dict[str, tuple[int, Bucket]] = {}  # by machine, its latest window
        self._events: deque[Told] = deque(maxlen=_EVENTS_WAITING)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._failing = False
        self._thin_due = 0.0

    def start(self) -> None:
        """Begin to write."""
        self._thread = threading.Thread(target=self._run, name="history", daemon=True)
        self._thread.start()

    def handle(self, telling: Telling) -> None:
        """Take into account what the history keeps."""
        for kind, message in telling.messages:
            if kind.history and kind.route.promise is Promise.EVENT:
                self._tell(telling.machine, message)
            elif kind.history:
                happened = telling.happened
                called = isinstance(happened, Decision) and happened.score.window.called
                self._count(kind.topic, telling.machine, message, called=called)

    def _count(self, kind: str, machine: str, message: Message, *, called: bool) -> None:
        found = bucket_of(kind, message)
        if found is None:
            return
        second = second_of(message["time"])
        with self._lock:
            if kind == "score":
                for at, spoken in self._spoken_for(machine, second, message, found, called=called):
                    self._join(machine, at, spoken)
            self._join(machine, second, found)
            while len(self.waiting) > _WAITING:
                self.waiting.pop(next(iter(self.waiting)))

    def _spoken_for(
        self, machine: str, second: int, message: Message, found: Bucket, *, called: bool
    ) -> list[tuple[int, Bucket]]:
        """The seconds between a window's end and the one before: no window ends there, and yet
        they were heard. This one speaks for them; the one before, where its end called for it.
        """
        before = self._latest.get(machine)
        self._latest[machine] = (second, found)
        if before is None:
            return []
        first = max(before[0] + 1, second - int(message.get("seconds", 0)) + 1)
        spoken = before[1] if called else found
        return [(at, replace(spoken)) for at in range(first, second)]

    def _join(self, machine: str, second: int, found: Bucket) -> None:
        for step in STEPS:
            key = (step, machine, second // step * step)
            # Its own: each step's grows by itself.
            self.waiting.setdefault(key, Bucket()).join(found)

    def read(
        self, machine: str, name: str, end: float | None = None
    ) -> tuple[Range, list[tuple[int, Bucket]]]:
        """A stretch of a machine's past.

        Args:
            machine: The machine.
            name: One of `RANGES`.
            end: Up to, seconds since the epoch; None for now.

        Returns:
            How it is shown, and its points in order; what was not heard is left out.

        Raises:
            AuscultError: The disk does not give it.
        """
        wanted, now = RANGES[name], time.time()
        step, by = wanted.step, wanted.by
        if end is not None and end - wanted.seconds < now - 3600 and step == 1:
            step, by = 60, 60  # seconds are kept for the latest hour alone
        until = int(now if end is None else end) // by * by + by
        points = self.ask(PastFile.read, machine, step, until - wanted.seconds, until, by)
        return Range(wanted.seconds, step, by), points

    def trend(self, machine: str, seconds: int, by: int) -> list[tuple[int, Bucket]]:
        """A machine's latest past in few points.

        Args:
            machine: The machine.
            seconds: How much of it, a month at most.
            by: Length of a point, whole minutes in seconds.

        Raises:
            AuscultError: The disk does not give it.
        """
        until = int(time.time()) // by * by + by
        return self.ask(PastFile.read, machine, 60, until - seconds, until, by)

    def ask(
        self, read: Callable[Concatenate[PastFile, _Asked], _Found],
        *args: _Asked.args, **fields: _Asked.kwargs,
    ) -> _Found:  # fmt: skip
        """Read the file, with what waits written to it first.

        Args:
            read: One of `PastFile`'s ways to be read, or `why_of`.
            args: What it takes.
            fields: Likewise.

        Raises:
            AuscultError: The disk does not give it.
        """
        try:
            with self._disk:
                self._flush()
                return read(self._file, *args, **fields)
        except (OSError, sqlite3.Error) as fault:
            raise AuscultError(f"the past cannot be read: {fault}") from fault

    def stop(self) -> None:
        """Write what waits. Idempotent."""
        self._stop.set()
        if self._thread is None:
            return
        self._thread.join(_STOP_SECONDS)
        self._thread = None
        with self._disk:
            self._write()
            self._file.close()

    def state(self) -> str:
        """A few words when the disk refuses."""
        return "the history is not kept: the disk refuses it" if self._failing else ""

    def _run(self) -> None:
        while not self._stop.wait(_FLUSH_SECONDS):
            with self._disk:
                self._write()

    def _write(self) -> None:
        """Write what waits, and thin out now and then; a fault is told once."""
        try:
            self._flush()
            if time.monotonic() >= self._thin_due:
                self._thin_due = time.monotonic() + _THIN_SECONDS
                sure = WALL_CLOCK.quality is ClockQuality.SYNCHRONISED
                self._file.thin(time.time() if sure else None)
        except (OSError, sqlite3.Error) as fault:
            if not self._failing:
                log.warning("history: cannot be written: %s", fault)
            self._failing = True
        else:
            self._failing = False

    def _tell(self, machine: str, message: Message) -> None:
        data = message["data"]
        reason = data.get("reason") if data["event"] in RAISING else None
        told = Told(
            machine, second_of(data["time"]), data["event"], data["operator"],
            data["note"] or ("" if reason is None else reason["text"]),
            data["alarm_id"] or "",
        )  # fmt: skip
        with self._lock:
            self._events.append(told)

    def _flush(self) -> None:
        with self._lock:
            taken, self.waiting = self.waiting, {}
            events = tuple(self._events)
        try:
            if events:
                self._file.tell(events)
                with self._lock:
                    for event in events:
                        # What is full has dropped its oldest meanwhile.
                        if self._events and self._events[0] == event:
                            self._events.popleft()
            if taken:
                self._file.add(taken)
        except BaseException:
            self._put_back(taken)
            raise

    def _put_back(self, taken: dict[Key, Bucket]) -> None:
        with self._lock:
            for key, newer in self.waiting.items():
                taken.setdefault(key, Bucket()).join(newer)
            self.waiting = taken
