"""The stage between reading and training: every recording measured, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.progress import Progress

from agent.core.errors import AudioError
from agent.core.progress import stage
from agent.core.text import plural
from agent.hygiene.duplicates import SHARED, Twin, find_twins
from agent.hygiene.measure import Measured, measure
from agent.hygiene.notes import describe_conditions, take_notes
from agent.hygiene.outliers import FEWEST, Distances, find_apart, spectral_distances
from agent.hygiene.record import HygieneRecord, NoteRecord, Untypical, UntypicalRecord
from agent.recordings.model import Machine, Recording, Rejected

# So many times as far as the farthest of the rest is refused unless somebody listened.
REFUSED = 10.0
_NAMED = 5


@dataclass(frozen=True, slots=True, eq=False)
class Inspection:
    """A machine's recordings after the stage.

    Attributes:
        machine: With what is left in use; the others are in `rejected`.
        record: What was found and decided.
        known: What was measured of each file.
        distances: Of the healthy recordings, in their order in `machine`, before untypical ones
            were left out.
        ranked: Those recordings.
        twins: Pairs of the same sound.
    """

    machine: Machine
    record: HygieneRecord
    known: Mapping[Path, Measured]
    distances: Distances
    ranked: tuple[Recording, ...]
    twins: tuple[tuple[Recording, Recording, Twin], ...]

    @property
    def refused(self) -> tuple[UntypicalRecord, ...]:
        """Untypical recordings past the bound."""
        return tuple(one for one in self.record.untypical if one.times >= REFUSED)


def inspect_machine(
    machine: Machine,
    *,
    channel: int | None = None,
    untypical: Untypical = "refuse",
    progress: Progress | None = None,
    known: Mapping[Path, Measured] | None = None,
) -> Inspection:
    """Measure a machine's recordings, and sort out what should not be learnt from.

    The same sound in two recordings is counted once: a healthy one stays, a test recording that is
    learnt from is no test. One that is called both healthy and faulty is in neither.

    Args:
        machine: Its recordings, opened and judged (`load_machines`).
        channel: Channel that will be used; None averages all.
        untypical: What becomes of healthy recordings past the bound; `refuse` only marks them here,
            see `refuse_untypical`.
        progress: Where to show how far it is.
        known: What was measured of files already, with the same channel (`Examiner.measured`).

    Returns:
        What is left, and what was found.
    """
    recordings, known, faults = _measured(machine, channel, progress, known or {})
    twins = _twins(recordings, known, channel, progress)
    gone = _superfluous(twins, machine)
    duplicates = {
        one.path.relative_to(machine.root).as_posix(): reason.reason for one, reason in gone
    }
    out = {one.path for one, _ in gone}
    kept = tuple(r for r in recordings if r.path not in out)
    machine = replace(
        machine,
        recordings=kept,
        rejected=tuple(
            sorted([*machine.rejected, *faults, *(r for _, r in gone)], key=lambda r: r.path)
        ),
    )
    normal = machine.of("normal")
    edges = [known[r.path].bandwidth_hz or np.inf for r in normal]
    distances = spectral_distances([known[r.path].shape for r in normal], min(edges, default=0.0))
    apart = _apart(machine, normal, distances)
    notes = take_notes(machine, known, channel)
    notes += _told_twins(twins, machine, duplicates)
    if apart:
        notes.append(_told_apart(apart, untypical))
    if untypical == "leave-out":
        bad = {machine.root / one.path: one for one in apart if one.times >= REFUSED}
        machine = replace(
            machine,
            recordings=tuple(r for r in machine.recordings if r.path not in bad),
            rejected=(
                *machine.rejected,
                *(Rejected(path, _why(one), "Listen to it.") for path, one in bad.items()),
            ),
        )
    record = HygieneRecord(
        conditions=describe_conditions(machine.of("normal") or machine.of("clean"), known, channel),
        untypical=tuple(apart),
        decision=untypical,
        duplicates=duplicates,
        notes=tuple(notes),
    )
    return Inspection(machine, record, known, distances, normal, tuple(twins))


def refuse_untypical(inspection: Inspection) -> None:
    """Refuse to go on with recordings past the bound that nobody has decided on.

    Raises:
        AudioError: There are some; it names them, the most untypical first.
    """
    bad = inspection.refused
    if not bad or inspection.record.decision != "refuse":
        return
    lines = "".join(f"\n  {one.path}: {_why(one)}" for one in bad[:_NAMED])
    more = f"\n  and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
    raise AudioError(
        f"{plural(len(bad), 'healthy recording')} unlike all others, at least {REFUSED:g} times "
        f"as far from them as the farthest of the rest: {lines}{more}\n",
        where=inspection.machine.root,
        remedy="Listen to them (`auscult inspect` makes a page of them). If the machine is not "
        "well in them, leave them out with --untypical leave-out; if it is, record that condition "
        "more than once, or go on with --untypical keep: they are learnt from, but set no "
        "threshold.",
    )


def _measured(
    machine: Machine,
    channel: int | None,
    progress: Progress | None,
    already: Mapping[Path, Measured],
) -> tuple[list[Recording], dict[Path, Measured], list[Rejected]]:
    used: list[Recording] = []
    known: dict[Path, Measured] = {}
    faults: list[Rejected] = []
    left = sum(one.path not in already for one in machine.recordings)
    advance = stage(progress if left else None, "measuring recordings", left)
    for recording in machine.recordings:
        found = already.get(recording.path)
        if found is None:
            try:
                found = measure(recording.path, channel)
            except AudioError as fault:
                faults.append(Rejected(recording.path, fault.problem, fault.remedy))
            advance()
        if found is not None:
            known[recording.path] = found
            used.append(recording)
    return used, known, faults


def _twins(
    recordings: Sequence[Recording],
    known: Mapping[Path, Measured],
    channel: int | None,
    progress: Progress | None,
) -> list[tuple[Recording, Recording, Twin]]:
    # What is learnt from first: of two, the later one is left out.
    order = {"normal": 0, "clean": 1, "idle": 2, "noise": 3, "test": 4}
    ranked = sorted(
        # The original rather than `x (1).wav`: the shorter name.
        recordings,
        key=lambda r: (order.get(r.role, 5), len(r.path.name), r.path),
    )
    task = None if progress is None else progress.add_task("comparing recordings", total=None)

    def advance() -> None:
        if progress is not None and task is not None:
            progress.advance(task)

    def begin(pairs: int) -> None:
        if progress is not None and task is not None:
            # The search for pairs is a step of its own, which is over now.
            progress.update(task, total=1 + pairs, completed=1)

    found = find_twins(
        [known[r.path] for r in ranked], channel=channel, advance=advance, begin=begin
    )
    return [(ranked[twin.first], ranked[twin.second], twin) for twin in found]


def _superfluous(
    twins: Sequence[tuple[Recording, Recording, Twin]], machine: Machine
) -> list[tuple[Recording, Rejected]]:
    """The recordings that twins make superfluous, with the reason."""
    gone: dict[Path, tuple[Recording, Rejected]] = {}
    for first, second, twin in twins:
        if twin.share < SHARED or first.path in gone or second.path in gone:
            continue
        name = first.path.relative_to(machine.root).as_posix()
        if twin.exact:
            what = f"is the same sound as {name}"
        elif twin.share > 0.99:
            what = f"is the same sound as {name}, converted or at another level"
        else:
            what = f"shares {twin.share:.0%} of its sound with {name}"
        if first.role == "normal" and second.label == "anomaly":
            reason = f"{what}, which is called healthy: one of the two names is wrong"
            other = second.path.relative_to(machine.root).as_posix()
            gone[first.path] = (
                first,
                Rejected(
                    first.path,
                    f"is the same sound as {other}, which is called faulty",
                    "Take away the one in the wrong folder.",
                ),
            )
            remedy = "Take away the one in the wrong folder."
        elif second.role == "test" and first.role != "test":
            reason, remedy = f"{what}, which is learnt from: it tests nothing", "Take it away."
        else:
            reason, remedy = f"{what}: it is counted once", "Take it away."
        gone[second.path] = (second, Rejected(second.path, reason, remedy))
    return list(gone.values())


def _told_twins(
    twins: Sequence[tuple[Recording, Recording, Twin]],
    machine: Machine,
    duplicates: Mapping[str, str],
) -> list[NoteRecord]:
    notes = []
    if duplicates:
        names = list(duplicates)
        some = ", ".join(names[:_NAMED]) + (" ..." if len(names) > _NAMED else "")
        notes.append(
            NoteRecord(
                kind="duplicates",
                serious=True,
                text=f"{plural(len(names), 'recording')} with sound that is in another one too: "
                f"{some} (counted once)",
            )
        )
    little = [(a, b) for a, b, twin in twins if twin.share < SHARED]
    for first, second in little[:_NAMED]:
        a, b = (one.path.relative_to(machine.root).as_posix() for one in (first, second))
        notes.append(
            NoteRecord(kind="duplicates", text=f"{a} and {b} share a little of their sound")
        )
    return notes


def _apart(
    machine: Machine, normal: Sequence[Recording], distances: Distances
) -> list[UntypicalRecord]:
    places = np.flatnonzero(np.isfinite(distances.values))
    if len(places) < FEWEST:
        return []
    return [
        UntypicalRecord(
            path=normal[places[one.place]].path.relative_to(machine.root).as_posix(),
            start=float(distances.starts[places[one.place]]),
            distance=round(one.value, 3),
            times=round(one.times, 1),
        )
        for one in find_apart(distances.values[places])
    ]


def _why(one: UntypicalRecord) -> str:
    return (
        f"{one.times:.0f} times as far from all others as the farthest of the rest, strangest "
        f"from {one.start:.0f} s on: listen"
    )


def _told_apart(apart: Sequence[UntypicalRecord], decision: Untypical) -> NoteRecord:
    left = decision == "leave-out"
    return NoteRecord(
        kind="untypical",
        serious=True,
        text="; ".join(
            f"{one.path} is {_why(one)}{' (left out)' if left and one.times >= REFUSED else ''}"
            for one in apart[:_NAMED]
        ),
    )
