"""What a nearest-neighbour scorer compares with: the healthy rows, fewer of them, or more.

    rows         every healthy window (the usual)
    kmeans       centres in the place of the source domain's rows (Wilkinghoff's back-end)
    coreset      the rows that leave no other far from all of them (greedy k-centre, Gonzalez 1985)
    smote        target rows filled up by interpolation (Chawla et al. 2002; DCASE 2025 report 001)

Whatever is not a healthy row knows the one that is nearest to it, which stands for it where people
are told what a sound resembles.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from agent.config.scorer_knn import KnnConfig, Metric, Prototypes
from agent.core.records import Matrix
from agent.score.bank import distances, prepare
from agent.score.fitter import Fitter, on_workstation
from agent.score.normalize import fit_constants
from agent.score.scorer import HealthySet, IntVector

Texts: TypeAlias = npt.NDArray[np.str_]

TARGET = "target"
_BLOCK = 2048


@dataclass(frozen=True, slots=True)
class Prepared:
    """The vectors compared with.

    Attributes:
        vectors: float32, shape `(m, dim)`.
        constants: Weight and offset of each, float32 `(m, 2)`.
        origin: The healthy row that each is or stands for, int64 `(m,)`.
    """

    vectors: Matrix
    constants: Matrix
    origin: IntVector


def is_plain(config: KnnConfig) -> bool:
    """Whether the healthy rows themselves are compared with."""
    return config.prototypes is None and config.oversample == "none" and config.banks != "target"


def prepare_bank(healthy: HealthySet, config: KnnConfig, fitter: Fitter | None) -> Prepared:
    """Make the vectors and their constants.

    Args:
        healthy: Healthy windows.
        config: What to make of them.
        fitter: Fits what takes a workstation.

    Raises:
        WorkstationError: K-means or SMOTE is asked for and there is no fitter.
    """
    vectors, groups = healthy.vectors, list(healthy.groups)
    domains: Texts = np.array(healthy.domains)
    origin: IntVector = np.arange(len(vectors), dtype=np.int64)
    if config.prototypes is not None:
        vectors, domains, groups, origin = _fewer(healthy, config.prototypes, config, fitter)
    # Densities are those among what was recorded (or its centres), before anything is made up.
    constants = fit_constants(vectors, groups, config, domains.tolist())
    if config.oversample == "smote":
        made = on_workstation(fitter, "knn with smote").oversample(
            vectors, (domains == TARGET), config.oversample_k
        )
        if len(made):
            real = np.flatnonzero(domains == TARGET)
            near = real[_nearest(made, vectors[real], config.metric)]
            vectors = np.concatenate([vectors, made.astype(np.float32)])
            constants = np.concatenate([constants, constants[near]])
            origin = np.concatenate([origin, origin[near]])
            domains = np.concatenate([domains, domains[near]])
    if config.banks == "target" and (domains == TARGET).any():
        wanted = domains == TARGET
        return Prepared(vectors[wanted], constants[wanted], origin[wanted])
    return Prepared(vectors, constants, origin)


def _fewer(
    healthy: HealthySet, prototypes: Prototypes, config: KnnConfig, fitter: Fitter | None
) -> tuple[Matrix, Texts, list[str], IntVector]:
    domains: Texts = np.array(healthy.domains)
    if prototypes.method == "coreset":
        chosen = np.concatenate(
            [
                own[coreset(prepare(healthy.vectors[own], config.metric), prototypes.count)]
                for domain in np.unique(domains)
                if len(own := np.flatnonzero(domains == domain))
            ]
        )
        chosen = np.sort(chosen)
        groups = [healthy.groups[i] for i in chosen]
        return healthy.vectors[chosen], domains[chosen], groups, chosen.astype(np.int64)
    source, target = np.flatnonzero(domains != TARGET), np.flatnonzero(domains == TARGET)
    if not len(source):
        everything: IntVector = np.arange(len(domains), dtype=np.int64)
        return healthy.vectors, domains, list(healthy.groups), everything
    ready = prepare(healthy.vectors[source], config.metric)
    labels = on_workstation(fitter, "knn with kmeans").clusters(
        ready.astype(np.float64), prototypes.count, 0
    )
    centres = np.stack([ready[labels == label].mean(axis=0) for label in np.unique(labels)])
    near = source[_nearest(centres, healthy.vectors[source], config.metric)]
    kept = prepare(healthy.vectors[target], config.metric)
    vectors = np.concatenate([centres, kept]).astype(np.float32)
    # A centre is of many recordings, so it is a group of its own.
    groups = [f"centre {i}" for i in range(len(centres))] + [healthy.groups[i] for i in target]
    names = np.concatenate([domains[near], domains[target]])
    return vectors, names, groups, np.concatenate([near, target]).astype(np.int64)


def coreset(ready: Matrix, count: int) -> IntVector:
    """Rows such that the largest distance of any row to the nearest of them is nearly smallest.

    Greedy k-centre: the row nearest to the mean first, then always the row farthest from all
    chosen. Its largest distance is at most twice the smallest possible (Gonzalez 1985).

    Args:
        ready: Vectors from `prepare`, float32 `(n, dim)`.
        count: How many.

    Returns:
        Their numbers, int64 `(min(count, n),)`.
    """
    squared = np.square(ready - ready.mean(axis=0)).sum(axis=1)
    chosen = [int(np.argmin(squared))]
    reach = np.square(ready - ready[chosen[0]]).sum(axis=1)
    reach[chosen] = -1.0
    while len(chosen) < min(count, len(ready)):
        chosen.append(int(np.argmax(reach)))
        reach = np.minimum(reach, np.square(ready - ready[chosen[-1]]).sum(axis=1))
        reach[chosen] = -1.0  # a row is chosen once, equal ones or not
    return np.array(chosen, dtype=np.int64)


def _nearest(queries: Matrix, vectors: Matrix, metric: Metric) -> IntVector:
    ready, asked = prepare(vectors, metric), prepare(queries, metric)
    found = [
        np.argmin(distances(asked[at : at + _BLOCK], ready, metric), axis=1)
        for at in range(0, len(asked), _BLOCK)
    ]
    nearest: IntVector = np.concatenate(found).astype(np.int64)
    return nearest
