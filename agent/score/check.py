"""Does a normalisation still see? Asked of the healthy recordings alone, before it is trusted.

Local-density constants can collapse a machine: a lonely row's distances shrink so far that it
claims every sound, anomalies included (on DCASE ToyCar, K = 1 took the source AUC from 76 to 33).
Nothing in the healthy scores shows it, since those shrink as well.

So displaced embeddings stand in for anomalies: each healthy embedding is moved away by 1.5 times
its own nearest-neighbour distance, in a direction that healthy sound itself varies in (the
difference of two random healthy embeddings). The power of a scorer is the AUC of these against the
undisplaced ones, both left out with their recording. A normalisation whose power is below that of
the plain distance hides what it should show.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agent.bundle.manifest import ScorerConfig
from agent.frames import Matrix
from agent.score.bank import prepare
from agent.score.normalize import Vector, group_ids, leave_one_out, nearest_groups

# How far a healthy embedding is displaced, in its own leave-one-out distances.
_REACH = 1.5
# Displacements drawn for each embedding; their AUCs are averaged.
_DRAWS = 4
# Loss of power, in AUC, that is put down to chance.
TOLERANCE = 0.015


def power(vectors: Matrix, groups: Sequence[str], config: ScorerConfig, *, seed: int = 0) -> float:
    """How well a scorer tells displaced healthy embeddings from undisplaced ones.

    Args:
        vectors: float32, shape `(n, dim)`.
        groups: Group (recording) of each row.
        config: Scorer to ask about.
        seed: Seed of the displacements.

    Returns:
        AUC in [0, 1]; NaN when there are fewer than two groups.
    """
    ids = group_ids(groups)
    if len(np.unique(ids)) < 2:
        return float("nan")
    ready = prepare(vectors, config.metric)
    near = nearest_groups(ready, ids, config.metric, 1).distances[:, :1]
    # On the unit sphere a distance (1 - cos) / 2 is a chord of length 2 sqrt(d).
    chord = 2.0 * np.sqrt(near) if config.metric == "cosine" else near
    healthy = leave_one_out(vectors, groups, config)
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(_DRAWS):
        first, second = rng.integers(0, len(ready), (2, len(ready)))
        direction = ready[first] - ready[second]
        length = np.linalg.norm(direction, axis=1, keepdims=True)
        moved = ready + direction / np.maximum(length, 1e-9) * chord * _REACH
        displaced = leave_one_out(
            ready, groups, config, queries=moved.astype(np.float32, copy=False)
        )
        found.append(_auc(healthy, displaced))
    return float(np.mean(found))


def _auc(low: Vector, high: Vector) -> float:
    """Probability that a value of `high` exceeds one of `low`, ties counting half."""
    ordered = np.sort(low)
    below = np.searchsorted(ordered, high, side="left")
    not_above = np.searchsorted(ordered, high, side="right")
    return float(np.mean(below + not_above) / (2 * len(low)))


def trusted(
    vectors: Matrix, groups: Sequence[str], config: ScorerConfig
) -> tuple[ScorerConfig, str]:
    """The scorer, with its normalisation dropped if that would blind it.

    Args:
        vectors: float32, shape `(n, dim)`.
        groups: Group (recording) of each row.
        config: Scorer the preset asks for.

    Returns:
        The scorer to use, and a note for people (empty when nothing was to be said).
    """
    if config.normalization == "none":
        return config, ""
    plain = config.model_copy(update={"normalization": "none"})
    with_it, without = power(vectors, groups, config), power(vectors, groups, plain)
    if not np.isfinite(with_it) or with_it >= without - TOLERANCE:
        return config, ""
    return plain, (
        f"{config.normalization} was dropped: on displaced healthy sound its AUC is "
        f"{with_it:.3f} against {without:.3f} without it"
    )
