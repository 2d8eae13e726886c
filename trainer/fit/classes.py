"""What the encoder learns to tell apart: operating conditions, or what stands in for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from agent.bundle.manifest import Row
from agent.core.text import plural
from agent.recordings.held import forget_mapped
from trainer.encoders.floors import MelStatistics
from trainer.fit.config import ClassSettings
from trainer.fit.perturb import NAMES, NONE

# Telling two or three conditions apart needs few features of the sound, and what the encoder does
# not need it does not keep: below this many classes, distortions are added to the task.
ENOUGH_CLASSES = 4
# Recordings from which on clusters of them mean operating conditions rather than chance.
ENOUGH_FOR_CLUSTERS = 64
_WINDOWS_A_CLUSTER = 32
_MOST_CLUSTERS = 8
_AT_ONCE = 256  # windows

# What turns windows `(n, samples)` into the features that are clustered, `(n, d)`.
Listener = Callable[[Tensor], npt.NDArray[np.float64]]


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
    rows: Sequence[Row],
    waveforms: Tensor,
    *,
    machine: str,
    rate: int,
    seed: int,
    settings: ClassSettings | None = None,
    machines: Sequence[str] = (),
    roles: Sequence[str] = (),
    listen: Listener | None = None,
    distort: bool = True,
) -> ClassPlan:
    """Choose the classes of a training set.

    Section x attributes x domain of each machine, as in DCASE Task 2, when those differ. An
    attribute with another value in more than half of a machine's recordings numbers recordings
    rather than naming a condition, and is ignored. When no attribute of a machine differs, clusters
    of similar recordings stand in for them (where there are enough), and while there are fewer than
    four classes, distorted copies become classes of their own (see `trainer.fit.perturb`).

    Args:
        rows: Origin of each window.
        waveforms: The windows, float32 `(n, samples)`; listened to only for clustering.
        machine: The machine's name, the first part of every class's name.
        rate: Samples a second.
        seed: Seeds the clustering.
        settings: The preset's `training.classes`.
        machines: Machine of each window; empty when all are `machine`'s.
        roles: Role of each window's recording; empty when all are `normal`.
        listen: What is clustered; None for mean log-mel spectra.
        distort: Whether the training can show distorted copies; without, classes may be few.

    Returns:
        The plan.
    """
    settings = settings or ClassSettings()
    owners = list(machines) or [machine] * len(rows)
    kinds = list(roles) or ["normal"] * len(rows)
    names = [""] * len(rows)
    parts: list[str] = []
    for owner in sorted(set(owners), key=lambda name: (name != machine, name)):
        healthy: list[int] = []
        extras: set[str] = set()
        for i, (its, kind) in enumerate(zip(owners, kinds, strict=True)):
            if its != owner:
                continue
            if kind == "noise" or (kind == "clean" and settings.clean):
                names[i] = f"{owner}/{kind}"
                extras.add(f"{kind} recordings as a class")
            else:
                healthy.append(i)
        found, told = _conditions(
            owner,
            [rows[i] for i in healthy],
            waveforms,
            healthy,
            settings,
            listen or (lambda chunk: _spectra(chunk, rate)),
            seed,
        )
        for i, name in zip(healthy, found, strict=True):
            names[i] = name
        told = "; ".join([told, *sorted(extras)])
        parts.append(told if owner == machine else f"{owner}: {told}")
    asked = (("noise", settings.noise), ("clean", settings.clean))
    parts.extend(
        f"no {kind} recordings to make a class of"
        for kind, wanted in asked
        if wanted and kind not in kinds
    )
    classes = sorted(set(names))
    perturbations: tuple[str, ...] = (NONE,)
    if distort and len(classes) < ENOUGH_CLASSES:
        perturbations = NAMES
        parts.append(
            f"too few to learn from, so each is also told from itself {', '.join(NAMES[1:])} "
            f"({len(classes) * len(NAMES)} classes)"
        )
    numbers = {name: number for number, name in enumerate(classes)}
    return ClassPlan(
        labels=np.array([numbers[name] for name in names], dtype=np.int64),
        names=tuple(classes),
        perturbations=perturbations,
        rule="; ".join(parts),
    )


def _conditions(
    machine: str,
    rows: Sequence[Row],
    waveforms: Tensor,
    places: Sequence[int],
    settings: ClassSettings,
    listen: Listener,
    seed: int,
) -> tuple[list[str], str]:
    """Class names of one machine's healthy windows, and what they are, in words."""
    used, ignored = _informative(rows)
    names = ["/".join(_name(machine, row, used, settings)) for row in rows]
    parts = [f"{len(set(names))} combinations of {_listed(rows, used, settings)}"]
    if ignored:
        parts.append(f"without {', '.join(ignored)} (nearly a value a recording)")
    recordings = len({row.source for row in rows})
    if used:
        return names, "; ".join(parts)
    if recordings >= ENOUGH_FOR_CLUSTERS and settings.pseudo == "auto":
        some = [places[n : n + _AT_ONCE] for n in range(0, len(places), _AT_ONCE)]
        features = np.concatenate([listen(waveforms[torch.as_tensor(part)]) for part in some])
        clusters = _cluster(features, seed)
        names = [f"{name}/cluster={cluster}" for name, cluster in zip(names, clusters, strict=True)]
        heard = (
            "mean log-mel spectra" if settings.pseudo_features == "log_mel" else "the embeddings"
        )
        parts.append(
            f"no attribute differs, so {len(set(clusters))} k-means clusters of {heard} stand in "
            f"({plural(len(set(names)), 'class', 'classes')})"
        )
    else:
        parts.append("no attribute differs")
    return names, "; ".join(parts)


def _name(machine: str, row: Row, used: Sequence[str], settings: ClassSettings) -> list[str]:
    parts = [machine, row.section, *(f"{key}={row.attributes.get(key, '?')}" for key in used)]
    missing = not any(key in row.attributes for key in used)
    if settings.domains == "always" or (settings.domains == "missing" and missing):
        parts.append(row.domain)
    return parts


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


def _listed(rows: Sequence[Row], used: Sequence[str], settings: ClassSettings) -> str:
    differing = ["machine"]
    if len({row.section for row in rows}) > 1:
        differing.append("section")
    differing += used
    if len({row.domain for row in rows}) > 1 and settings.domains != "never":
        only = " (of recordings without attributes)" if settings.domains == "missing" else ""
        differing.append(f"domain{only}")
    return " x ".join(differing)


def _spectra(waveforms: Tensor, rate: int) -> npt.NDArray[np.float64]:
    """Mean log-mel spectrum of each window, `(n, bands)`."""
    listener = MelStatistics(rate)
    with torch.no_grad():
        parts = []
        for chunk in torch.split(waveforms, 64):
            parts.append(listener(chunk))
            forget_mapped()
    features = torch.cat(parts)
    return features[:, : features.shape[1] // 2].numpy().astype(np.float64)


def _cluster(features: npt.NDArray[np.float64], seed: int) -> npt.NDArray[np.int64]:
    """k-means over standardised features, `(n, d)` to `(n,)`."""
    # scikit-learn takes a second to import and is needed here only.
    from sklearn.cluster import KMeans  # noqa: PLC0415

    scaled = (features - features.mean(axis=0)) / (features.std(axis=0) + 1e-6)
    count = int(np.clip(len(scaled) // _WINDOWS_A_CLUSTER, 2, _MOST_CLUSTERS))
    fitted = KMeans(count, n_init=4, random_state=seed).fit(scaled)
    labels: npt.NDArray[np.int64] = fitted.labels_.astype(np.int64)
    return labels
