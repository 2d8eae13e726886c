"""`auscult doctor`: when a machine's planned maintenance comes next, and what of it is over."""

from __future__ import annotations

import time
from collections.abc import Iterator

from agent.config.agent import MachineConfig
from agent.config.maintenance import Schedule
from agent.core.text import local_minute
from agent.doctor.finding import Finding, Grade


def check_maintenance(machine: MachineConfig) -> Iterator[Finding]:
    """Look at what is planned for a machine; nothing where nothing is.

    Args:
        machine: Its configuration.
    """
    now = time.time()
    for planned in machine.maintenance:
        name = f"maintenance of {machine.name}"
        near = planned.near(now)
        if not near:
            yield Finding(
                name, Grade.WARN, f"{planned.name} is over since {planned.end}",
                "Take it out of `maintenance`, or give it the date of the next one",
            )  # fmt: skip
            continue
        first = min(near, key=lambda one: one.begin)
        under_way = Schedule([planned]).at(now) is not None
        when = f"{local_minute(first.begin)} to {local_minute(first.end)}"
        word = "under way, nothing heard counts:" if under_way else "next"
        yield Finding(name, Grade.OK, f"{planned.name}: {word} {when}")
