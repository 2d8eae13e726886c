"""All machines at once: the trend of the last day, and what happened last."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from agent.core.clock import utc
from agent.history.store import PastFile
from agent.web.backend import Backend
from agent.web.endpoint import Asked, Endpoint
from agent.web.overview_models import LastEvent, MachineDay, Overview

_DAY = 86_400
_STEP = 900  # a quarter of an hour: a day is 96 points


def overview_endpoints(backend: Backend) -> Sequence[Endpoint]:
    """Of the page that shows every machine."""
    return (
        Endpoint("GET", "/overview", partial(_overview, backend),
                 "The last day of every machine, and what happened last", Overview),
    )  # fmt: skip


def _overview(backend: Backend, _: Asked) -> Overview:
    return Overview(machines={name: _day(backend, name) for name in backend.machines})


def _day(backend: Backend, machine: str) -> MachineDay:
    points = dict(backend.history.trend(machine, _DAY, _STEP))
    last = max(points, default=0)
    begin = last - _DAY + _STEP if points else 0
    starts = range(begin, last + 1, _STEP) if points else ()
    return MachineDay(
        begin=begin,
        step=_STEP,
        most=[points[at].score_max if at in points else None for at in starts],
        level=[points[at].level if at in points else 0 for at in starts],
        last=_last(backend, machine),
    )


def _last(backend: Backend, machine: str) -> LastEvent | None:
    """Of this run of the agent, else what the history keeps of alarms."""
    for told in reversed(backend.live.events()):
        if told.machine == machine:
            data = told.message["data"]
            return LastEvent(
                time=data["time"], area=told.message["type"].split(".")[1], event=data["event"],
                operator=data.get("operator", ""),
            )  # fmt: skip
    kept = backend.history.ask(PastFile.last_told, machine)
    if kept is None:
        return None
    return LastEvent(
        time=utc(kept.second), area="alarm", event=kept.kind, operator=kept.operator
    )  # fmt: skip
