"""Trains, exports and scores a report's systems, each machine's scores kept as soon as there are.

A system's machines come one after the other, so that a training which serves all of them is there
for each. Killed anywhere, the next call takes up finished scores, finished runs and bundles, and
interrupted trainings at their last checkpoint.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from agent.core.progress import progress_bar
from agent.recordings.model import Machine
from export.benchmark.cells import Cell, read_cell, write_cell
from export.builder import BundleBuilder
from export.evaluate import Options, evaluate_one, score_folder, told
from export.reproduce.plan import Plan, Weighed
from export.results import Evaluation, Failure, Outcome, Precision, System, file_name
from trainer.fusion.fuse import Fused, fuse
from trainer.fusion.systems import ScoredSystem, find_systems
from trainer.metrics.files import write_scores


@dataclass(frozen=True, slots=True)
class Reproduced:
    """What was found.

    Attributes:
        evaluation: Figures of every system, those that weigh scores last.
        fused: The fusions, by name and seed, with searched weights and what they are worth.
    """

    evaluation: Evaluation
    fused: dict[tuple[str, int], Fused]


def systems_of(plan: Plan, seeds: Sequence[int], precision: Precision) -> list[System]:
    """The systems that are trained."""
    return [
        System(
            preset.name,
            preset,
            "float32" if preset.quantization.mode == "none" else precision,
            tuple(seeds),
        )
        for preset in plan.trained
    ]


def reproduce(
    plan: Plan,
    machines: Sequence[Machine],
    systems: Sequence[System],
    workshop: BundleBuilder,
    options: Options,
    console: Console,
) -> Reproduced:
    """Run what is not there yet, and weigh what there is.

    Args:
        plan: The report's.
        machines: With labelled test recordings.
        systems: From `systems_of`.
        workshop: Makes the bundles; knows further machines that are learnt from alone.
        options: How, and where to write.
        console: Where progress and each finished figure are told.
    """
    found = Evaluation(tuple(systems), tuple(machine.name for machine in machines))
    with progress_bar(console) as progress:
        total = len(machines) * sum(len(system.seeds) for system in systems)
        overall = progress.add_task(f"report {plan.number}", total=total)
        for system in systems:
            for seed in system.seeds:
                for machine in machines:
                    progress.update(overall, description=f"{system.name}, {machine.name}")
                    outcome = _cell(
                        found, machine, system, seed, workshop, options, progress, console
                    )
                    if outcome is not None:
                        found.outcomes[system.name, machine.name, seed] = outcome
                    for task in list(progress.tasks):
                        if task.id != overall:
                            progress.remove_task(task.id)
                    progress.advance(overall)
                # The next system has another encoder: its graphs alone would fill the disk.
                if workshop.graphs is not None:
                    workshop.graphs.clear()
    fused: dict[tuple[str, int], Fused] = {}
    for weighed in plan.weighed:
        found = _weigh(found, weighed, machines, systems, options, fused, console)
    return Reproduced(found, fused)


def _cell(
    found: Evaluation,
    machine: Machine,
    system: System,
    seed: int,
    workshop: BundleBuilder,
    options: Options,
    progress: Progress,
    console: Console,
) -> Outcome | None:
    """The outcome of one machine, kept or made; None where it failed."""
    label = f"{machine.name}, {system.name}"
    cell = Cell(machine.name, system, seed, workshop.fingerprint(machine, system, seed))
    workshop.take_up(machine, system, seed)
    kept = read_cell(options.out, cell, resamples=options.resamples)
    if kept is not None:
        console.print(f"{escape(label)}: there already", highlight=False)
        return kept
    try:
        outcome = evaluate_one(machine, system, seed, workshop, options, progress)
        write_cell(options.out, cell, outcome)
    except Exception as fault:  # noqa: BLE001 - one machine must not end a run of days
        reason = told(fault, options.out, label)
        found.failures.append(Failure(machine.name, system.name, reason))
        console.print(f"[red]{escape(label)}: failed[/red]: {escape(reason)}")
        return None
    if outcome.figures is not None:
        console.print(
            f"{escape(label)}: hmean {100 * outcome.figures.hmean:.2f}, {outcome.seconds:.0f} s",
            highlight=False,
        )
    return outcome


def _weigh(
    found: Evaluation,
    weighed: Weighed,
    machines: Sequence[Machine],
    systems: Sequence[System],
    options: Options,
    fused: dict[tuple[str, int], Fused],
    console: Console,
) -> Evaluation:
    """The evaluation with one system more, whose scores are the members' finished ones."""
    members = [system for system in systems if system.preset.name in weighed.members]
    seeds = members[0].seeds
    own = System(weighed.name, weighed.preset, members[0].precision, seeds)
    grown = replace(found, systems=(*found.systems, own))
    whole = [
        machine.name
        for machine in machines
        if all(machine.name in found.complete(member) for member in members)
    ]
    for machine in machines:
        if machine.name not in whole:
            grown.failures.append(
                Failure(machine.name, own.name, "a system whose scores it weighs has none")
            )
    for seed in seeds if whole else ():
        began = time.monotonic()
        done = fuse(
            _scored(members, whole, seed, options.out),
            "mean",
            normalize="z",
            weights=None if weighed.objective else list(weighed.members.values()),
            searching=weighed.objective is not None,
            objective=weighed.objective or "official",
            resamples=options.resamples,
        )
        fused[own.name, seed] = done
        folder = score_folder(options.out, own, seed)
        for section in done.sections:
            write_scores(folder, section)
        for figures in done.machines:
            grown.outcomes[own.name, figures.machine, seed] = Outcome(
                figures=figures,
                sections=tuple(s for s in done.sections if s.machine == figures.machine),
                # Finished scores are weighed: no threshold belongs to them.
                threshold=float("inf"),
                precision=own.precision,
                seconds=time.monotonic() - began,
            )
        console.print(f"{own.name}: official {100 * done.total.value:.2f}", highlight=False)
    return grown


def _scored(
    members: Sequence[System], machines: Sequence[str], seed: int, out: Path
) -> list[ScoredSystem]:
    """The members' finished scores of the machines that all of them have."""
    given = [f"{file_name(member.name)}={score_folder(out, member, seed)}" for member in members]
    return [
        replace(
            one, sections=tuple(section for section in one.sections if section.machine in machines)
        )
        for one in find_systems(given)
    ]
