"""The challenge's three areas under the ROC curve, and their harmonic mean.

Task 2 of DCASE, as its official evaluator defines them since 2022:

- AUC of a domain ranks that domain's **normal** clips against the anomalies of **both** domains;
- pAUC ranks all clips, up to a false-positive rate of 0.1, standardised after McClish (1989) so
  that chance is 0.5;
- the official score is one harmonic mean over these three figures of every section of every
  machine.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.core.errors import AuscultError
from agent.recordings.model import ANOMALY, NORMAL, SOURCE, TARGET

MAX_FPR = 0.1
UNKNOWN = "unknown"


class MetricsError(AuscultError):
    """Scores or answers from which the metrics cannot be computed."""


@dataclass(frozen=True, slots=True)
class DomainAuc:
    """The challenge's figures of one section, fractions from 0 to 1.

    Attributes:
        auc_source: Normals of the source domain against every anomaly; None when the test set
            holds domains but no source normals.
        auc_target: The same for the target domain.
        pauc: All clips, false-positive rates up to 0.1, chance 0.5.
        hmean: Harmonic mean of those of the three that exist.
        ap: Average precision over all clips, the area under precision against recall. Chance is
            the share of anomalies, not 0.5, so it is part of no mean.
    """

    auc_source: float | None
    auc_target: float | None
    pauc: float
    hmean: float
    ap: float

    def values(self) -> tuple[float, ...]:
        """The areas that exist, in the order source, target, pAUC."""
        return tuple(
            value for value in (self.auc_source, self.auc_target, self.pauc) if value is not None
        )


@dataclass(frozen=True, slots=True)
class Split:
    """Which clips each figure takes; all are boolean masks of shape `(n,)`.

    Attributes:
        anomalous: The anomalies, of whatever domain.
        source: Normals that AUC source ranks; all False when that figure does not exist.
        target: Normals that AUC target ranks.
    """

    anomalous: npt.NDArray[np.bool_]
    source: npt.NDArray[np.bool_]
    target: npt.NDArray[np.bool_]


def harmonic_mean(values: Iterable[float]) -> float:
    """Harmonic mean of fractions; 0 as soon as one of them is 0.

    The official evaluator lifts a zero to the smallest float instead, which gives 0 up to 1e-15.
    """
    return statistics.harmonic_mean([float(value) for value in values])


def split_clips(labels: Sequence[str], domains: Sequence[str]) -> Split:
    """Sort the clips of a section by label and domain.

    Where no normal clip's domain is known (a plain folder of recordings), both domains' figures
    take all normals. Where only some are known, normals of unknown domain count in pAUC alone.

    Raises:
        MetricsError: A label or a domain is none of those that exist, or one class is absent.
    """
    if len(labels) != len(domains):
        raise MetricsError(f"there are {len(labels)} labels, but {len(domains)} domains")
    label = np.asarray(labels, dtype=object)
    domain = np.asarray(domains, dtype=object)
    _refuse_others(label, {NORMAL, ANOMALY}, "label")
    _refuse_others(domain, {SOURCE, TARGET, UNKNOWN}, "domain")
    anomalous = label == ANOMALY
    for count, name in ((anomalous.sum(), ANOMALY), ((~anomalous).sum(), NORMAL)):
        if count == 0:
            raise MetricsError(
                f"none of its {len(labels)} test clips is labelled {name}",
                remedy="An AUC needs both: add test recordings of the missing kind.",
            )
    source = ~anomalous & (domain == SOURCE)
    target = ~anomalous & (domain == TARGET)
    if not source.any() and not target.any():
        source = target = ~anomalous
    return Split(anomalous, source, target)


def auc_scores(
    labels: Sequence[str],
    domains: Sequence[str],
    scores: Sequence[float] | npt.NDArray[np.floating],
) -> DomainAuc:
    """AUC source, AUC target and pAUC of one section's test clips.

    Args:
        labels: `normal` or `anomaly` for each of n clips.
        domains: `source`, `target` or `unknown` for each.
        scores: Anomaly scores, shape `(n,)`, larger is stranger.

    Raises:
        MetricsError: Lengths differ, a score is not finite, a label or domain does not exist, or
            all clips carry the same label.
    """
    # It takes a while to load, and a training has no test clips to judge.
    from sklearn.metrics import average_precision_score, roc_auc_score  # noqa: PLC0415

    split = split_clips(labels, domains)
    values = finite(scores, len(labels))
    anomalous = split.anomalous

    def area(normals: npt.NDArray[np.bool_]) -> float | None:
        if not normals.any():
            return None
        chosen = normals | anomalous
        return float(roc_auc_score(anomalous[chosen], values[chosen]))

    source, target = area(split.source), area(split.target)
    partial = float(roc_auc_score(anomalous, values, max_fpr=MAX_FPR))
    present = [value for value in (source, target, partial) if value is not None]
    precision = float(average_precision_score(anomalous, values))
    return DomainAuc(source, target, partial, harmonic_mean(present), precision)


def finite(
    scores: Sequence[float] | npt.NDArray[np.floating], count: int
) -> npt.NDArray[np.float64]:
    """The scores as float64 of shape `(count,)`.

    Raises:
        MetricsError: Another length, or a NaN or infinity among them.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.shape != (count,):
        raise MetricsError(f"there are {count} clips, but scores of shape {values.shape}")
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        raise MetricsError(f"the score of clip {wrong[0]} (from 0) is {values[wrong[0]]}")
    return values


def _refuse_others(found: npt.NDArray[np.object_], known: set[str], what: str) -> None:
    for value in found:
        if value not in known:
            raise MetricsError(
                f"{value!r} is no {what}", remedy=f"Use one of {', '.join(sorted(known))}."
            )
