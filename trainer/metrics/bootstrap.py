"""Bootstrap intervals of the challenge's figures, all resamples at once.

Clips are drawn with replacement within each stratum of label and domain, so that every resample
has the test set's make-up (Efron & Tibshirani 1993, chapter 8). A resample is a row of counts,
how often each clip was drawn; the area under a ROC curve whose steps have those counts as their
widths and heights is that resample's AUC, so no clip is ever copied or sorted again.

An interval tells how far the figure would move with other clips of the same recordings'
conditions. It says nothing about other machines, and with fewer than about ten clips in a stratum
it is too narrow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainer.metrics.auc import MAX_FPR, finite, split_clips

Floats = npt.NDArray[np.float64]
RESAMPLES = 2000
LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Resamples:
    """The figures of one section in each resample, arrays of shape `(resamples,)`.

    Attributes:
        auc_source: None where the figure does not exist.
        auc_target: Likewise.
        pauc: Partial AUC.
    """

    auc_source: Floats | None
    auc_target: Floats | None
    pauc: Floats

    def values(self) -> tuple[Floats, ...]:
        """The areas that exist, in the order of `DomainAuc.values`."""
        return tuple(
            value for value in (self.auc_source, self.auc_target, self.pauc) if value is not None
        )

    def hmean(self) -> Floats:
        """Harmonic mean of the section's figures in each resample."""
        return harmonic_means(self.values())


def bootstrap(
    labels: Sequence[str],
    domains: Sequence[str],
    scores: Sequence[float] | npt.NDArray[np.floating],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Resamples:
    """Resample the clips of one section, stratified by label and domain.

    Args:
        labels: `normal` or `anomaly` for each of n clips.
        domains: `source`, `target` or `unknown` for each.
        scores: Anomaly scores, shape `(n,)`.
        resamples: How many to draw.
        seed: The same clips in the same order and the same seed draw the same resamples, so two
            systems' resamples may be compared one by one.

    Raises:
        MetricsError: As `auc_scores`.
    """
    split = split_clips(labels, domains)
    values = finite(scores, len(labels))
    rng = np.random.default_rng(seed)
    counts = np.zeros((resamples, len(values)))
    strata = np.asarray(
        [f"{label}/{domain}" for label, domain in zip(labels, domains, strict=True)]
    )
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        even = np.full(len(members), 1 / len(members))
        counts[:, members] = rng.multinomial(len(members), even, size=resamples)

    def areas(normals: npt.NDArray[np.bool_]) -> Floats | None:
        return weighted_auc(counts, split.anomalous, normals, values) if normals.any() else None

    pauc = weighted_auc(counts, split.anomalous, ~split.anomalous, values, max_fpr=MAX_FPR)
    return Resamples(areas(split.source), areas(split.target), pauc)


def weighted_auc(
    counts: Floats,
    anomalous: npt.NDArray[np.bool_],
    normal: npt.NDArray[np.bool_],
    scores: Floats,
    *,
    max_fpr: float = 1.0,
) -> Floats:
    """(Partial) AUC with each clip counted as often as each row says.

    Args:
        counts: Weights, shape `(resamples, n)`; each row holds weight in both classes.
        anomalous: Clips that count as positive, shape `(n,)`.
        normal: Clips that count as negative, shape `(n,)`; others are left out.
        scores: Anomaly scores, shape `(n,)`.
        max_fpr: Below 1: area up to this false-positive rate, standardised after McClish.

    Returns:
        Shape `(resamples,)`.
    """
    order = np.argsort(-scores, kind="stable")
    # Clips of equal score enter together: the curve has a vertex only after the last of them.
    vertices = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)

    def rates(chosen: npt.NDArray[np.bool_]) -> Floats:
        passed = np.cumsum(counts[:, order] * chosen[order], axis=1)
        rate = passed[:, vertices] / passed[:, -1:]
        return np.concatenate([np.zeros((len(counts), 1)), rate], axis=1)

    false, true = rates(normal), rates(anomalous)
    left, right = false[:, :-1], false[:, 1:]
    cut = np.clip(right, None, max_fpr)
    width = np.clip(cut - left, 0, None)
    run = right - left
    slope = np.divide(np.diff(true, axis=1), run, out=np.zeros_like(run), where=run > 0)
    # Trapezium between `left` and `cut`; its far height is where the segment crosses the cut.
    area = np.sum(width * (true[:, :-1] + slope * width / 2), axis=1)
    if max_fpr >= 1:
        return np.asarray(area, dtype=np.float64)
    chance = max_fpr**2 / 2
    return np.asarray((1 + (area - chance) / (max_fpr - chance)) / 2, dtype=np.float64)


def harmonic_means(values: Sequence[Floats]) -> Floats:
    """Harmonic mean over arrays of shape `(resamples,)`, resample by resample; 0 where one is 0."""
    stacked = np.stack(list(values))
    positive = np.all(stacked > 0, axis=0)
    inverse = np.sum(1 / np.where(positive, stacked, 1.0), axis=0)
    return np.where(positive, len(stacked) / inverse, 0.0)


def interval(resampled: Floats, level: float = LEVEL) -> tuple[float, float]:
    """Percentile interval holding `level` of the resamples."""
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
