"""What an evaluation writes as results.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agent.recordings.model import Machine
from agent.verdict.figures import ASSUMPTION
from agent.verdict.report import figures_json, verdict_json
from export.results import Evaluation, Outcome, System
from export.verdicts import Ruling, headline, rule
from trainer.metrics.report import machine_json
from trainer.metrics.summary import FIGURES


def evaluation_json(
    evaluation: Evaluation, about: dict[str, Any], machines: Sequence[Machine] = ()
) -> dict[str, Any]:
    """The evaluation as JSON, figures as fractions.

    Args:
        evaluation: What was found.
        about: Further keys of the top level: what was evaluated, when, with what.
        machines: With their recordings, for the verdicts' advice on what to record.
    """
    known = {machine.name: machine for machine in machines}
    found = headline(evaluation, machines)
    return {
        "verdict": {
            "level": found.level,
            "text": found.text,
            "preset": found.system,
            "machine": found.worst,
        },
        "presets": {s.name: _system_json(evaluation, s, known) for s in evaluation.systems},
        "failures": [
            {"machine": f.machine, "preset": f.system, "reason": f.reason}
            for f in evaluation.failures
        ],
        "false_alarms_per_day": ASSUMPTION,
        **about,
    }


def _system_json(
    evaluation: Evaluation, system: System, known: Mapping[str, Machine]
) -> dict[str, Any]:
    total = evaluation.official(system)
    found: dict[str, Any] = {
        "machines": {
            machine: _machine_json(evaluation, system, known.get(machine, machine))
            for machine in evaluation.judged(system)
        },
        "official": total.mean,
        "interval": None if total.interval is None else list(total.interval),
        "preset": system.preset.name,
        "floor": system.preset.floor,
        "asked_precision": system.precision,
        "seeds": list(system.seeds),
    }
    if len(system.seeds) > 1:
        found["spread"] = total.spread
    return found


def _machine_json(evaluation: Evaluation, system: System, machine: Machine | str) -> dict[str, Any]:
    name = machine if isinstance(machine, str) else machine.name
    outcomes = evaluation.of(system, name)
    first = next(iter(outcomes.values()))
    details: dict[int, dict[str, Any]] = {}
    rulings: list[Ruling] = []
    for seed, outcome in outcomes.items():
        ruling = rule(evaluation, system, machine, seed)
        assert ruling is not None
        rulings.append(ruling)
        details[seed] = {
            **_ranking(outcome),
            "at_threshold": {where: figures_json(own) for where, own in ruling.figures.items()},
            "verdict": verdict_json(ruling.verdict),
            "threshold": outcome.threshold,
            "promised_share": outcome.promise,
            "seconds": round(outcome.seconds, 1),
        }
    common = {
        "precision": first.precision,
        "unscored": [{"name": u.name, "reason": u.reason} for u in first.unscored],
        "notes": list(first.notes),
    }
    if len(outcomes) == 1:
        return {**details[system.seeds[0]], **common}
    figures = {key: evaluation.figure(system, name, key) for key in FIGURES}
    bounds = figures["hmean"].interval
    return {
        **{key: summary.mean for key, summary in figures.items()},
        "spread": {key: summary.spread for key, summary in figures.items()},
        "interval": None if bounds is None else list(bounds),
        "clips": _ranking(first)["clips"],
        "verdict": verdict_json(min((r.verdict for r in rulings), key=lambda v: v.rank)),
        **common,
        "seeds": {str(seed): own for seed, own in details.items()},
    }


def _ranking(outcome: Outcome) -> dict[str, Any]:
    """The challenge's figures; null where only healthy recordings were judged."""
    if outcome.figures is not None:
        return machine_json(outcome.figures)
    clips = sum(len(section.names) for section in outcome.sections)
    return {**dict.fromkeys(FIGURES), "interval": None, "clips": clips}
