"""From healthy scores to a threshold with a stated false-alarm rate.

The scores are leave-one-recording-out, so they are what the machine's next healthy recording would
get. The threshold is their (1 - rate) quantile: by counting where enough windows lie above it, and
from a fitted tail where the rate asks for rarer events than were recorded (peaks over threshold:
generalized Pareto above the 90 % quantile, fitted by probability-weighted moments, Hosking and
Wallis 1987).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.bundle.manifest import Row, Threshold
from agent.errors import AuscultError
from agent.score.normalize import group_ids

# Counting is trusted while this many windows lie above the threshold.
_COUNTED = 5
# The tail model is fitted above this quantile, and needs so many exceedances to bend.
_TAIL_FROM = 0.9
_SHAPED = 30
# Heavier or lighter tails than these are not believed of a few hundred windows.
_SHAPE_RANGE = (-0.4, 0.4)

# How sure an "at most" is, and the bootstrap samples it takes.
_CONFIDENCE = 0.9
_RESAMPLES = 200
# From fewer recordings than this, no end of the tail can be seen.
_BOUNDED_FROM = 50

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


def calibrate(
    scores: Vector,
    groups: Sequence[str],
    false_alarm_rate: float,
    *,
    clip: str = "mean",
    domains: Sequence[str] | None = None,
    clip_rate: float | None = None,
    sure: bool = False,
) -> Threshold:
    """Find the threshold of windows, and of whole recordings.

    The machine may be in any of its domains from now on, and the rate is promised in each: where
    several were recorded, the threshold is the highest of theirs.

    Args:
        scores: Leave-one-out healthy scores, float32 `(n,)`; NaN entries are left out.
        groups: Recording of each, so that independence is counted honestly.
        false_alarm_rate: Share of healthy windows allowed above the threshold, in (0, 1).
        clip: `mean` or `max`: how a recording's windows make its score.
        domains: Domain of each window; one for all when None.
        clip_rate: The same for whole recordings; that of windows when None.
        sure: The rate is an upper bound, not the likeliest; see `tail_threshold`.

    Returns:
        The threshold with its method and, where the rate is beyond what was recorded, a caveat.

    Raises:
        AuscultError: Fewer than two healthy recordings could be scored.
    """
    known = np.isfinite(scores)
    values = scores[known].astype(np.float64)
    ids = group_ids([group for group, kept in zip(groups, known, strict=True) if kept])
    where = group_ids(["" for _ in groups] if domains is None else domains)[known]
    recordings = int(ids.max()) + 1 if len(ids) else 0
    if recordings < 2:
        raise AuscultError(
            "a threshold needs at least two healthy recordings to compare with each other",
            remedy="Record the machine more than once (ideally 20 times 10 s or more, "
            "over every load it runs at).",
        )
    reduce = np.mean if clip == "mean" else np.max
    names = [group for group, kept in zip(groups, known, strict=True) if kept]
    places = where.astype(str).tolist()
    of_windows = tail_threshold(values, names, places, false_alarm_rate, sure=sure)
    per_clip, clip_domains = [], []
    for domain in np.unique(where):
        for i in np.unique(ids[where == domain]):
            per_clip.append(float(reduce(values[ids == i])))
            clip_domains.append(str(domain))
    of_clips = tail_threshold(
        np.array(per_clip),
        list(map(str, range(len(per_clip)))),
        clip_domains,
        false_alarm_rate if clip_rate is None else clip_rate,
    )
    return Threshold(
        value=of_windows.value,
        false_alarm_rate=false_alarm_rate,
        clip_value=of_clips.value,
        method=f"leave-one-recording-out healthy scores, {of_windows.how}",
        healthy_windows=len(values),
        healthy_recordings=recordings,
        caveat=of_windows.caveat,
    )


@dataclass(frozen=True, slots=True)
class Tail:
    """A threshold and what is to be said of it.

    Attributes:
        value: The threshold.
        rate: Share of healthy windows above it, in each domain.
        how: How it was found, in words.
        caveat: Why not to rely on it; empty when there is no reason.
    """

    value: float
    rate: float
    how: str
    caveat: str


def tail_threshold(
    values: npt.NDArray[np.float64],
    groups: Sequence[str],
    domains: Sequence[str],
    rate: float,
    *,
    sure: bool = False,
) -> Tail:
    """The highest of the domains' upper quantiles.

    Args:
        values: Healthy scores, finite, shape `(n,)`, n >= 1.
        groups: Recording of each.
        domains: Domain of each.
        rate: Share of windows allowed above it, in (0, 1).
        sure: "At most" is meant: not the likeliest threshold but one that is high enough in nine of
            ten drawings of the same number of recordings (bootstrap by recording, which respects
            that the windows of one are alike).
    """
    ids, where = group_ids(groups), group_ids(domains)
    found = []
    for domain in np.unique(where):
        inside = where == domain
        bounded = not sure or len(np.unique(ids[inside])) >= _BOUNDED_FROM
        value, how = upper_quantile(values[inside], rate, bounded=bounded)
        if sure:
            value = max(value, _upper_bound(values[inside], ids[inside], rate, bounded=bounded))
            how = f"{how}, with 90 % confidence"
        found.append((value, how, len(np.unique(ids[inside]))))
    value, how, fewest = max(found)
    if len(found) > 1:
        how = f"{how}, the highest of {len(found)} domains"
    floor = 1.0 / (fewest + 1)
    caveat = ""
    if rate < floor:
        caveat = (
            f"{fewest} independent recordings support no rate below {floor:.3g} without a "
            f"model of the tail; {rate:.3g} is extrapolated from it"
        )
    return Tail(float(value), rate, how, caveat)


def _upper_bound(
    values: npt.NDArray[np.float64],
    ids: npt.NDArray[np.int64],
    rate: float,
    *,
    bounded: bool,
) -> float:
    rng = np.random.default_rng(0)
    recordings = [values[ids == i] for i in np.unique(ids)]
    found = []
    for _ in range(_RESAMPLES):
        drawn = rng.integers(0, len(recordings), len(recordings))
        sample = np.concatenate([recordings[i] for i in drawn])
        found.append(upper_quantile(sample, rate, bounded=bounded)[0])
    return float(np.quantile(found, _CONFIDENCE))


def upper_quantile(
    values: npt.NDArray[np.float64], rate: float, *, bounded: bool = True
) -> tuple[float, str]:
    """The value exceeded with probability `rate`, and how it was found.

    Args:
        values: Healthy scores, shape `(n,)`, n >= 1.
        rate: Probability of exceeding it, in (0, 1).
        bounded: A tail that ends somewhere is believed; else it is exponential at least.
    """
    ordered = np.sort(values)
    n = len(ordered)
    if n * rate >= _COUNTED:
        # Conformal: the ceil((n + 1)(1 - rate))-th smallest covers a new healthy score.
        place = min(int(np.ceil((n + 1) * (1.0 - rate))), n) - 1
        return float(ordered[place]), f"quantile of {n} windows counted"
    start = float(np.quantile(ordered, _TAIL_FROM))
    excess = ordered[ordered > start] - start
    if len(excess) < 2:
        # Too few to fit anything: the scatter of all values stands in for the tail's.
        start, excess = float(np.median(ordered)), np.abs(ordered - np.median(ordered))
        share = 0.5
    else:
        share = len(excess) / n
    scale, shape = fit_tail(excess)
    if shape < 0.0 and not bounded:
        scale, shape = float(excess.mean()), 0.0
    reach = share / rate
    if reach <= 1.0:
        return float(np.quantile(ordered, 1.0 - rate)), f"quantile of {n} windows"
    above = scale * np.log(reach) if abs(shape) < 1e-6 else scale / shape * (reach**shape - 1.0)
    value = start + float(above)
    if rate < 1.0 / (n + 1):
        # Rarer than anything recorded: a bounded tail must not undercut what was heard.
        value = max(value, float(ordered[-1]))
    return value, f"generalized Pareto tail over {len(excess)} windows (shape {shape:+.2f})"


def fit_tail(excess: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Scale and shape of a generalized Pareto distribution by probability-weighted moments.

    Args:
        excess: Positive exceedances, shape `(m,)`, m >= 1.

    Returns:
        Scale (> 0, in the scores' unit) and shape (0 is exponential). With few exceedances the
        shape is drawn towards the exponential, the least committal tail.
    """
    ordered = np.sort(excess)
    m = len(ordered)
    mean = float(ordered.mean())
    if mean <= 0.0:
        return np.finfo(np.float32).eps.item(), 0.0
    weights = (m - np.arange(1, m + 1)) / max(m - 1, 1)
    weighted = float(np.mean(weights * ordered))
    raw = 2.0 - mean / max(mean - 2.0 * weighted, 1e-12)
    shape = float(np.clip(raw, *_SHAPE_RANGE)) * min(1.0, m / _SHAPED)
    return mean * (1.0 - shape), shape
