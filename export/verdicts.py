"""The verdict on every system and machine of an evaluation, and the one that heads a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agent.core.text import plural
from agent.recordings.model import NORMAL, Machine, Recording
from agent.verdict.advice import what_to_record
from agent.verdict.figures import DecisionFigures, decision_figures
from agent.verdict.report import COLUMNS, csv_rows
from agent.verdict.verdict import Level, Standing, Verdict, judge
from export.clips import clip_name
from export.results import Evaluation, Outcome, System
from trainer.decisions.clips import judged_clips

CSV_HEADINGS = ("system", "floor", "machine", "seed", "threshold", "verdict", *COLUMNS)


@dataclass(frozen=True, slots=True)
class Ruling:
    """One system, machine and seed.

    Attributes:
        figures: What its threshold did, `all` and by domain.
        verdict: What to make of it.
    """

    figures: dict[str, DecisionFigures]
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Headline:
    """What stands above everything else.

    Attributes:
        level: The worst level of the machines.
        text: In words.
        system: On which system.
        worst: The machine that is told of; empty when nothing was judged.
        verdict: On that machine; None when nothing was judged.
        subject: What is judged, to stand before the verdict's counts.
    """

    level: Level
    text: str
    system: str
    worst: str
    verdict: Verdict | None = None
    subject: str = ""


def rule(
    evaluation: Evaluation, system: System, machine: Machine | str, seed: int
) -> Ruling | None:
    """The ruling on one outcome; None where there is none.

    Args:
        evaluation: What was found.
        system: Of one of its columns.
        machine: With its recordings, for advice on what to record; or its name alone.
        seed: One of the system's.
    """
    name = machine if isinstance(machine, str) else machine.name
    outcome = evaluation.outcomes.get((system.name, name, seed))
    if outcome is None:
        return None
    figures = decision_figures(judged_clips(outcome.sections))
    standing = Standing(
        hmean=None if outcome.figures is None else outcome.figures.hmean,
        floors=_floors(evaluation, name, system),
        floor=system.preset.floor,
        promise=outcome.promise,
    )
    advice: tuple[str, ...] = ()
    if not isinstance(machine, str):
        advice = what_to_record(machine, figures, _false_alarms(machine, outcome))
    return Ruling(figures, judge(figures, standing, advice))


def rule_worst(evaluation: Evaluation, system: System, machine: Machine | str) -> Ruling | None:
    """The worst ruling over the seeds; None where a seed has no outcome."""
    name = machine if isinstance(machine, str) else machine.name
    seeds = evaluation.of(system, name)
    found = [one for seed in seeds if (one := rule(evaluation, system, machine, seed))]
    return min(found, key=_order) if found else None


def candidate(evaluation: Evaluation) -> System:
    """The system one would deploy: the best of the official score, a floor only if alone."""
    real = [s for s in evaluation.systems if not s.preset.floor] or list(evaluation.systems)
    return max(real, key=lambda s: evaluation.official(s).mean or -1.0)


def headline(evaluation: Evaluation, machines: Sequence[Machine]) -> Headline:
    """The verdict on the candidate, on the machine it does worst on."""
    system = candidate(evaluation)
    found = {m.name: one for m in machines if (one := rule_worst(evaluation, system, m))}
    if not found:
        return Headline("cannot tell", f"{system.name}: nothing could be judged", system.name, "")
    name, ruling = min(found.items(), key=lambda one: _order(one[1]))
    verdict = ruling.verdict
    seeds = f" (the worst of {len(system.seeds)} seeds)" if len(system.seeds) > 1 else ""
    subject = f"{system.name} on {name}{seeds}"
    if len(found) > 1:
        alike = sum(one.verdict.level == verdict.level for one in found.values())
        subject = f"{alike} of {plural(len(found), 'machine')}; the worst: {subject}"
    text = f"{subject} {verdict.text()}"
    return Headline(verdict.level, text, system.name, name, verdict, subject)


def csv_table(evaluation: Evaluation, machines: Sequence[Machine]) -> list[list[object]]:
    """A row for each system, machine, seed and domain, under `CSV_HEADINGS`."""
    rows: list[list[object]] = []
    for system in evaluation.systems:
        for machine in machines:
            for seed, outcome in evaluation.of(system, machine.name).items():
                ruling = rule(evaluation, system, machine, seed)
                assert ruling is not None
                rows += [
                    [
                        system.name, system.preset.floor, machine.name, seed, outcome.threshold,
                        ruling.verdict.level, *row,
                    ]
                    for row in csv_rows(ruling.figures)
                ]  # fmt: skip
    return rows


def _order(ruling: Ruling) -> tuple[int, float]:
    """Worst first: by level, then by how far faults are called more often than healthy clips."""
    whole = ruling.figures["all"]
    return ruling.verdict.rank, (whole.found.value or 0.0) - (whole.false.value or 0.0)


def _floors(evaluation: Evaluation, machine: str, system: System) -> dict[str, float]:
    found = {}
    for other in evaluation.systems:
        mean = evaluation.figure(other, machine, "hmean").mean
        if other.preset.floor and other is not system and mean is not None:
            found[other.name] = mean
    return found


def _false_alarms(machine: Machine, outcome: Outcome) -> list[Recording]:
    called = {
        clip.name for clip in judged_clips(outcome.sections) if clip.called and clip.label == NORMAL
    }
    return [r for r in machine.of("test") if clip_name(machine, r) in called]
