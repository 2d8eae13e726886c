"""A machine's recordings divided by time: learn from the earlier, judge on the later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeAlias

from agent.core.errors import ConfigError
from agent.core.name_time import all_name_times, file_time
from agent.core.text import plural
from agent.recordings.model import Machine, Recording

# A share of the healthy recordings, or the moment from which on is judged.
Cut: TypeAlias = float | datetime
_LEAST = 2  # a threshold compares at least so many


@dataclass(frozen=True, slots=True)
class TimeSplit:
    """A machine whose earlier healthy recordings are learnt and whose later ones are judged.

    Attributes:
        machine: The machine so; faulty test recordings stay, whenever they were made.
        cut: Time of the first healthy recording that is judged.
        learnt: Healthy recordings before it.
        judged: Healthy recordings from it on.
        by: `names`, or `files` where names tell no time and the files' own are believed.
    """

    machine: Machine
    cut: datetime
    learnt: int
    judged: int
    by: str

    def words(self) -> str:
        """What was done, for people."""
        source = (
            "the recordings' names tell when"
            if self.by == "names"
            else "names tell no times: the files' times of change are believed, which copying may "
            "have set"
        )
        return (
            f"{self.machine.name}: learnt from {plural(self.learnt, 'healthy recording')} before "
            f"{self.cut:%Y-%m-%d %H:%M:%S}, judged on {self.judged} from then on ({source})"
        )


def parse_cut(text: str) -> Cut:
    """Read a cut: a share such as `0.5`, or a date or time such as `2026-03-26`.

    Raises:
        ConfigError: It is neither.
    """
    try:
        share = float(text)
    except ValueError:
        pass
    else:
        if 0.0 < share < 1.0:
            return share
        raise ConfigError(
            f"{text} is no share of the recordings",
            where="--cut",
            remedy="Give a number between 0 and 1, or a date such as 2026-03-26.",
        )
    try:
        return datetime.fromisoformat(text).replace(tzinfo=None)
    except ValueError as fault:
        raise ConfigError(
            f"{text!r} is neither a share nor a date",
            where="--cut",
            remedy="Give a share such as 0.5, or a date such as 2026-03-26 or 2026-03-26T06:00.",
        ) from fault


def split_by_time(machine: Machine, cut: Cut) -> TimeSplit:
    """Divide a machine's healthy recordings, those kept for tests among them, at a moment.

    A share cuts between two days where there are several, for recordings of a day are alike, and
    never between recordings of one moment; of two cuts equally near, the one that learns more.

    Args:
        machine: Its recordings.
        cut: Where.

    Raises:
        ConfigError: Nothing tells the times, or there is nothing to learn or to judge.
    """
    healthy = [r for r in machine.recordings if _healthy(r)]
    times, by = _times(machine, healthy)
    moment = _moment(machine, times, cut) if isinstance(cut, float) else cut
    early = {r.path for r, time in zip(healthy, times, strict=True) if time < moment}
    late = [time for time in times if time >= moment]
    if len(early) < _LEAST or not late:
        raise ConfigError(
            f"nothing is left to {'learn from' if len(early) < _LEAST else 'judge'}: its healthy "
            f"recordings are of {min(times):%Y-%m-%d %H:%M:%S} to {max(times):%Y-%m-%d %H:%M:%S}",
            where=machine.root,
            remedy="Give a moment between these with --cut.",
        )
    recordings = tuple(
        replace(r, role="normal", label=None)
        if r.path in early
        else replace(r, role="test", label="normal")
        if _healthy(r)
        else r
        for r in machine.recordings
    )
    return TimeSplit(replace(machine, recordings=recordings), min(late), len(early), len(late), by)


def _healthy(recording: Recording) -> bool:
    return recording.role == "normal" or (recording.role == "test" and recording.label == "normal")


def _times(machine: Machine, healthy: Sequence[Recording]) -> tuple[list[datetime], str]:
    if len(healthy) > _LEAST:
        times = all_name_times([r.path.relative_to(machine.root) for r in healthy])
        if times is not None and len(set(times)) > 1:
            return times, "names"
        try:
            changed = [file_time(r.path) for r in healthy]
        except OSError as fault:
            raise ConfigError(
                f"cannot be read: {fault.strerror}", where=fault.filename or machine.root
            ) from fault
        if len({time.replace(microsecond=0) for time in changed}) > 1:
            return changed, "files"
    raise ConfigError(
        f"neither names nor files tell when its {plural(len(healthy), 'healthy recording')} were "
        "made",
        where=machine.root,
        remedy="Put date and time into the names (20260302_234228.wav), or sort the recordings "
        "into folders by day (2026-03-02/).",
    )


def _moment(machine: Machine, times: Sequence[datetime], share: float) -> datetime:
    order = sorted(times)
    days = len({time.date() for time in order}) > 1
    places = [
        i
        for i in range(_LEAST, len(order))
        if order[i] != order[i - 1] and (not days or order[i].date() != order[i - 1].date())
    ]
    if not places:
        raise ConfigError(
            "its healthy recordings cannot be divided by time: the first moment holds all, or the "
            "first day too few",
            where=machine.root,
            remedy="Record on several days, or give the moment with --cut.",
        )
    return order[min(places, key=lambda i: (abs(i / len(order) - share), -i))]
