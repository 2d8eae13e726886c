"""The machines of a data set divided by time, those that cannot be named with the reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import click

from agent.core.errors import ConfigError
from agent.recordings.model import Machine
from agent.recordings.split import Cut, TimeSplit, parse_cut, split_by_time
from export.results import Failure

DEFAULT_CUT = "0.5"


@dataclass(slots=True)
class Divided:
    """What became of a data set.

    Attributes:
        machines: As they are to be learnt and judged.
        splits: How each was divided; empty where nobody asked.
        failures: Machines that cannot be divided.
    """

    machines: list[Machine] = field(default_factory=list)
    splits: list[TimeSplit] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    @property
    def notes(self) -> list[str]:
        """What was done, for people."""
        return [split.words() for split in self.splits]

    def about(self) -> dict[str, Any]:
        """For results.json; empty where nobody asked."""
        if not self.splits:
            return {}
        machines = {
            split.machine.name: {
                "cut": split.cut.isoformat(),
                "by": split.by,
                "learnt": split.learnt,
                "judged": split.judged,
            }
            for split in self.splits
        }
        return {"split": {"kind": "time", "machines": machines}}


def asked_cut(split: str, cut: str | None) -> Cut | None:
    """The cut that --split and --cut ask for; None for the split as given.

    Raises:
        UsageError: A cut without `--split time`.
        ConfigError: It is neither a share nor a date.
    """
    if split != "time":
        if cut is not None:
            raise click.UsageError("--cut needs --split time.")
        return None
    return parse_cut(DEFAULT_CUT if cut is None else cut)


def _try(found: Divided, machine: Machine, cut: Cut) -> None:
    try:
        found.splits.append(split_by_time(machine, cut))
    except ConfigError as fault:
        found.failures.append(Failure(machine.name, "", str(fault)))


def divide(machines: Sequence[Machine], cut: Cut | None) -> Divided:
    """Divide each machine at a cut, or leave all as they are.

    Raises:
        ConfigError: None of them can be divided.
    """
    if cut is None:
        return Divided(list(machines))
    found = Divided()
    if len(machines) == 1:
        found.splits.append(split_by_time(machines[0], cut))
    else:
        for machine in machines:
            _try(found, machine, cut)
    found.machines = [split.machine for split in found.splits]
    if not found.machines:
        raise ConfigError(
            "no machine can be divided by time: "
            + "; ".join(f"{f.machine}: {f.reason}" for f in found.failures)
        )
    return found
