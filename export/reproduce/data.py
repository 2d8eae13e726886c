"""The recordings that a reproduction needs: machines to test, and further ones to learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.progress import Progress

from agent.core.errors import ConfigError
from agent.recordings.load import load_machines
from agent.recordings.model import Machine
from export.evaluate import untestable
from trainer.published.dataset import likeness

_PARTS = ("dev_data", "eval_data")


@dataclass(frozen=True, slots=True)
class Material:
    """What a folder holds.

    Attributes:
        tested: Machines with labelled test recordings, those that were asked for.
        everyone: All machines, which classes may be made of.
        alike: Those of `tested` that the published figures are of, by names and layout.
        notes: What to know of them.
    """

    tested: tuple[Machine, ...]
    everyone: tuple[Machine, ...]
    alike: tuple[str, ...]
    notes: tuple[str, ...]


def find_material(
    data: Path,
    names: Sequence[str] = (),
    *,
    channel: int | None = None,
    progress: Progress | None = None,
) -> Material:
    """Load the development set, and the additional training set where it lies beside it.

    Args:
        data: A DCASE 2025 download.
        names: Machines to test; none for all that can be.
        channel: Channel of multi-channel recordings; None averages.
        progress: Where to show progress.

    Raises:
        ConfigError: There is no machine that can be tested.
    """
    parts = [data / name for name in _PARTS if (data / name).is_dir()] or [data]
    everyone = [
        machine
        for part in parts
        for machine in load_machines(part, channel=channel, progress=progress)
    ]
    known = [machine.name for machine in everyone]
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise ConfigError(
            f"there is no machine '{unknown[0]}'",
            where=data,
            remedy=f"It holds {', '.join(known)}.",
        )
    tested = [
        machine
        for machine in everyone
        if (not names or machine.name in names)
        and untestable(machine) is None
        and any(recording.label for recording in machine.of("test"))
    ]
    if not tested:
        raise ConfigError(
            "no machine has test recordings whose answer is known",
            where=data,
            remedy="Give the development set, with its test folders.",
        )
    found = likeness(tested)
    notes = [found.remark] if found.remark else []
    others = [name for name in known if name not in {machine.name for machine in tested}]
    if others and not names:
        notes.append(
            f"learnt from where classes are of all machines, not tested: {', '.join(others)}"
        )
    if not found.machines:
        notes.append(
            "this is not DCASE 2025's development set: no published figure stands beside ours"
        )
    return Material(tuple(tested), tuple(everyone), found.machines, tuple(notes))
