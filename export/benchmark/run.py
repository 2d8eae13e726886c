"""Plans a benchmark's cells, runs those that are not there yet, and gathers all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from agent.calibrate.fit_cache import FitCache
from agent.core.cores import limit_cores
from agent.core.progress import progress_bar
from agent.encode.embedding_cache import EmbeddingCache
from agent.recordings.model import Machine
from export.benchmark.cells import Cell, read_cell, write_cell
from export.benchmark.executor import Executor
from export.benchmark.sets import Found
from export.builder import BundleBuilder, needs_all
from export.evaluate import Options, evaluate_one, progress_line, told
from export.results import Evaluation, Failure, System
from trainer.graph.graph_cache import GraphCache


@dataclass(frozen=True, slots=True)
class Settings:
    """How a benchmark runs.

    Attributes:
        out: Its folder: cells and work lie there.
        weights: Folder of pre-trained checkpoints, or the file itself.
        channel: Channel of multi-channel recordings; None averages.
        resamples: Bootstrap resamples behind the intervals.
        threads: Threads of a job.
        keep: Leave runs and bundles in `work/`.
    """

    out: Path
    weights: Path | None = None
    channel: int | None = None
    resamples: int = 2000
    threads: int = 1
    keep: bool = False


@dataclass(frozen=True, slots=True)
class Unit:
    """What one job does: the cells of one training of a machine, and what it needs for them.

    Attributes:
        machine: The machine.
        cells: Not there yet.
        machines: All that are learnt from, where classes are of all machines.
        alike: Other cells of the same trainings, whose runs may lie there already.
        trainings: Digests of the trainings behind it.
        settings: The benchmark's.
    """

    machine: Machine
    cells: tuple[Cell, ...]
    machines: tuple[Machine, ...]
    alike: tuple[tuple[Machine, Cell], ...]
    trainings: frozenset[str]
    settings: Settings


def run_benchmark(
    found: Found,
    systems: Sequence[System],
    settings: Settings,
    executor: Executor,
    console: Console,
) -> Evaluation:
    """Run what is not there yet.

    Every finished cell is kept at once; killed anywhere, the next call goes on from there. A cell
    is taken up only if recordings (by name, size and time), preset, seed, checkpoint and version
    are those it was made from. A training of all machines' classes is done once: the first
    machine's unit does it, the others' come in a later round and take it up.

    Args:
        found: The machines.
        systems: The columns.
        settings: How.
        executor: Where.
        console: Where progress and each finished figure are told.
    """
    result = Evaluation(tuple(systems), tuple(found.names), failures=list(found.failures))
    everyone = (*found.machines, *found.further)
    workshop = _workshop(everyone, settings)
    units: list[Unit] = []
    planned: list[tuple[Machine, list[Cell], frozenset[str]]] = [
        (machine, cells, trainings)
        for machine in found.machines
        for cells, trainings in _planned(machine, systems, workshop)
    ]
    for machine, cells, trainings in planned:
        open_ = []
        for cell in cells:
            outcome = read_cell(settings.out, cell, resamples=settings.resamples)
            if outcome is None:
                open_.append(cell)
            else:
                result.outcomes[cell.system.name, cell.machine, cell.seed] = outcome
        if open_:
            alike = tuple(
                (other, cell)
                for other, theirs, same in planned
                if theirs is not cells and same & trainings
                for cell in theirs
            )
            others = everyone if needs_all(open_[0].system.preset) else ()
            units.append(Unit(machine, tuple(open_), others, alike, trainings, settings))
    if result.outcomes:
        console.print(f"{len(result.outcomes)} cells are there already", highlight=False)
    with progress_bar(console) as progress:
        task = progress.add_task("benchmark", total=sum(len(unit.cells) for unit in units))
        for round_ in _rounds(units):
            for unit, faults in executor.run(run_unit, round_):
                for cell in unit.cells:
                    _gather(result, cell, faults, settings, console)
                progress.advance(task, len(unit.cells))
    if not settings.keep:
        for unit in units:
            own = [(unit.machine, cell) for cell in unit.cells]
            for machine, cell in (*unit.alike, *own):
                workshop.clear(machine, cell.system, cell.seed)
        _graphs(settings).clear()
    return result


def _rounds(units: Sequence[Unit]) -> Iterator[list[Unit]]:
    """The units in rounds, so that no two of a round do the same training."""
    done: set[str] = set()
    left = list(units)
    while left:
        claimed: set[str] = set()
        now, later = [], []
        for unit in left:
            new = unit.trainings - done
            if new & claimed:
                later.append(unit)
            else:
                now.append(unit)
                claimed |= new
        yield now
        done |= claimed
        left = later


def run_unit(unit: Unit) -> dict[str, str]:
    """Train once, and export, score and keep each of its cells.

    Returns:
        Why a cell failed, by system name; those that succeeded are on the disk.
    """
    settings = unit.settings
    torch.set_num_threads(settings.threads)
    limit_cores(settings.threads)
    workshop = _workshop(unit.machines or (unit.machine,), settings)
    if unit.alike:
        workshop = replace(workshop, graphs=_graphs(settings))
    for machine, cell in unit.alike:
        workshop.take_up(machine, cell.system, cell.seed)
    options = Options(settings.out, settings.channel, settings.resamples)
    faults: dict[str, str] = {}
    for cell in unit.cells:
        reason = _run_cell(unit.machine, cell, workshop, options)
        if reason:
            faults[cell.system.name] = reason
    if not settings.keep and not unit.alike:
        for cell in unit.cells:
            workshop.clear(unit.machine, cell.system, cell.seed)
    return faults


def _run_cell(machine: Machine, cell: Cell, workshop: BundleBuilder, options: Options) -> str:
    """Run and keep one; why it failed, or nothing."""
    try:
        with Progress(disable=True) as progress:
            outcome = evaluate_one(machine, cell.system, cell.seed, workshop, options, progress)
        write_cell(options.out, cell, outcome)
    except Exception as fault:  # noqa: BLE001 - one cell must not end a long run
        return told(fault, options.out, f"{cell.machine}, {cell.system.name}, seed {cell.seed}")
    return ""


def _graphs(settings: Settings) -> GraphCache:
    """Graphs of encoders that several machines share."""
    return GraphCache(settings.out / "work" / "graphs")


def _workshop(machines: Sequence[Machine], settings: Settings) -> BundleBuilder:
    return BundleBuilder(
        settings.out / "work",
        weights=settings.weights,
        channel=settings.channel,
        reuse=True,
        machines=tuple(machines),
        cache=EmbeddingCache.of_user(),
        frozen=GraphCache.of_user(),
        fits=FitCache.of_user(),
    )


def _planned(
    machine: Machine, systems: Sequence[System], workshop: BundleBuilder
) -> Iterator[tuple[list[Cell], frozenset[str]]]:
    """The cells of a machine, those of one training together, with the trainings behind them."""
    trainings: dict[str, tuple[list[Cell], frozenset[str]]] = {}
    for system in systems:
        for seed in system.seeds:
            cell = Cell(machine.name, system, seed, workshop.fingerprint(machine, system, seed))
            learning = workshop.learning(machine, system.preset, seed)
            behind = workshop.trainings(machine, system.preset, seed)
            trainings.setdefault(learning, ([], behind))[0].append(cell)
    yield from trainings.values()


def _gather(
    result: Evaluation,
    cell: Cell,
    faults: dict[str, str] | Exception,
    settings: Settings,
    console: Console,
) -> None:
    label = f"{cell.machine}, {cell.system.name}, seed {cell.seed}"
    outcome = read_cell(settings.out, cell, resamples=settings.resamples)
    if outcome is not None:
        result.outcomes[cell.system.name, cell.machine, cell.seed] = outcome
        console.print(f"{escape(label)}: {progress_line(outcome)}", highlight=False)
        return
    if isinstance(faults, Exception):
        reason = told(faults, settings.out, label)
    else:
        reason = faults.get(cell.system.name, "nothing came of it, and nobody said why")
    result.failures.append(Failure(cell.machine, cell.system.name, f"seed {cell.seed}: {reason}"))
    console.print(f"[red]{escape(label)}: failed[/red]: {escape(reason)}")
