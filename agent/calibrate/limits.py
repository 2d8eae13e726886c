"""From healthy scores to a threshold with a stated false-alarm rate.

The scores are leave-one-recording-out, so they are what the machine's next healthy recording would
get; where recordings fall into sessions (`agent.score.sessions`), leave-one-session-out, so they
are what a recording of another day would get. The rules are in `agent.calibrate.rules`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.bundle.facts import ScaleInfo
from agent.bundle.manifest import Row, Threshold
from agent.calibrate.clip_limits import clip_limits
from agent.calibrate.conformal import PValues
from agent.calibrate.rules import find_limit, places_of
from agent.config.threshold import ThresholdRule
from agent.core.errors import AuscultError
from agent.core.scale import Scale, measure_spread, scale_of
from agent.score.normalize import group_ids
from agent.score.scorer import Floats

Vector = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class HealthyScores:
    """The healthy scores of a bundle.

    Attributes:
        scores: Leave-one-recording-out, float32 `(n,)`; NaN where there was nothing to compare.
        rows: Where each came from.
    """

    scores: Vector
    rows: Sequence[Row]

    def known(self) -> tuple[Floats, list[Row]]:
        """The finite scores, float64, and their rows."""
        finite = np.isfinite(self.scores)
        rows = [row for row, kept in zip(self.rows, finite, strict=True) if kept]
        return self.scores[finite].astype(np.float64), rows


@dataclass(frozen=True, slots=True, eq=False)
class Significance:
    """P-values of scores, for bundles whose threshold is conformal.

    Attributes:
        windows: Of windows.
        clips: Of whole recordings.
    """

    windows: PValues
    clips: PValues


@dataclass(frozen=True, slots=True)
class Scales:
    """What people see of scores, by a bundle's own thresholds.

    Attributes:
        windows: Of windows.
        clips: Of whole recordings.
    """

    windows: Scale
    clips: Scale


def scales(threshold: Threshold, healthy: HealthyScores | None, clip: str) -> Scales:
    """The scales of a bundle's own thresholds.

    Args:
        threshold: The bundle's.
        healthy: Its healthy scores; None when it was exported without.
        clip: How a recording's windows make its score.
    """
    if healthy is None:
        return Scales(scale_of(threshold.value, None), scale_of(threshold.clip_value, None))
    values, rows = healthy.known()
    groups, domains = [row.group for row in rows], [row.domain for row in rows]
    per_clip = clip_scores(values, groups, domains, clip)[0] if len(values) else values
    return Scales(
        scale_of(threshold.value, measure_spread(values)),
        scale_of(threshold.clip_value, measure_spread(per_clip)),
    )


def scale_info(threshold: Threshold, scores: Vector) -> ScaleInfo | None:
    """What a manifest tells of the scale of windows; None without a finite score.

    Args:
        threshold: The bundle's.
        scores: Its healthy scores, float32 `(n,)`; NaN where there was nothing to compare.
    """
    spread = measure_spread(scores)
    if spread is None:
        return None
    scale = scale_of(threshold.value, spread)
    return ScaleInfo(median=scale.median, zones=(scale.usual, scale.threshold, scale.severe))


def calibrate(
    scores: Vector,
    groups: Sequence[str],
    rule: ThresholdRule,
    *,
    clip: str = "mean",
    domains: Sequence[str] | None = None,
    window_rate: float | None = None,
    sessions: int = 0,
) -> Threshold:
    """Find the threshold of windows, and of whole recordings.

    The machine may be in any of its domains from now on, and the rate is promised in each: where
    several were recorded, the threshold is the highest of theirs (unless the rule pools them).

    Args:
        scores: Leave-one-out healthy scores, float32 `(n,)`; NaN entries are left out.
        groups: Recording of each, so that independence is counted honestly.
        rule: How, and for which share of healthy windows allowed above the threshold.
        clip: `mean` or `max`: how a recording's windows make its score.
        domains: Domain of each window; one for all when None.
        window_rate: That share for windows alone, and no more than it (see `sure` in
            `tail_quantile`); the rule's, for windows as for recordings, when None.
        sessions: How many sessions were left out whole for the scores; 0 for recordings alone.

    Returns:
        The threshold with its method and, where the rate is beyond what was recorded, a caveat.

    Raises:
        AuscultError: Fewer than two healthy recordings could be scored.
    """
    known = np.isfinite(scores)
    values = scores[known].astype(np.float64)
    names = [group for group, kept in zip(groups, known, strict=True) if kept]
    places = [""] * len(groups) if domains is None else list(domains)
    places = [place for place, kept in zip(places, known, strict=True) if kept]
    recordings = len(set(names))
    if recordings < 2:
        raise AuscultError(
            "a threshold needs at least two healthy recordings to compare with each other",
            remedy="Record the machine more than once (ideally 20 times 10 s or more, "
            "over every load it runs at).",
        )
    of_windows = find_limit(
        values,
        names,
        places,
        rule if window_rate is None else rule.model_copy(update={"sure": True}),
        rate=window_rate,
    )
    per_clip, clip_names, clip_domains = clip_scores(values, names, places, clip)
    of_clips = find_limit(
        per_clip, clip_names, clip_domains, rule.model_copy(update={"sure": False})
    )
    return Threshold(
        value=of_windows.value,
        false_alarm_rate=of_windows.rate,
        clip_value=of_clips.value,
        clip_limits=clip_limits(
            values, names, places, rule.model_copy(update={"sure": False}), clip
        ),
        method=f"{_scores_by(sessions)} healthy scores, {of_windows.how}",
        healthy_windows=len(values),
        healthy_recordings=recordings,
        caveat=of_windows.caveat,
        rule=rule,
    )


def _scores_by(sessions: int) -> str:
    return f"leave-one-session-out ({sessions} sessions)" if sessions else "leave-one-recording-out"


def clip_scores(
    values: Floats, groups: Sequence[str], domains: Sequence[str], clip: str
) -> tuple[Floats, list[str], list[str]]:
    """Scores of whole recordings of one domain each, their names and domains.

    Args:
        values: Scores of windows, shape `(n,)`.
        groups: Recording of each.
        domains: Domain of each.
        clip: `mean` or `max` of a recording's windows.
    """
    reduce = np.mean if clip == "mean" else np.max
    ids, where = group_ids(groups), group_ids(domains)
    found: list[float] = []
    names: list[str] = []
    places: list[str] = []
    for domain in np.unique(where):
        for i in np.unique(ids[where == domain]):
            found.append(float(reduce(values[ids == i])))
            names.append(str(len(names)))
            places.append(str(domain))
    return np.array(found), names, places


def significance(healthy: HealthyScores, rule: ThresholdRule, clip: str) -> Significance | None:
    """What gives p-values under a conformal rule; None under another, or without any score.

    Args:
        healthy: The bundle's.
        rule: Its threshold's.
        clip: How a recording's windows make its score.
    """
    values, rows = healthy.known()
    if rule.kind != "conformal" or not len(values):
        return None
    groups, domains = [row.group for row in rows], [row.domain for row in rows]
    per_clip, clip_names, clip_domains = clip_scores(values, groups, domains, clip)
    return Significance(
        PValues.of(values, group_ids(groups), places_of(domains, rule)),
        PValues.of(per_clip, group_ids(clip_names), places_of(clip_domains, rule)),
    )
