"""Recordings at a time of day, remembered in the state directory until they are all done."""

from __future__ import annotations

import contextlib
import fcntl
import json
import re
import secrets
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from agent.collect.spool import CollectOrder
from agent.core.errors import AuscultError
from agent.core.schema import Strict, explain, spelt
from agent.core.storage import write_json

# A device that was off at the time still records when it is up again within so long, seconds.
_LATE = 900.0
_MOST = 100
# Of one machine, and what they may record a day: one after another, no more than there is time.
_MOST_OF_MACHINE, _DAY_SECONDS = 12, 86_400.0
TIME_OF_DAY = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")
MOST_DAYS = 3660


class Schedule(Strict):
    """One entry of `collect/schedules.json`."""

    name: Annotated[
        str,
        Field(
            pattern=spelt(r"^[0-9a-f]{6}$", "6 of the characters 0 to 9 and a to f"),
            description="To cancel it by",
        ),
    ]
    at: Annotated[
        str,
        Field(
            pattern=spelt(TIME_OF_DAY.pattern, "a time of day as HH:MM"),
            description="HH:MM, this device's local time",
        ),
    ]
    times: Annotated[int, Field(ge=0, le=MOST_DAYS, description="How often still")]
    last: Annotated[str, Field(description="Day of the latest, YYYY-MM-DD; empty before")] = ""
    order: CollectOrder


_SCHEDULES = TypeAdapter(tuple[Schedule, ...])


class Schedules:
    """The entries of one state directory. The command adds and cancels, the agent carries out.

    Args:
        path: `collect/schedules.json`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def all(self) -> tuple[Schedule, ...]:
        """The entries.

        Raises:
            AuscultError: The file is damaged.
        """
        try:
            return _SCHEDULES.validate_python(json.loads(self._path.read_bytes()), strict=False)
        except FileNotFoundError:
            return ()
        except OSError as fault:
            raise AuscultError(f"cannot be read: {fault.strerror}", where=self._path) from fault
        except (ValidationError, ValueError, RecursionError) as fault:
            what = explain(fault) if isinstance(fault, ValidationError) else str(fault)
            raise AuscultError(
                f"is damaged: {what}", where=self._path, remedy="Remove it and schedule again."
            ) from fault

    def add(self, at: str, times: int, order: CollectOrder) -> Schedule:
        """Record at `HH:MM` on so many days.

        Raises:
            AuscultError: The time is none, there are too many entries, or they would record for
                more than a day a day.
        """
        if not TIME_OF_DAY.fullmatch(at):
            raise AuscultError(f"'{at}' is not a time of day", remedy="Write it as HH:MM.")
        with self._alone():
            present = self.all()
            of_machine = [entry for entry in present if entry.order.machine == order.machine]
            if len(present) >= _MOST:
                raise AuscultError(f"there are {_MOST} schedules already", remedy="Cancel some.")
            if len(of_machine) >= _MOST_OF_MACHINE:
                raise AuscultError(
                    f"there are {len(of_machine)} schedules of '{order.machine}' already",
                    remedy="Cancel some.",
                )
            seconds = order.seconds + sum(entry.order.seconds for entry in of_machine)
            if seconds > _DAY_SECONDS:
                raise AuscultError(
                    f"the schedules of '{order.machine}' would record {seconds / 3600.0:.1f} hours "
                    "a day",
                    remedy="Record for a shorter time, or cancel some.",
                )
            entry = Schedule(name=secrets.token_hex(3), at=at, times=times, order=order)
            self._save((*present, entry))
        return entry

    def cancel(self, name: str, *, machine: str | None = None) -> None:
        """Take an entry out.

        Args:
            name: The entry's.
            machine: Only one of this machine; None for any.

        Raises:
            AuscultError: There is none of that name.
        """
        with self._alone():
            present = self.all()
            left = tuple(
                entry
                for entry in present
                if entry.name != name or (machine is not None and entry.order.machine != machine)
            )
            if len(left) == len(present):
                raise AuscultError(
                    f"there is no schedule '{name}'", remedy="See `auscult collect --list`."
                )
            self._save(left)

    def due(self, now: datetime) -> list[Schedule]:
        """Take what is due: each entry once a day, marked on the disk before it is given.

        Args:
            now: Local time.

        Raises:
            AuscultError: The file is damaged or cannot be written.
        """
        with self._alone():
            present = list(self.all())
            days = {entry.name: _due_day(entry, now) for entry in present}
            found = [entry for entry in present if days[entry.name] not in {"", entry.last}]
            if found:
                marked = (
                    entry.model_copy(update={"last": days[entry.name], "times": entry.times - 1})
                    if entry in found
                    else entry
                    for entry in present
                )
                self._save(tuple(entry for entry in marked if entry.times > 0))
        return found

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep the other process out (the command, the agent) from reading to writing.

        Raises:
            AuscultError: The folder cannot be written to.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            lock = self._path.with_suffix(".lock").open("a")
        except OSError as fault:
            raise AuscultError(
                f"cannot be written: {fault.strerror}",
                where=self._path.parent,
                remedy="Check the permissions of the state directory.",
            ) from fault
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _save(self, entries: tuple[Schedule, ...]) -> None:
        write_json(self._path, [entry.model_dump(mode="json") for entry in entries])


def _due_day(entry: Schedule, now: datetime) -> str:
    """The day whose turn it is, YYYY-MM-DD, soon after midnight perhaps yesterday; else empty."""
    hour, minute = map(int, entry.at.split(":"))
    when = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
    if when > now:
        when -= timedelta(days=1)
    return when.strftime("%Y-%m-%d") if (now - when).total_seconds() <= _LATE else ""
