"""Does a normalisation still see? Asked of the healthy recordings alone, before it is trusted.

Local-density constants can collapse a machine: a lonely row's distances shrink so far that it
claims every sound, anomalies included (on DCASE ToyCar, K = 1 took the source AUC from 76 to 33).
Nothing in the healthy scores shows it, since those shrink as well.

So displaced embeddings stand in for anomalies: each healthy embedding is moved away by 1.5 times
its own nearest-neighbour distance, in a direction that healthy sound itself varies in (the
difference of two random healthy embeddings). The power of a scorer is the AUC of these against the
undisplaced ones, both left out with their recording. A local-density normalisation whose power is
below that of the plain distance hides what it should show.

Variance minimisation subtracts the share of the density that the healthy scores themselves ask for.
What it loses there of near displacements says nothing of faults: over seven views of 24 sets of
recordings its loss and its gain on real faults are unrelated (docs/notes/choice.md). It is dropped
only where it has collapsed: where it no longer sees even what is far away.

Of any other scorer a person is told when its power is well below that of the plain nearest
neighbour.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from agent.config.scorer import FusionConfig, Part, PartScorer, ScorerConfig, Span
from agent.config.scorer_density import ValueConfig
from agent.config.scorer_knn import KnnConfig, Metric
from agent.core.cores import on_cores
from agent.core.records import Matrix
from agent.score.bank import prepare
from agent.score.build import healthy_scores
from agent.score.fitter import Fitter
from agent.score.fusion import prepared
from agent.score.normalize import group_ids, nearest_groups
from agent.score.scorer import HealthySet, Vector
from agent.score.space import metric_of

# How far a healthy embedding is displaced, in its own leave-one-out distances.
_REACH = 1.5
# What a collapsed scorer misses as well.
_FAR = 5.0
# A normalisation that has lost so much of what the plain distance sees so far away has collapsed...
_COLLAPSED = 0.5
# ... if that is more than chance in few recordings.
_LEAST_LOSS = 0.1
# Displacements drawn for each embedding; their AUCs are averaged.
_DRAWS = 4
# Loss of power, in AUC, that is put down to chance.
TOLERANCE = 0.015
# With two recordings, whatever is left out leaves no density behind, and the healthy scores are on
# another scale than those to come: the machine would be in alarm for ever.
_FEWEST = 3
# A scorer with so much less power than the plain nearest neighbour is told of.
_WEAKER = 0.05


def power(
    healthy: HealthySet,
    config: ScorerConfig,
    fitter: Fitter | None = None,
    *,
    reach: float = _REACH,
) -> float:
    """How well a scorer tells displaced healthy embeddings from undisplaced ones.

    Args:
        healthy: Healthy windows.
        config: Scorer to ask about.
        fitter: Fits what takes a workstation.
        reach: How far they go, in leave-one-out distances.

    Returns:
        AUC in [0, 1]; NaN when there are fewer than two groups.
    """
    if len(set(healthy.groups)) < 2:
        return float("nan")
    rng = np.random.default_rng(0)
    moved = [healthy.vectors + reach * displacement(healthy, config, rng) for _ in range(_DRAWS)]
    own, *displaced = healthy_scores(healthy, config, fitter, queries=[healthy.vectors, *moved])
    return float(np.mean([auc(own, scores) for scores in displaced]))


def displacement(healthy: HealthySet, config: ScorerConfig, rng: np.random.Generator) -> Matrix:
    """A way away from each healthy embedding, in a direction that healthy sound varies in.

    Each is as long as the distance to the nearest window of another recording, and each block of
    columns that a scorer judges has its own measure of distance.

    Args:
        healthy: Healthy windows, of two recordings at least.
        config: Scorer whose blocks and metrics are meant.
        rng: Draws the directions.

    Returns:
        float32, shape `(n, dim)`, to be added.
    """
    vectors, ids = healthy.vectors, group_ids(healthy.groups)
    away = np.zeros_like(vectors)
    for (start, stop), metric in _blocks(config, vectors.shape[1]):
        block = vectors[:, start:stop]
        ready = prepare(block, metric)
        near = nearest_groups(ready, ids, metric, 1).distances[:, :1]
        # On the unit sphere a distance (1 - cos) / 2 is a chord of length 2 sqrt(d).
        chord = 2.0 * np.sqrt(near) if metric == "cosine" else near
        size = np.linalg.norm(block, axis=1, keepdims=True) if metric == "cosine" else 1.0
        first, second = rng.integers(0, len(ready), (2, len(ready)))
        direction = ready[first] - ready[second]
        length = np.linalg.norm(direction, axis=1, keepdims=True)
        away[:, start:stop] = direction / np.maximum(length, 1e-9) * chord * size
    return away


def _blocks(config: ScorerConfig, dim: int) -> list[tuple[Span, Metric]]:
    if not isinstance(config, FusionConfig):
        return [((0, dim), metric_of(config))]
    found = {
        (0, dim) if part.columns is None else part.columns: metric_of(part.scorer)
        for part in config.parts
    }
    return list(found.items())


def auc(low: Vector, high: Vector) -> float:
    """Probability that a value of `high` exceeds one of `low`, ties counting half."""
    ordered = np.sort(low)
    below = np.searchsorted(ordered, high, side="left")
    not_above = np.searchsorted(ordered, high, side="right")
    return float(np.mean(below + not_above) / (2 * len(low)))


def trusted(
    healthy: HealthySet,
    config: ScorerConfig,
    fitter: Fitter | None = None,
    advance: Callable[[], None] = lambda: None,
) -> tuple[ScorerConfig, str]:
    """The scorer, with its normalisation dropped if that would blind it.

    Recordings are left out one by one here, for it asks what a fault of a day that was heard
    scores. Each part of a fusion is asked on its own. Scorers without a normalisation are used as
    they are, and only told of.

    Args:
        healthy: Healthy windows.
        config: Scorer the preset asks for.
        fitter: Fits what takes a workstation.
        advance: Called after each part.

    Returns:
        The scorer to use, and a note for people (empty when nothing was to be said).
    """
    healthy = healthy.without_sessions()
    if not isinstance(config, FusionConfig):
        found = _trusted(healthy, config, fitter)
        advance()
        return found

    def judged(part: Part) -> tuple[PartScorer, str]:
        return _trusted(prepared(healthy, part)[0], part.scorer, fitter)

    parts, notes = [], []
    # A device has the sound of the present to attend to.
    found_of = on_cores(judged, config.parts, most=1 if fitter is None else len(config.parts))
    for place, (part, (used, note)) in enumerate(zip(config.parts, found_of, strict=True)):
        advance()
        parts.append(part.model_copy(update={"scorer": used}))
        if note:
            notes.append(f"part {place}: {note}")
    return config.model_copy(update={"parts": tuple(parts)}), "; ".join(notes)


def _trusted(
    healthy: HealthySet, config: PartScorer, fitter: Fitter | None
) -> tuple[PartScorer, str]:
    if isinstance(config, ValueConfig):
        # A displaced error is not an error of displaced sound.
        return config, ""
    if not isinstance(config, KnnConfig):
        return config, _compared(healthy, config, fitter)
    plain = config.model_copy(
        update={"normalization": "none", "banks": "joint", "domain_scale": "none"}
    )
    if plain == config:
        return config, ""
    asked: list[str] = [config.normalization] if config.normalization != "none" else []
    asked += [f"banks: {config.banks}"] if config.banks != "joint" else []
    asked += ["domain_scale"] if config.domain_scale != "none" else []
    if 1 < len(set(healthy.groups)) < _FEWEST:
        return plain, (
            f"{', '.join(asked)} was dropped: it takes {_FEWEST} healthy recordings, and there "
            f"are {len(set(healthy.groups))}"
        )
    fitted = config.normalization == "varmin" and config.banks == "joint"
    reach = _FAR if fitted else _REACH
    with_it, without = (power(healthy, one, fitter, reach=reach) for one in (config, plain))
    if not np.isfinite(with_it) or not _hides(with_it, without, fitted=fitted):
        return config, ""
    far = "far " if fitted else ""
    return plain, (
        f"{', '.join(asked)} was dropped: on {far}displaced healthy sound its AUC is "
        f"{with_it:.3f} against {without:.3f} without it"
    )


def _hides(with_it: float, without: float, *, fitted: bool) -> bool:
    """Whether a normalisation's power is too far below that of the plain distance."""
    loss = without - with_it
    if not fitted:
        return loss > TOLERANCE
    return loss > _LEAST_LOSS and loss > _COLLAPSED * (without - 0.5)


def _compared(healthy: HealthySet, config: PartScorer, fitter: Fitter | None) -> str:
    plain = KnnConfig(metric=metric_of(config), normalization="none")
    found, usual = power(healthy, config, fitter), power(healthy, plain)
    if not np.isfinite(found) or found >= usual - _WEAKER:
        return ""
    return (
        f"{config.kind} tells displaced healthy sound from undisplaced with an AUC of {found:.3f}, "
        f"the plain nearest neighbour with {usual:.3f}"
    )
