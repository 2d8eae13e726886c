"""What the encoder learns to tell apart: operating conditions, or what stands in for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from agent.bundle.manifest import Row
from trainer.encoders.floors import MelStatistics
from trainer.fit.perturb import NAMES, NONE

# Telling two or three conditions apart needs few features of the sound, and what the encoder does
# not need it does not keep: below this many classes, distortions are added to the task.
ENOUGH_CLASSES = 4
# Recordings from which on clusters of them mean operating conditions rather than chance.
ENOUGH_FOR_CLUSTERS = 64
_WINDOWS_A_CLUSTER = 32
_MOST_CLUSTERS = 8


@dataclass(frozen=True, slots=True)
class ClassPlan:
    """The classification task of a training.

    Attributes:
        labels: Class of each window before distortion, int64 `(n,)`.
        names: Those classes, in words.
        perturbations: Distortions, each of which multiplies the classes; only `none` when there
            are enough.
        rule: The task in one sentence, for people.
    """

    labels: npt.NDArray[np.int64]
    names: tuple[str, ...]
    perturbations: tuple[str, ...]
    rule: str

    @property
    def count(self) -> int:
        """Classes to tell apart."""
        return len(self.names) * len(self.perturbations)


def plan_classes(
    rows: Sequence[Row], waveforms: Tensor, *, machine: str, rate: int, seed: int
) -> ClassPlan:
    """Choose the classes of a training set.

    Section x attributes x domain, as in DCASE Task 2, when those differ. An attribute with another
    value in more than half of the recordings numbers recordings rather than naming a condition,
    and is ignored. When no attribute differs, clusters of similar recordings stand in for them
    (where there are enough), and while there are fewer than four classes, distorted copies become
    classes of their own (see `trainer.fit.perturb`).

    Args:
        rows: Origin of each window.
        waveforms: The windows, float32 `(n, samples)`; listened to only for clustering.
        machine: Machine's name, the first part of every class's name.
        rate: Samples a second.
        seed: Seeds the clustering.

    Returns:
        The plan.
    """
    used, ignored = _informative(rows)
    names = [
        "/".join(
            [
                machine,
                row.section,
                *(f"{key}={row.attributes.get(key, '?')}" for key in used),
                row.domain,
            ]
        )
        for row in rows
    ]
    parts = [f"{len(set(names))} combinations of {_listed(rows, used)}"]
    if ignored:
        parts.append(f"without {', '.join(ignored)} (nearly a value a recording)")
    recordings = len({row.source for row in rows})
    if not used and recordings >= ENOUGH_FOR_CLUSTERS:
        clusters = _cluster(waveforms, rate, seed)
        names = [f"{name}/cluster={cluster}" for name, cluster in zip(names, clusters, strict=True)]
        parts.append(
            f"no attribute differs, so {len(set(clusters))} k-means clusters of mean log-mel "
            f"spectra stand in ({len(set(names))} classes)"
        )
    elif not used:
        parts.append("no attribute differs")
    found = sorted(set(names))
    perturbations: tuple[str, ...] = (NONE,)
    if len(found) < ENOUGH_CLASSES:
        perturbations = NAMES
        parts.append(
            f"too few to learn from, so each is also told from itself {', '.join(NAMES[1:])} "
            f"({len(found) * len(NAMES)} classes)"
        )
    numbers = {name: number for number, name in enumerate(found)}
    return ClassPlan(
        labels=np.array([numbers[name] for name in names], dtype=np.int64),
        names=tuple(found),
        perturbations=perturbations,
        rule="; ".join(parts),
    )


def _informative(rows: Sequence[Row]) -> tuple[list[str], list[str]]:
    """Attributes that name conditions, and those that number recordings."""
    used: list[str] = []
    ignored: list[str] = []
    recordings = len({row.source for row in rows})
    for key in sorted({key for row in rows for key in row.attributes}):
        values = {row.attributes.get(key, "?") for row in rows}
        if len(values) < 2:
            continue
        (ignored if len(values) > max(2, recordings / 2) else used).append(key)
    return used, ignored


def _listed(rows: Sequence[Row], used: Sequence[str]) -> str:
    differing = ["machine"]
    if len({row.section for row in rows}) > 1:
        differing.append("section")
    differing += used
    if len({row.domain for row in rows}) > 1:
        differing.append("domain")
    return " x ".join(differing)


def _cluster(waveforms: Tensor, rate: int, seed: int) -> npt.NDArray[np.int64]:
    """k-means over standardised mean log-mel spectra, `(n,)`."""
    # scikit-learn takes a second to import and is needed here only.
    from sklearn.cluster import KMeans  # noqa: PLC0415

    listener = MelStatistics(rate)
    with torch.no_grad():
        features = torch.cat([listener(chunk) for chunk in torch.split(waveforms, 64)])
    spectra = features[:, : features.shape[1] // 2].numpy().astype(np.float64)
    spectra = (spectra - spectra.mean(axis=0)) / (spectra.std(axis=0) + 1e-6)
    count = int(np.clip(len(spectra) // _WINDOWS_A_CLUSTER, 2, _MOST_CLUSTERS))
    fitted = KMeans(count, n_init=4, random_state=seed).fit(spectra)
    labels: npt.NDArray[np.int64] = fitted.labels_.astype(np.int64)
    return labels
