"""What a threshold still sees: planted faults and recorded ones held against it.

A threshold that keeps a strict promise may lie beyond every score that a fault could give. Export
therefore plants simple faults in healthy windows (a tone, a band of noise, knocks, each at some
level below or as loud as the machine), scores them through the graph, and keeps their median
scores, so that the device can say of any threshold what passes below it. The embeddings of the
windows that score so are kept as well: a grown bank scores them anew.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from agent.bundle.facts import PlantedFault, SightInfo
from agent.core.records import Matrix
from agent.core.text import plural
from agent.score.scorer import Scorer


@dataclass(frozen=True, slots=True)
class Sight:
    """What becomes of known and made-up faults at a threshold.

    Attributes:
        blind: None of either would raise an alarm.
        text: In words.
    """

    blind: bool
    text: str


def sight_at(threshold: float, info: SightInfo) -> Sight:
    """Hold faults against a threshold.

    Args:
        threshold: Raw score above which a window is anomalous.
        info: What export found.
    """
    planted = _planted(threshold, info.planted)
    seen = any(fault.score > threshold for fault in info.planted)
    parts = [f"of faults planted in healthy sound, {planted}"] if info.planted else []
    if info.recorded:
        found = sum(score > threshold for score in info.recorded)
        seen = seen or found > 0
        parts.append(
            f"of {plural(len(info.recorded), 'recorded fault')} {found} would raise an alarm"
        )
    known = bool(info.planted or info.recorded)
    return Sight(known and not seen, "; ".join(parts))


def rescored(info: SightInfo, vectors: Matrix | None, scorer: Scorer) -> SightInfo:
    """What the same faults score with another scorer: its raw scores are on an axis of its own.

    Args:
        info: What export found.
        vectors: Embeddings of the faults, planted ones before recorded ones, float32
            `(faults, dim)`; None of a bundle that was exported without.
        scorer: Started.

    Returns:
        The same promise; no faults where their embeddings are not at hand.
    """
    if vectors is None or not len(vectors):
        return info.model_copy(update={"planted": (), "recorded": ()})
    scores = [float(score) for score in scorer.score(vectors)[0]]
    planted = tuple(
        fault.model_copy(update={"score": score})
        for fault, score in zip(info.planted, scores, strict=False)
    )
    return info.model_copy(update={"planted": planted, "recorded": tuple(scores[len(planted) :])})


def passing_words(threshold: float, seen: Sight) -> list[str]:
    """What a threshold lets pass, in words.

    Args:
        threshold: Raw score above which a window is anomalous.
        seen: What it sees.
    """
    words = [f"a fault that scores below {threshold:.4g} (1.0 on the scale shown) passes"]
    return [*words, seen.text] if seen.text else words


def hours_words(hours: float) -> str:
    """What so much healthy sound could show of a promise by counting alone, in words.

    Args:
        hours: Of healthy sound, heard without any alarm.
    """
    # Of a Poisson process without an event, 95 %: -ln 0.05 = 3.0 may have been due.
    most = -math.log(0.05) / hours * 720.0
    return (
        f"{hours:.2g} h of healthy sound without an alarm show by counting no more than that there "
        f"are fewer than {most:.2g} in 30 days (95 %); what is rarer rests on the scores' tail"
    )


def _planted(threshold: float, faults: Sequence[PlantedFault]) -> str:
    """Each kind with the weakest level that is seen."""
    seen, missed = [], []
    for kind in dict.fromkeys(fault.kind for fault in faults):
        levels = sorted((f.level_db, f.score) for f in faults if f.kind == kind)
        # From a level on up to the loudest: one that is seen by chance below does not count.
        weakest = None
        for level, score in reversed(levels):
            if score <= threshold:
                break
            weakest = level
        if weakest is not None:
            seen.append(f"{kind} from {weakest:+g} dB of the machine's level on")
        elif levels[-1][0] == 0.0:
            missed.append(f"{kind} even as loud as the machine")
        else:
            missed.append(f"{kind} at {levels[-1][0]:+g} dB")
    told = [f"seen: {', '.join(seen)}"] if seen else []
    told += [f"not seen: {', '.join(missed)}"] if missed else []
    return "; ".join(told)
