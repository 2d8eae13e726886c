"""The machines of a DCASE download, development and evaluation parts, each with its answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.progress import Progress

from agent.core.errors import AuscultError, ConfigError
from agent.recordings.load import find_machines, load_machines
from agent.recordings.model import Machine
from agent.recordings.split import Cut, split_by_time
from export.benchmark.truth import Truth, answer
from export.evaluate import untestable
from export.results import Failure
from export.splitting import Divided

_PARTS = ("dev_data", "eval_data")


@dataclass(slots=True)
class Found:
    """What a folder holds.

    Attributes:
        machines: Those that can be trained and tested.
        failures: The others, and why not.
        further: Those that are learnt from alone, where classes are of all machines: not asked for,
            or not to be tested.
        divided: How they were divided by time, where that was asked for.
    """

    machines: list[Machine] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    further: list[Machine] = field(default_factory=list)
    divided: Divided = field(default_factory=Divided)

    @property
    def names(self) -> list[str]:
        """All of them."""
        failed = [failure.machine for failure in self.failures]
        return sorted({*failed, *(machine.name for machine in self.machines)})


def find_benchmark(
    root: Path,
    names: Sequence[str] = (),
    *,
    truth: Truth | None = None,
    cut: Cut | None = None,
    everyone: bool = False,
    channel: int | None = None,
    progress: Progress | None = None,
) -> Found:
    """Load every machine by itself, so that a bad one is told and the others go on.

    A machine type of both parts (2020 to 2022) is two machines here: that of the evaluation set is
    called `<name>_eval`.

    Args:
        root: A machine's folder, a folder of them, or one with `dev_data/` and `eval_data/`.
        names: Machines wanted; none for all.
        truth: Answers of an evaluation set.
        cut: Where healthy recordings are divided by time; None for the split as given.
        everyone: Also load the machines that can only be learnt from.
        channel: Channel of multi-channel recordings; None averages.
        progress: Where to show progress.

    Raises:
        ConfigError: The folder holds no machine, or not one that was asked for.
    """
    places: dict[str, tuple[Path, str]] = {}
    for part in _parts(root):
        for name in find_machines(part):
            places[f"{name}_eval" if name in places else name] = (part, name)
    unknown = sorted(set(names) - set(places))
    if unknown:
        raise ConfigError(
            f"there is no machine '{unknown[0]}'",
            where=root,
            remedy=f"It holds {', '.join(sorted(places))}.",
        )
    found = Found()
    for name, (part, own) in sorted(places.items()):
        wanted = not names or name in names
        if not wanted and not everyone:
            continue
        loaded: Machine | None = None
        try:
            (machine,) = load_machines(part, [own], channel=channel, progress=progress)
            machine = loaded = answer(replace(machine, name=name), own, truth)
            if not wanted:
                found.further.append(loaded)
                continue
            if cut is not None:
                found.divided.splits.append(split_by_time(machine, cut))
                machine = found.divided.splits[-1].machine
            problem = untestable(machine, faults=True)
            if problem is not None:
                raise problem
            if all(recording.label is None for recording in machine.of("test")):
                raise ConfigError(
                    "the names of its test recordings do not tell normal from anomaly",
                    where=machine.root,
                    remedy="Give the published answers with --key.",
                )
        except AuscultError as fault:
            if wanted:
                found.failures.append(Failure(name, "", str(fault)))
                if everyone and loaded is not None and loaded.of("normal"):
                    found.further.append(loaded)
        else:
            found.machines.append(machine)
    return found


def _parts(root: Path) -> list[Path]:
    """The two parts of a download where both are there, else the folder itself."""
    parts = [root / name for name in _PARTS]
    return parts if all(part.is_dir() for part in parts) else [root]
