"""Whether recordings are those that the reports' tables are of: DCASE 2025 Task 2, development."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agent.core.text import plural
from agent.recordings.model import Machine
from trainer.published.records import MACHINES

NAME = "DCASE 2025 development set"
_SECTION = "00"
_EXTRAS = ("noise", "clean")
# Recordings of each machine, as the challenge published them.
_COUNTS = {"training": 1000, "supplemental": 100, "test": 200}


@dataclass(frozen=True, slots=True)
class Likeness:
    """What of a data set has the names and the layout of DCASE 2025's development set.

    Attributes:
        machines: Those machines; empty when it is another data set.
        remark: How they differ from what was published, for people; empty when they do not.
    """

    machines: tuple[str, ...]
    remark: str = ""


def likeness(machines: Sequence[Machine]) -> Likeness:
    """Look at names and layout: the seven machine types, one section, supplemental recordings.

    The years before have the same machine types and no supplemental recordings.

    Args:
        machines: Inspected or listed recordings.
    """
    alike = [machine for machine in machines if _alike(machine)]
    differing: dict[str, list[str]] = {}
    for machine in alike:
        if text := _differing(machine):
            differing.setdefault(text, []).append(machine.name)
    told = [f"{', '.join(names)}: {text}" for text, names in differing.items()]
    remark = ""
    if told:
        remark = (
            f"names and layout are those of the {NAME}, the recordings are not ({'; '.join(told)}):"
            " the published figures beside ours are of other recordings"
        )
    return Likeness(tuple(machine.name for machine in alike), remark)


def _alike(machine: Machine) -> bool:
    sections = {recording.section for recording in machine.of("normal", "test")}
    domains = {recording.domain for recording in machine.of("normal")}
    return (
        machine.name in MACHINES
        and sections == {_SECTION}
        and domains == {"source", "target"}
        and bool(machine.of(*_EXTRAS))
    )


def _differing(machine: Machine) -> str:
    counts = {
        "training": len(machine.of("normal")),
        "supplemental": len(machine.of(*_EXTRAS)),
        "test": len(machine.of("test")),
    }
    # A few may be unusable; a data set made up has other numbers altogether.
    other = [
        f"{plural(count, f'{kind} recording')} for {_COUNTS[kind]}"
        for kind, count in counts.items()
        if abs(count - _COUNTS[kind]) > 0.02 * _COUNTS[kind]
    ]
    return ", ".join(other)
