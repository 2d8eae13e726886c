"""Healthy recordings that the detector itself finds unlike all others: none sets the threshold."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from agent.bundle.manifest import Row
from agent.config.scorer import FusionConfig, ScorerConfig
from agent.config.scorer_knn import KnnConfig
from agent.core.errors import LearnError
from agent.core.text import plural
from agent.hygiene.outliers import FEWEST, find_apart
from agent.hygiene.record import HygieneRecord
from agent.hygiene.stage import REFUSED as REFUSED_BY_SPECTRA
from agent.score.build import healthy_scores
from agent.score.scorer import HealthySet, Vector

# A score is mostly the square of a distance: the gaps of `trainer.hygiene`, about squared.
GAP = 8.0
REFUSED = 25.0
_NAMED = 5


@dataclass(frozen=True, slots=True)
class ScoredApart:
    """A healthy recording whose own score lies apart from all others'.

    Attributes:
        source: The recording.
        start: Where its strangest window begins, seconds.
        times: How many times as far above the middle as the farthest of the rest.
    """

    source: str
    start: float
    times: float


def scored_apart(scores: Vector, rows: Sequence[Row]) -> list[ScoredApart]:
    """The recordings whose highest leave-one-out score is apart, the farthest first.

    Args:
        scores: Healthy scores, NaN where there was nothing to compare.
        rows: Where each came from.
    """
    worst: dict[str, int] = {}
    for n in np.flatnonzero(np.isfinite(scores)):
        source = rows[n].source
        if source not in worst or scores[n] > scores[worst[source]]:
            worst[source] = int(n)
    if len(worst) < FEWEST:
        return []
    places = list(worst.values())
    return [
        ScoredApart(rows[places[one.place]].source, rows[places[one.place]].start, one.times)
        for one in find_apart(scores[places].astype(np.float64), GAP)
    ]


def apart_recordings(healthy: HealthySet, config: ScorerConfig) -> list[ScoredApart]:
    """The recordings apart by plain distance in any part of a scorer.

    A density of their own would hide them, and so would a scale that they widen themselves.

    Args:
        healthy: Healthy windows.
        config: Scorer whose columns and distances are meant.
    """
    if len(set(healthy.groups)) < FEWEST:
        return []
    plain = without_density(config)
    parts = (
        [(part.columns, part.scorer) for part in plain.parts]
        if isinstance(plain, FusionConfig)
        else [(None, plain)]
    )
    worst: dict[str, ScoredApart] = {}
    for columns, scorer in parts:
        if not isinstance(scorer, KnnConfig):
            continue
        own = healthy if columns is None else healthy.columns(columns)
        # What is made of the rows (SMOTE, prototypes) is nobody's recording.
        recorded = scorer.model_copy(update={"oversample": "none", "prototypes": None})
        (scores,) = healthy_scores(own, recorded)
        for one in scored_apart(scores, healthy.rows):
            if one.source not in worst or one.times > worst[one.source].times:
                worst[one.source] = one
    return sorted(worst.values(), key=lambda one: -one.times)


def without_density(config: ScorerConfig) -> ScorerConfig:
    """A scorer whose nearest neighbours are told by plain distance."""
    plain = {"normalization": "none", "banks": "joint", "domain_scale": "none"}
    if isinstance(config, KnnConfig):
        return config.model_copy(update=plain)
    if isinstance(config, FusionConfig):
        parts = [
            part.model_copy(update={"scorer": part.scorer.model_copy(update=plain)})
            if isinstance(part.scorer, KnnConfig)
            else part
            for part in config.parts
        ]
        return config.model_copy(update={"parts": tuple(parts)})
    return config


def untypical_sources(hygiene: HygieneRecord | None, used: Collection[str]) -> dict[str, bool]:
    """Recordings in use that were found unlike all others before the learning, whether by far.

    Args:
        hygiene: What was found before; None where nobody looked.
        used: Recordings in use, relative to the data folder.
    """
    found = () if hygiene is None else hygiene.untypical
    return {one.path: one.times >= REFUSED_BY_SPECTRA for one in found if one.path in used}


@dataclass(frozen=True, slots=True)
class Counted:
    """What a threshold is found from.

    Attributes:
        scorer: The scorer to fit. A row that is unlike all others would, by its own density, claim
            every sound as its own: where there is one past the bound, distances are plain.
        odd: Recordings that calibrate nothing.
        apart: Those of them that the detector's own distances show to be unlike all others.
    """

    scorer: ScorerConfig
    odd: frozenset[str]
    apart: tuple[ScoredApart, ...]


def counted(healthy: HealthySet, scorer: ScorerConfig, untypical: Mapping[str, bool]) -> Counted:
    """Choose the recordings that set a threshold, and the scorer that is fitted.

    The rehearsal after training and the export both ask this.

    Args:
        healthy: Healthy windows.
        scorer: As the preset has it.
        untypical: See `untypical_sources`.
    """
    apart = tuple(apart_recordings(healthy, scorer))
    alone = any(untypical.values()) or any(one.times >= REFUSED for one in apart)
    return Counted(
        without_density(scorer) if alone else scorer,
        frozenset({one.source for one in apart} | set(untypical)),
        apart,
    )


def refuse_apart(found: Sequence[ScoredApart], hygiene: HygieneRecord | None, machine: str) -> None:
    """Refuse a bundle whose healthy sound holds what is unlike all the rest, unless it was kept.

    Args:
        found: See `scored_apart`.
        hygiene: What was found and decided before; without it nothing is refused.
        machine: Its name.

    Raises:
        LearnError: There is one past the bound.
    """
    bad = [one for one in found if one.times >= REFUSED]
    if not bad or hygiene is None or hygiene.decision == "keep":
        return
    names = "".join(f"\n  {_told(one)}" for one in bad[:_NAMED])
    raise LearnError(
        f"{plural(len(bad), 'healthy recording')} unlike all others to this detector: {names}\n",
        where=machine,
        remedy="Listen to them. If the machine is not well in them, take them away and learn "
        "again; if it is, record that condition more than once, or learn again with --untypical "
        "keep: they are learnt from, but set no threshold.",
    )


def note_apart(found: Sequence[ScoredApart], named: Collection[str]) -> str:
    """What the manifest says of recordings that set no threshold; empty without any.

    Args:
        found: By the detector's scores.
        named: By their spectra, before the training.
    """
    told = [_told(one) for one in found]
    told += sorted(set(named) - {one.source for one in found})
    if not told:
        return ""
    return (
        f"{plural(len(told), 'healthy recording')} unlike all others, of which none sets the "
        f"threshold: {'; '.join(told[:_NAMED])}{' ...' if len(told) > _NAMED else ''}"
    )


def _told(one: ScoredApart) -> str:
    return (
        f"{one.source} alone would set the threshold, {one.times:.0f} times as high above the "
        f"middle as the next: listen to it from {one.start:.0f} s on"
    )
