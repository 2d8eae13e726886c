"""Precision, recall and F1 of normal/anomalous decisions, as the challenge's evaluator counts them.

Unlike AUC, each domain stands alone here: its own normals and its own anomalies. A quotient whose
denominator is zero (nothing called anomalous, no anomalies) is 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.recordings.model import ANOMALY


@dataclass(frozen=True, slots=True)
class DecisionQuality:
    """How good the decisions on some clips were, fractions.

    Attributes:
        precision: Share of the clips called anomalous that are.
        recall: Share of the anomalies that were called so.
        f1: Harmonic mean of the two.
        false_alarm_rate: Share of the normals that were called anomalous.
        clips: How many clips these figures rest on.
    """

    precision: float
    recall: float
    f1: float
    false_alarm_rate: float
    clips: int


def decision_quality(
    labels: Sequence[str], domains: Sequence[str], decisions: npt.NDArray[np.bool_]
) -> dict[str, DecisionQuality]:
    """Figures of each domain present, and of all clips together under `all`.

    Args:
        labels: `normal` or `anomaly` for each of n clips.
        domains: `source`, `target` or `unknown` for each.
        decisions: True where a clip was called anomalous, shape `(n,)`.
    """
    anomalous = np.asarray(labels, dtype=object) == ANOMALY
    where = np.asarray(domains, dtype=object)
    chosen = {str(name): where == name for name in sorted(set(domains))}
    chosen["all"] = np.ones(len(anomalous), dtype=np.bool_)
    return {name: _quality(anomalous[mask], decisions[mask]) for name, mask in chosen.items()}


def _quality(anomalous: npt.NDArray[np.bool_], called: npt.NDArray[np.bool_]) -> DecisionQuality:
    hits = int(np.sum(anomalous & called))
    false = int(np.sum(~anomalous & called))
    precision = hits / max(hits + false, 1)
    recall = hits / max(int(anomalous.sum()), 1)
    both = precision + recall
    return DecisionQuality(
        precision=precision,
        recall=recall,
        f1=2 * precision * recall / both if both else 0.0,
        false_alarm_rate=false / max(int(np.sum(~anomalous)), 1),
        clips=len(anomalous),
    )
