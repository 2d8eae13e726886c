"""Row constants: what makes a distance to a crowded row comparable with one to a lonely row.

The healthy recordings of a new operating condition (the target domain) are few, so their distances
are larger than those of the well-covered condition and drown them in false alarms. Each bank row
therefore carries two constants, computed once from the bank alone (never from test statistics):

    normalised distance = d(x, y) * weight(y) - offset(y)

`ldn_ratio`       weight = 1 / b(y)                (local-density normalisation, Wilkinghoff 2025)
`ldn_difference`  offset = b(y)
`varmin`          offset = a b(y), a = Cov(d, b) / Var(b): the share of the density that removes
                  most variance from the healthy scores (arXiv 2603.04605)

where b(y) is the mean distance of y to its `density_k` nearest other recordings (each counted once,
by its nearest window: the hop between windows must not change what is dense). The minimum over y is
taken after normalising.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from agent.config.scorer_knn import KnnConfig, Metric
from agent.core.records import Matrix
from agent.score.bank import OFFSET, WEIGHT, blocks, distances, prepare
from agent.score.scorer import IntVector, Vector

# A density below this share of the bank's median is a duplicate recording, not a dense condition:
# dividing by it would make every distance to that row enormous.
_SMALLEST_SHARE = 1e-2


def group_ids(groups: Sequence[str]) -> IntVector:
    """Group names as integers from 0, shape `(n,)`."""
    _, ids = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    found: IntVector = ids.astype(np.int64).reshape(-1)
    return found


@dataclass(frozen=True, slots=True)
class Neighbours:
    """For every row of a bank, the nearest other groups.

    Attributes:
        distances: float32 `(n, count)`, ascending, to each group's nearest row; infinity where
            there is no group left.
        groups: int64 `(n, count)`, which groups those are.
        partner: int64 `(n,)`, the nearest row of any other group; -1 when there is none.
    """

    distances: Matrix
    groups: IntVector
    partner: IntVector


def nearest_groups(ready: Matrix, ids: IntVector, metric: Metric, count: int) -> Neighbours:
    """Find the nearest other groups of every row.

    Args:
        ready: float32, shape `(n, dim)`, from `prepare`.
        ids: Group of each row, from `group_ids`.
        metric: Distance.
        count: How many groups; fewer come back when there are fewer.
    """
    n, groups = len(ready), int(ids.max()) + 1
    count = max(1, min(count, groups - 1))
    order = np.argsort(ids, kind="stable")
    starts = np.searchsorted(ids[order], np.arange(groups))
    near = np.full((n, count), np.inf, dtype=np.float32)
    which = np.full((n, count), -1, dtype=np.int64)
    partner = np.full(n, -1, dtype=np.int64)
    grouped = ready[order]
    for part in blocks(n, n):
        table = distances(ready[part], grouped, metric)
        table[ids[part, None] == ids[None, order]] = np.inf
        closest = np.argmin(table, axis=1)
        partner[part] = np.where(np.isfinite(table.min(axis=1)), order[closest], -1)
        by_group = np.minimum.reduceat(table, starts, axis=1)
        best = np.argpartition(by_group, count - 1, axis=1)[:, :count]
        values = np.take_along_axis(by_group, best, axis=1)
        rank = np.argsort(values, axis=1, kind="stable")
        near[part] = np.take_along_axis(values, rank, axis=1)
        which[part] = np.take_along_axis(best, rank, axis=1)
    return Neighbours(near, which, partner)


def density(near: Matrix, density_k: int) -> Vector:
    """Local density constant b: mean of the `density_k` smallest distances, shape `(n,)`.

    Args:
        near: Distances `(n, count)`, ascending, infinity where there is none.
        density_k: How many to average; rows with fewer average those they have, and rows with none
            take the bank's median, so that they neither attract nor repel.
    """
    near = near[:, :density_k]
    finite = np.isfinite(near)
    counts = finite.sum(axis=1)
    sums = np.where(finite, near, 0.0).sum(axis=1)
    b = np.divide(sums, counts, out=np.full(len(near), np.nan), where=counts > 0)
    known = b[np.isfinite(b)]
    middle = float(np.median(known)) if len(known) else 1.0
    b = np.where(np.isfinite(b), b, middle)
    least = max(_SMALLEST_SHARE * middle, 1e-12)
    found: Vector = np.maximum(b, least).astype(np.float32)
    return found


def varmin_slope(nearest: Vector, partner: IntVector, b: Vector) -> float:
    """The `a` of variance minimisation, from leave-one-out pairs (d, b of the nearest row).

    Held to [0, 1]: a negative slope would reward lonely rows, one above 1 over-corrects (with a = 1
    a row's own healthy neighbours already score 0 on average).
    """
    has = partner >= 0
    d, there = nearest[has].astype(np.float64), b[partner[has]].astype(np.float64)
    if len(d) < 3 or float(np.var(there)) <= 0.0:
        return 0.0
    covariance = float(np.mean((d - d.mean()) * (there - there.mean())))
    return float(np.clip(covariance / float(np.var(there)), 0.0, 1.0))


def row_constants(b: Vector, config: KnnConfig, slope: float) -> Matrix:
    """Weight and offset of rows of density `b`, float32 `(n, 2)`; `slope` is that of `varmin`."""
    constants = np.zeros((len(b), 2), dtype=np.float32)
    constants[:, WEIGHT] = 1.0
    if config.normalization == "ldn_ratio":
        constants[:, WEIGHT] = 1.0 / b
    elif config.normalization == "ldn_difference":
        constants[:, OFFSET] = b
    elif config.normalization == "varmin":
        constants[:, OFFSET] = slope * b
    return constants


def fit_constants(
    vectors: Matrix,
    groups: Sequence[str],
    config: KnnConfig,
    domains: Sequence[str] | None = None,
) -> Matrix:
    """Row constants of a bank.

    Args:
        vectors: float32, shape `(n, dim)`.
        groups: Group (recording) of each row.
        config: Metric, normalisation, densities, banks and their scale.
        domains: Domain of each row, for banks and scales of their own; one for all when None.

    Returns:
        float32, shape `(n, 2)`: weight and offset.
    """
    constants = _joint(vectors, groups, config)
    if domains is None:
        return constants
    names = np.asarray(domains, dtype=str)
    for domain in np.unique(names):
        own = np.flatnonzero(names == domain)
        mine = [groups[i] for i in own]
        # One recording alone has no density of its own: it keeps that among all.
        if config.banks == "domains" and len(set(mine)) > 1:
            k = config.density_k_target if domain == "target" else config.density_k
            constants[own] = _joint(vectors[own], mine, config.model_copy(update={"density_k": k}))
        if config.domain_scale == "median":
            constants[own] /= _usual(vectors[own], mine, constants[own], config)
    return constants


def _joint(vectors: Matrix, groups: Sequence[str], config: KnnConfig) -> Matrix:
    ids = group_ids(groups)
    if config.normalization == "none" or len(np.unique(ids)) < 2:
        return row_constants(
            np.zeros(len(vectors), np.float32),
            config.model_copy(update={"normalization": "none"}),
            0.0,
        )
    ready = prepare(vectors, config.metric)
    found = nearest_groups(ready, ids, config.metric, config.density_k)
    b = density(found.distances, config.density_k)
    return row_constants(b, config, varmin_slope(found.distances[:, 0], found.partner, b))


def _usual(vectors: Matrix, groups: Sequence[str], constants: Matrix, config: KnnConfig) -> float:
    """Median leave-one-recording-out distance within a bank; 1 where there is none."""
    ready, ids = prepare(vectors, config.metric), group_ids(groups)
    nearest = np.empty(len(ready), np.float32)
    for part in blocks(len(ready), len(ready)):
        table = distances(ready[part], ready, config.metric)
        table = table * constants[None, :, WEIGHT] - constants[None, :, OFFSET]
        table[ids[part, None] == ids[None, :]] = np.inf
        nearest[part] = table.min(axis=1)
    known = nearest[np.isfinite(nearest)]
    middle = float(np.median(known)) if len(known) else 0.0
    return middle if middle > 0.0 else 1.0


def nearest_k(table: Matrix, k: int, config: KnnConfig) -> Vector:
    """The score of each row of a table of normalised distances `(m, n)`, float32 `(m,)`.

    Args:
        table: The distances; reordered.
        k: How many are looked at, at most n.
        config: How they are reduced.
    """
    first = np.partition(table, k - 1, axis=1)
    if config.reduce == "kth":
        return first[:, k - 1].astype(np.float32)
    found: Vector = first[:, :k].mean(axis=1, dtype=np.float32)
    return found
