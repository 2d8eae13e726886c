"""Row constants: what makes a distance to a crowded row comparable with one to a lonely row.

The healthy recordings of a new operating condition (the target domain) are few, so their distances
are larger than those of the well-covered condition and drown them in false alarms. Each bank row
therefore carries two constants, computed once from the bank alone (never from test statistics):

    normalised distance = d(x, y) * weight(y) - offset(y)

`ldn_ratio`       weight = 1 / b(y)                (local-density normalisation, Wilkinghoff 2025)
`ldn_difference`  offset = b(y)
`varmin`          offset = a b(y), a = Cov(d, b) / Var(b): the share of the density that removes
                  most variance from the healthy scores (arXiv 2603.04605)

where b(y) is the mean distance of y to its `density_k` nearest rows of other recordings. The
minimum over y is taken after normalising.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from agent.bundle.manifest import ScorerConfig
from agent.frames import Matrix
from agent.score.bank import OFFSET, WEIGHT, distances, prepare

# A density below this share of the bank's median is a duplicate recording, not a dense condition:
# dividing by it would make every distance to that row enormous.
_SMALLEST_SHARE = 1e-2
# Rows whose distances are held at once.
_BLOCK = 2048

IntVector = npt.NDArray[np.int64]


def group_ids(groups: Sequence[str]) -> IntVector:
    """Group names as integers, shape `(n,)`."""
    _, ids = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    return ids.astype(np.int64).reshape(-1)


def nearest_others(
    vectors: Matrix, groups: Sequence[str], config: ScorerConfig, count: int
) -> tuple[Matrix, IntVector]:
    """Nearest rows of other groups, for every row of a bank.

    Args:
        vectors: float32, shape `(n, dim)`.
        groups: Group of each row; rows of one group are never each other's neighbour.
        config: Says which metric.
        count: How many neighbours; fewer come back when the other groups hold fewer rows.

    Returns:
        Distances float32 `(n, count)` ascending, and row numbers int64 `(n, count)`. A place with
        no neighbour left holds infinity and -1.
    """
    ready = prepare(vectors, config.metric)
    ids = group_ids(groups)
    n = len(ready)
    count = min(count, n)
    found = np.full((n, count), np.inf, dtype=np.float32)
    which = np.full((n, count), -1, dtype=np.int64)
    for start in range(0, n, _BLOCK):
        rows = slice(start, min(start + _BLOCK, n))
        table = distances(ready[rows], ready, config.metric)
        table[ids[rows, None] == ids[None, :]] = np.inf
        part = np.argpartition(table, count - 1, axis=1)[:, :count]
        values = np.take_along_axis(table, part, axis=1)
        order = np.argsort(values, axis=1, kind="stable")
        found[rows] = np.take_along_axis(values, order, axis=1)
        which[rows] = np.take_along_axis(part, order, axis=1)
    which[~np.isfinite(found)] = -1
    return found, which


def density(found: Matrix, density_k: int) -> npt.NDArray[np.float32]:
    """Local density constant b: mean distance to the `density_k` nearest rows, shape `(n,)`.

    Rows with fewer neighbours average those they have; with none at all they take the bank's
    median, so that they neither attract nor repel.
    """
    near = found[:, :density_k]
    finite = np.isfinite(near)
    counts = finite.sum(axis=1)
    sums = np.where(finite, near, 0.0).sum(axis=1)
    b = np.divide(sums, counts, out=np.full(len(near), np.nan), where=counts > 0)
    known = b[np.isfinite(b)]
    middle = float(np.median(known)) if len(known) else 1.0
    b = np.where(np.isfinite(b), b, middle)
    return np.maximum(b, max(_SMALLEST_SHARE * middle, 1e-12)).astype(np.float32)


def varmin_slope(found: Matrix, which: IntVector, b: npt.NDArray[np.float32]) -> float:
    """The `a` of variance minimisation, from leave-one-out pairs (d, b of the nearest row).

    Held to [0, 1]: a negative slope would reward lonely rows, one above 1 over-corrects (with a = 1
    a row's own healthy neighbours already score 0 on average).
    """
    has = which[:, 0] >= 0
    d, partner = found[has, 0].astype(np.float64), b[which[has, 0]].astype(np.float64)
    if len(d) < 3 or float(np.var(partner)) <= 0.0:
        return 0.0
    covariance = float(np.mean((d - d.mean()) * (partner - partner.mean())))
    return float(np.clip(covariance / float(np.var(partner)), 0.0, 1.0))


def fit_constants(vectors: Matrix, groups: Sequence[str], config: ScorerConfig) -> Matrix:
    """Row constants of a bank.

    Args:
        vectors: float32, shape `(n, dim)`.
        groups: Group (recording) of each row.
        config: Metric, normalisation and `density_k`.

    Returns:
        float32, shape `(n, 2)`: weight and offset.
    """
    constants = np.zeros((len(vectors), 2), dtype=np.float32)
    constants[:, WEIGHT] = 1.0
    if config.normalization == "none" or len(vectors) < 2:
        return constants
    found, which = nearest_others(vectors, groups, config, config.density_k)
    b = density(found, config.density_k)
    return _constants(b, config, varmin_slope(found, which, b))


def _constants(b: npt.NDArray[np.float32], config: ScorerConfig, slope: float) -> Matrix:
    constants = np.zeros((len(b), 2), dtype=np.float32)
    constants[:, WEIGHT] = 1.0
    if config.normalization == "ldn_ratio":
        constants[:, WEIGHT] = 1.0 / b
    elif config.normalization == "ldn_difference":
        constants[:, OFFSET] = b
    elif config.normalization == "varmin":
        constants[:, OFFSET] = slope * b
    return constants


def leave_one_out(
    vectors: Matrix, groups: Sequence[str], config: ScorerConfig
) -> npt.NDArray[np.float32]:
    """Score every healthy row as if its whole recording had never been heard.

    The left-out recording is missing both from the bank and from the densities of the rows that
    remain, so the scores are what a new healthy recording would get.

    Args:
        vectors: float32, shape `(n, dim)`.
        groups: Group (recording) of each row.
        config: Scorer.

    Returns:
        float32, shape `(n,)`; NaN where no other group exists.
    """
    ready = prepare(vectors, config.metric)
    ids = group_ids(groups)
    n = len(ready)
    scores = np.full(n, np.nan, dtype=np.float32)
    if len(np.unique(ids)) < 2:
        return scores
    largest = int(np.bincount(ids).max())
    # Enough neighbours that density_k remain after any one group is taken away.
    found, which = nearest_others(vectors, groups, config, config.density_k + largest)
    b_all = density(found, config.density_k)
    slope = varmin_slope(found, which, b_all)
    neighbour_group = np.where(which >= 0, ids[which], -1)
    for group in np.unique(ids):
        inside, outside = np.flatnonzero(ids == group), np.flatnonzero(ids != group)
        b = b_all
        if config.normalization != "none":
            touched = (neighbour_group[:, : config.density_k] == group).any(axis=1)
            if touched.any():
                b = b_all.copy()
                kept = np.where(neighbour_group[touched] == group, np.inf, found[touched])
                b[touched] = density(np.sort(kept, axis=1), config.density_k)
        constants = _constants(b, config, slope)[outside]
        table = distances(ready[inside], ready[outside], config.metric)
        table = table * constants[None, :, WEIGHT] - constants[None, :, OFFSET]
        k = min(config.k, table.shape[1])
        scores[inside] = np.partition(table, k - 1, axis=1)[:, :k].mean(axis=1)
    return scores
