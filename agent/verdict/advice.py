"""What to record next, from what is there and what went wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from agent.core.name_time import name_time
from agent.core.text import plural
from agent.recordings.model import NORMAL, SOURCE, TARGET, Machine, Recording
from agent.verdict.figures import DecisionFigures
from agent.verdict.verdict import GOOD_FALSE_HIGH, LEAST_CLIPS

# Fewer healthy recordings than this do not hold what a machine does in ordinary days.
ENOUGH_HEALTHY = 30
# A domain with fewer is hardly represented in a memory bank.
ENOUGH_OF_DOMAIN = 30
# Healthy clips to judge with, of which none above excludes one false alarm in ten.
ENOUGH_TO_JUDGE = 30
_NAMED = 3


def what_to_record(
    machine: Machine,
    figures: Mapping[str, DecisionFigures] | None = None,
    called: Iterable[Recording] = (),
) -> tuple[str, ...]:
    """What would help most, in order; each reads after the word `record`.

    Args:
        machine: Its recordings, to learn from and to judge with.
        figures: What the threshold did; None before anything was judged.
        called: Healthy recordings that were called anomalous.
    """
    healthy = machine.of("normal")
    tests = machine.of("test")
    normal = [r for r in tests if r.label == NORMAL]
    faulty = [r for r in tests if r.label not in {None, NORMAL}]
    advice: list[str] = []
    if not faulty:
        advice.append("faults, or harmless stand-ins for them, into test/anomaly")
    elif len(faulty) < LEAST_CLIPS:
        advice.append(plural(LEAST_CLIPS - len(faulty), "more faulty clip"))
    advice += _unheard_conditions(healthy, normal)
    advice += _domains(healthy, normal, called)
    if len(healthy) < ENOUGH_HEALTHY:
        advice.append(
            f"more healthy sound to learn from: {plural(len(healthy), 'recording')} so far, "
            f"{ENOUGH_HEALTHY} over every load and several days are a start"
        )
    if _one_day(healthy) and _raised(figures):
        advice.append("healthy sound on other days: all that was learnt is of one day")
    wide = figures is None or (figures["all"].false.interval or (0.0, 1.0))[1] > GOOD_FALSE_HIGH
    if len(normal) < ENOUGH_TO_JUDGE and wide:
        advice.append(
            plural(ENOUGH_TO_JUDGE - len(normal), "more healthy clip")
            + " to judge with, into test/normal"
        )
    if len(healthy) > 1 and not any(r.attributes for r in healthy) and _raised(figures):
        advice.append("the operating conditions too (load, speed) in the names of the recordings")
    return tuple(advice)


def _unheard_conditions(learnt: Iterable[Recording], judged: Iterable[Recording]) -> list[str]:
    """Attribute values that are judged and were never learnt."""
    known = {item for r in learnt for item in r.attributes.items()}
    if not known:
        return []
    missing = Counter(item for r in judged for item in r.attributes.items() if item not in known)
    return [
        f"healthy sound at {name} {value} to learn from: {plural(count, 'healthy test clip')} "
        "and no training recording"
        for (name, value), count in missing.most_common(_NAMED)
    ]


def _domains(
    learnt: Iterable[Recording], judged: Iterable[Recording], called: Iterable[Recording]
) -> list[str]:
    """Domains of which little was learnt, those with false alarms first."""
    have = Counter(r.domain for r in learnt)
    alarms = Counter(r.domain for r in called)
    asked = {r.domain for r in judged} & {SOURCE, TARGET}
    few = [name for name in asked if have[name] < ENOUGH_OF_DOMAIN]
    total = sum(have.values())
    advice = []
    for name in sorted(few, key=lambda one: (-alarms[one], have[one], one)):
        if len(asked) < 2:
            break
        reason = f"{have[name]} of {total} training recordings"
        if alarms[name]:
            reason += f", {alarms[name]} of {plural(sum(alarms.values()), 'false alarm')}"
        advice.append(f"more healthy sound of the {name} domain ({reason})")
    return advice


def _one_day(recordings: Iterable[Recording]) -> bool:
    times = [name_time(r.path.name) for r in recordings]
    days = {time.date() for time in times if time is not None}
    return bool(times) and None not in times and len(days) == 1


def _raised(figures: Mapping[str, DecisionFigures] | None) -> bool:
    return figures is not None and figures["all"].false.hits > 0
