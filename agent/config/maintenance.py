"""Planned maintenance: when people work on a machine, every week or once, by the configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator, Field, model_validator

from agent.config.time_zone import TimeZone
from agent.core.schema import Strict

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY = timedelta(days=1)


def _text(value: Any) -> Any:
    """What YAML made of a time: `10:00` is 600 to it, and a date with seconds a datetime."""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value // 60:02d}:{value % 60:02d}"
    return value.isoformat() if isinstance(value, date) else value


When = Annotated[str, BeforeValidator(_text)]


class MaintenanceConfig(Strict):
    """A time in which the machine is worked on: nothing heard then counts, and that is told."""

    name: Annotated[
        str, Field(min_length=1, max_length=200, description="What it is called where it is told")
    ] = "planned maintenance"
    days: Annotated[
        tuple[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"], ...],
        Field(description="Every week on these days; empty for once, at the dates below"),
    ] = ()
    begin: Annotated[
        When,
        Field(description='From: `"06:00"` of those days, or once `"2026-12-01T06:00"`'),
    ]
    end: Annotated[
        When,
        Field(
            description="Up to, likewise; of a weekly one, the next day's where it is not after "
            "`begin`"
        ),
    ]
    zone: Annotated[
        TimeZone | None,
        Field(description="Time zone of these, such as Europe/Berlin; null for the device's own"),
    ] = None

    @model_validator(mode="after")
    def _possible(self) -> MaintenanceConfig:
        if self.days:
            for text in (self.begin, self.end):
                _time(text)
        elif _moment(self.end, self._zone) <= _moment(self.begin, self._zone):
            raise ValueError(f"it would end ({self.end}) before it begins ({self.begin})")
        return self

    @property
    def _zone(self) -> tzinfo | None:
        return None if self.zone is None else ZoneInfo(self.zone)

    def near(self, wall: float) -> list[Planned]:
        """Occurrences of the plan that are not over, and begin within eight days.

        Args:
            wall: Now, seconds since the epoch.
        """
        zone = self._zone
        if not self.days:
            found = [(_moment(self.begin, zone), _moment(self.end, zone))]
        else:
            begin, end = _time(self.begin), _time(self.end)
            today = datetime.fromtimestamp(wall, zone).date()
            # Yesterday's may reach over midnight.
            dates = [today + n * _DAY for n in range(-1, 9)]
            found = [
                (_at(day, begin, zone), _at(day + _DAY if end <= begin else day, end, zone))
                for day in dates
                if DAYS[day.weekday()] in self.days
            ]
        return [Planned(self.name, start, stop) for start, stop in found if stop > wall]


@dataclass(frozen=True, slots=True)
class Planned:
    """One occurrence of planned maintenance.

    Attributes:
        name: What it is called.
        begin: From, seconds since the epoch.
        end: Up to.
    """

    name: str
    begin: float
    end: float


class Schedule:
    """All planned maintenance of a machine.

    Args:
        planned: What the configuration has.
    """

    def __init__(self, planned: Sequence[MaintenanceConfig] = ()) -> None:
        self._planned = tuple(planned)
        self._from = self._until = 0.0  # between these nothing begins or ends
        self._now: Planned | None = None

    def at(self, wall: float) -> Planned | None:
        """What is planned for a moment, of several the one that ends last; None for nothing.

        Args:
            wall: The moment, seconds since the epoch.
        """
        if not self._planned:
            return None
        if not self._from <= wall < self._until:
            near = [one for config in self._planned for one in config.near(wall)]
            now = [one for one in near if one.begin <= wall]
            self._now = max(now, key=lambda one: one.end, default=None)
            edges = [edge for one in near for edge in (one.begin, one.end) if edge > wall]
            # The zone's rules may change with the system's, so an hour at most.
            self._from, self._until = wall, min([wall + 3600.0, *edges])
        return self._now


def _time(text: str) -> time:
    try:
        found = time.fromisoformat(text)
    except ValueError as fault:
        raise ValueError(f'{text!r} is no time of day such as "06:00"') from fault
    if found.tzinfo is not None:
        raise ValueError(f"{text!r} has an offset of its own: give `zone` instead")
    return found


def _moment(text: str, zone: tzinfo | None) -> float:
    try:
        found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError as fault:
        raise ValueError(
            f'{text!r} is no date and time such as "2026-12-01T06:00"; for every week give `days`'
        ) from fault
    return (found if found.tzinfo else found.replace(tzinfo=zone)).timestamp()


def _at(day: date, at: time, zone: tzinfo | None) -> float:
    return datetime.combine(day, at, zone).astimezone(timezone.utc).timestamp()
