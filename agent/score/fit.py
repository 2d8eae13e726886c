"""Everything about a scorer that is learnt from a bank, in one step.

Export uses it on the workstation and bank growth on the device, so a grown bank is calibrated by
the code that calibrated the first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agent.bundle.manifest import ScorerConfig, Threshold
from agent.frames import Matrix
from agent.score.calibrate import calibrate
from agent.score.check import trusted
from agent.score.normalize import Vector, fit_constants, leave_one_out


@dataclass(frozen=True, slots=True)
class FittedScorer:
    """A scorer ready for a bundle.

    Attributes:
        config: The scorer as it will be used (its normalisation may have been dropped).
        constants: Row constants, float32 `(n, 2)`.
        healthy_scores: Leave-one-recording-out scores of the rows, float32 `(n,)`.
        threshold: Calibrated on those.
        notes: What a person should know.
    """

    config: ScorerConfig
    constants: Matrix
    healthy_scores: Vector
    threshold: Threshold
    notes: tuple[str, ...]


def fit_scorer(
    vectors: Matrix,
    groups: Sequence[str],
    config: ScorerConfig,
    false_alarm_rate: float,
    *,
    domains: Sequence[str] | None = None,
    promise: Callable[[Vector], float] | None = None,
) -> FittedScorer:
    """Check the normalisation, fit the row constants, calibrate the threshold.

    Args:
        vectors: Healthy embeddings, float32 `(n, dim)`.
        groups: Group (recording) of each.
        config: Scorer the preset asks for.
        false_alarm_rate: Share of healthy windows allowed above the threshold, in each domain.
        domains: Domain of each row; one for all when None.
        promise: Turns the healthy scores into the share of windows allowed above the threshold at
            most; `false_alarm_rate` is that of whole recordings then.

    Raises:
        AuscultError: There are fewer than two healthy recordings.
    """
    used, note = trusted(vectors, groups, config)
    healthy = leave_one_out(vectors, groups, used)
    threshold = calibrate(
        healthy,
        groups,
        false_alarm_rate if promise is None else promise(healthy),
        clip=used.clip,
        domains=domains,
        clip_rate=false_alarm_rate,
        sure=promise is not None,
    )
    notes = tuple(text for text in (note, threshold.caveat) if text)
    return FittedScorer(used, fit_constants(vectors, groups, used), healthy, threshold, notes)
