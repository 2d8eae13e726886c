"""One verdict in plain words on what a detector does at its threshold; the worst that holds counts.

    do not deploy   it misses more than half of the faults, or more than one healthy clip in ten is
                    a false alarm, over all clips or in a domain
    cannot tell     no or fewer than ten faulty or healthy clips, or so few that the faults found
                    could be chance (Fisher's exact test, one-sided, 5 %)
    usable          neither of these, but something of `good` is missing
    good            at least 80 % of the faults found and at most 5 % false alarms; the intervals
                    exclude less than half and more than a fifth; no floor is more than three points
                    better; false alarms are not shown to be more than twice the promise

Fewer clips than ten can still show that a detector is useless, never that it is good. Domains are
judged where they have ten clips of the kind.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from agent.core.text import plural
from agent.verdict.figures import DecisionFigures, Share

Level: TypeAlias = Literal["do not deploy", "cannot tell", "usable", "good"]
# Worst first.
LEVELS: tuple[Level, ...] = ("do not deploy", "cannot tell", "usable", "good")
LEAST_CLIPS = 10
LEAST_FOUND, GOOD_FOUND, GOOD_FOUND_LOW = 0.5, 0.8, 0.5
MOST_FALSE, GOOD_FALSE, GOOD_FALSE_HIGH = 0.1, 0.05, 0.2
_CHANCE = 0.05
# Points of the harmonic mean, as fractions.
FLOOR_AHEAD = 0.03
NEAR_PERFECT = 0.97


@dataclass(frozen=True, slots=True)
class Standing:
    """How a system ranks clips, beside the floors, and what its threshold promised.

    Attributes:
        hmean: Harmonic mean of its areas, a fraction; None without faulty clips.
        floors: The same of each floor, by name.
        floor: Whether it is a floor itself.
        promise: Share of healthy clips that may lie above the threshold; None when not known.
    """

    hmean: float | None = None
    floors: Mapping[str, float] = field(default_factory=dict)
    floor: bool = False
    promise: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to make of it.

    Attributes:
        level: One of `LEVELS`.
        counts: What was counted, in words: `finds 4 of 100 faults at 7 false alarms in 100 healthy
            clips`.
        reasons: Why it is not better, the worst first; also what else must be known.
        record: What to record next.
    """

    level: Level
    counts: str
    reasons: tuple[str, ...] = ()
    record: tuple[str, ...] = ()

    @property
    def rank(self) -> int:
        """Place in `LEVELS`: 0 is the worst."""
        return LEVELS.index(self.level)

    def text(self) -> str:
        """All of it in one paragraph."""
        parts = [f"{self.counts}: {self.level}", *self.reasons]
        if self.record:
            parts.append(f"record {', and '.join(self.record)}")
        return "; ".join(parts)


def judge(
    figures: Mapping[str, DecisionFigures],
    standing: Standing | None = None,
    record: Sequence[str] = (),
) -> Verdict:
    """The verdict on one system and machine.

    Args:
        figures: As from `decision_figures`: `all`, and the domains where there are several.
        standing: Its rank beside the floors; None where nobody ranked.
        record: What to record next, as from `what_to_record`.
    """
    standing = standing or Standing()
    whole = figures["all"]
    found: list[tuple[Level, str]] = []
    for shared, name in ((_of_faults, "found"), (_of_alarms, "false")):
        own = shared(getattr(whole, name), "")
        found += own
        for place, part in figures.items():
            share: Share = getattr(part, name)
            if place != "all" and share.total >= LEAST_CLIPS:
                # Of a domain is told what is worse than over all.
                found += [
                    one for one in shared(share, f" of the {place} domain") if _worse(one, own)
                ]
    found += _of_count(whole)
    found += _of_promise(whole.false, standing)
    found += _of_floors(standing)
    level: Level = min((one for one, _ in found), key=LEVELS.index, default="good")
    reasons = [text for _, text in sorted(found, key=lambda one: LEVELS.index(one[0]))]
    return Verdict(level, _counts(whole), tuple(dict.fromkeys(reasons)), tuple(record))


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """The worst of several, the first of equals."""
    return min(verdicts, key=lambda one: one.rank)


def _worse(one: tuple[Level, str], others: Sequence[tuple[Level, str]]) -> bool:
    return all(LEVELS.index(one[0]) < LEVELS.index(level) for level, _ in others)


def _counts(whole: DecisionFigures) -> str:
    false = (
        f"{plural(whole.false.hits, 'false alarm')} in {plural(whole.false.total, 'healthy clip')}"
    )
    if not whole.found.total:
        return f"raises {false}"
    return f"finds {whole.found.hits} of {plural(whole.found.total, 'fault')} at {false}"


def _of_faults(found: Share, where: str) -> list[tuple[Level, str]]:
    if found.interval is None or found.value is None:
        return []
    low, high = found.interval
    numbers = f" ({found.hits} of {found.total} found)" if where else ""
    if found.value < LEAST_FOUND and (found.total >= LEAST_CLIPS or high < LEAST_FOUND):
        return [("do not deploy", f"misses more than half of the faults{where}{numbers}")]
    if found.value < GOOD_FOUND:
        return [("usable", f"misses more than a fifth of the faults{where}{numbers}")]
    if low < GOOD_FOUND_LOW and not where:
        faults = plural(found.total, "fault")
        return [("usable", f"{faults} cannot show that it finds half of them")]
    return []


def _of_alarms(false: Share, where: str) -> list[tuple[Level, str]]:
    if false.interval is None or false.value is None:
        return []
    low, high = false.interval
    numbers = f" ({false.hits} of {false.total})" if where else ""
    if false.value > MOST_FALSE and (false.total >= LEAST_CLIPS or low > MOST_FALSE):
        text = f"more than one healthy clip in ten{where} is a false alarm{numbers}"
        return [("do not deploy", text)]
    if false.value > GOOD_FALSE:
        text = f"more than one healthy clip in twenty{where} is a false alarm{numbers}"
        return [("usable", text)]
    if high > GOOD_FALSE_HIGH and not where:
        healthy = plural(false.total, "healthy clip")
        return [("usable", f"{healthy} cannot exclude that one in five is a false alarm")]
    return []


def _of_count(whole: DecisionFigures) -> list[tuple[Level, str]]:
    if not whole.found.total:
        return [("cannot tell", "no fault was judged")]
    few = [
        plural(share.total, kind)
        for share, kind in ((whole.found, "faulty clip"), (whole.false, "healthy clip"))
        if share.total < LEAST_CLIPS
    ]
    if few:
        least = f"{LEAST_CLIPS} of each at least"
        return [("cannot tell", f"too few clips ({', '.join(few)}; {least})")]
    chance = _by_chance(whole.found, whole.false)
    if chance > _CHANCE:
        return [("cannot tell", "what it finds may be chance: healthy clips are called as often")]
    return []


def _by_chance(found: Share, false: Share) -> float:
    """Fisher's exact test, one-sided: how likely so many hits among the faulty are by chance."""
    called = found.hits + false.hits
    most = min(found.total, called)
    ways = sum(
        math.comb(found.total, n) * math.comb(false.total, called - n)
        for n in range(found.hits, most + 1)
    )
    return ways / math.comb(found.total + false.total, called)


def _of_promise(false: Share, standing: Standing) -> list[tuple[Level, str]]:
    if standing.promise is None or false.interval is None:
        return []
    if false.interval[0] <= 2.0 * standing.promise:
        return []
    return [
        (
            "usable",
            f"false alarms are more than twice the promised {100 * standing.promise:.3g} in 100",
        )
    ]


def _of_floors(standing: Standing) -> list[tuple[Level, str]]:
    if standing.hmean is None or not standing.floors:
        return []
    name, best = max(standing.floors.items(), key=lambda one: one[1])
    told = f"{name} alone ranks at {100 * best:.1f}"
    if standing.hmean >= NEAR_PERFECT and best >= NEAR_PERFECT:
        return [("good", f"anything finds these faults ({told}): they prove nothing of it")]
    if standing.floor or best <= standing.hmean:
        return []
    text = f"below the floor {name}: {told}, this at {100 * standing.hmean:.1f}"
    return [("usable" if best > standing.hmean + FLOOR_AHEAD else "good", text)]
