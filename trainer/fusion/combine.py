"""Systems' scores made comparable and combined, by the code that the device combines with.

Comparable means: by each system's own healthy scores, leave-one-recording-out, machine by machine
(see `agent.score.fusion`). One method is an exception and says so: `test_rank` ranks a clip among
the test clips, as challenge reports do. It takes the whole test set at once: no device can do it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias, get_args

import numpy as np
from scipy.special import logsumexp
from scipy.stats import rankdata

from agent.config.scorer import FusionConfig, Part
from agent.config.scorer_density import ValueConfig
from agent.score.comparable import normalizer
from agent.score.scorer import Floats
from trainer.fusion.systems import ScoredSystem, SectionTable
from trainer.metrics.auc import MetricsError

Method: TypeAlias = Literal["mean", "rank", "min", "max", "test_rank"]
Normalize: TypeAlias = Literal["none", "z", "minmax", "quantile"]
METHODS: tuple[Method, ...] = get_args(Method)
NORMALIZATIONS: tuple[Normalize, ...] = get_args(Normalize)
# Methods that weights mean something to.
WEIGHTED: frozenset[Method] = frozenset({"mean", "rank", "test_rank"})
# What cannot run on a device.
OFFLINE: frozenset[Method] = frozenset({"test_rank"})


def usual_normalization(method: Method) -> Normalize:
    """How a method's systems are made comparable unless something else is asked for.

    The smallest and the largest of several scores compare their tails, where distributions differ
    most in form; there, deviations say little and shares of healthy scores say all.
    """
    return "quantile" if method in {"min", "max"} else "z"


def comparable(
    systems: Sequence[ScoredSystem],
    tables: Sequence[SectionTable],
    method: Method,
    normalize: Normalize,
) -> list[Floats]:
    """Every section's scores on a common scale, shape `(systems, n)` each.

    Raises:
        MetricsError: A system's healthy scores are needed and not there.
    """
    if method == "test_rank":
        return [rankdata(table.scores, axis=1) / table.scores.shape[1] for table in tables]
    if method != "rank" and normalize == "none":
        return [table.scores for table in tables]
    # A fusion of the device, for its normaliser alone: that does not depend on the parts.
    config = FusionConfig(
        parts=(Part(scorer=ValueConfig()),),
        normalize=normalize,
        combine="rank" if method == "rank" else "mean",
    )
    found = []
    for table in tables:
        rows = [
            normalizer(config, _healthy(system, table.machine))(scores)
            for system, scores in zip(systems, table.scores, strict=True)
        ]
        found.append(np.stack(rows))
    return found


def _healthy(system: ScoredSystem, machine: str) -> Floats:
    if machine not in system.healthy:
        raise MetricsError(
            f"has no healthy scores of {machine} (healthy_score_{machine}_section_<s>_train.csv)",
            where=system.folder,
            remedy="`auscult evaluate` writes them beside the result files; without them only "
            "--method test-rank or --normalize none remain.",
        )
    return system.healthy[machine]


def combine(method: Method, scores: Floats, weights: Floats) -> Floats:
    """One score of several, for each of several sets of weights.

    Args:
        method: How. `min` and `max` heed no weights.
        scores: Comparable scores, shape `(systems, n)`.
        weights: Shape `(sets, systems)`, each set's sum 1.

    Returns:
        Shape `(sets, n)`.
    """
    if method in {"mean", "test_rank"}:
        mean: Floats = weights @ scores
        # Ranks tie, and the last digits of a product must not decide between equals.
        return mean if method == "mean" else np.round(mean, 12)
    if method == "rank":
        # -log of the weighted mean of shares exp(-y), as far out as those underflow.
        together: Floats = -logsumexp(-scores[None], axis=1, b=weights[:, :, None])
        return together
    one: Floats = scores.min(axis=0) if method == "min" else scores.max(axis=0)
    return np.broadcast_to(one, (len(weights), len(one)))
