"""The rules by which healthy scores become a threshold.

    tail        peaks over threshold: counted, or read from a fitted tail (`agent.calibrate.tail`)
    gamma       the DCASE Task 2 baseline's: quantile of a gamma law at location 0; its 90 % is a
                rate of 0.1
    mean_sigma  mean + k standard deviations; k is given, or a Gaussian law's for the rate
    conformal   the score whose conformal p-value is the rate (`agent.calibrate.conformal`)

The domain of what is heard next isn't known, so there is one threshold for all: the highest of the
domains' (the rate then holds in each), or that of all healthy scores together (`pooled`, as the
baseline does; a domain of few recordings then hardly counts).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from agent.calibrate.conformal import PValues
from agent.calibrate.gamma import fit_gamma, gamma_quantile
from agent.calibrate.tail import tail_quantile
from agent.config.threshold import ThresholdRule
from agent.core.text import plural
from agent.score.normalize import group_ids
from agent.score.scorer import Floats, IntVector

_NORMAL = NormalDist()
# Rates as they can be written down; k = 8 would be 6e-16.
_LEAST_RATE = 1e-15


@dataclass(frozen=True, slots=True)
class Limit:
    """A threshold and what is to be said of it.

    Attributes:
        value: The threshold.
        rate: Share of healthy windows above it, in each domain, that the rule promises.
        how: How it was found, in words.
        caveat: Why not to rely on it; empty when there is no reason.
    """

    value: float
    rate: float
    how: str
    caveat: str


def find_limit(
    values: Floats,
    groups: Sequence[str],
    domains: Sequence[str],
    rule: ThresholdRule,
    *,
    rate: float | None = None,
) -> Limit:
    """The threshold that a rule asks for.

    Args:
        values: Healthy scores, finite, shape `(n,)`, n >= 1.
        groups: Recording of each.
        domains: Domain of each.
        rule: Which, and how rare.
        rate: Share of windows allowed above it, in (0, 1); the rule's `false_alarm_rate` when None.
    """
    asked = rule.false_alarm_rate if rate is None else rate
    if rule.kind == "mean_sigma" and rule.sigmas is not None and rate is None:
        asked = max(_LEAST_RATE, 1.0 - _NORMAL.cdf(rule.sigmas))
    ids, places = group_ids(groups), places_of(domains, rule)
    several = len(np.unique(places)) > 1
    recordings = [len(np.unique(ids[places == place])) for place in np.unique(places)]
    floor = 1.0 / (min(recordings) + 1)
    caveats = []
    if rule.kind == "conformal":
        found = PValues.of(values, ids, places)
        value, how = found.limit(asked), "conformal: the p-value there is the rate"
        if asked < found.floor:
            caveats.append(
                f"{plural(min(recordings), 'independent recording')} can give no p-value below "
                f"{floor:.3g}: the "
                f"threshold is the highest healthy score, its rate {floor:.3g} and not {asked:.3g}"
            )
            asked = found.floor
    else:
        each = [
            _quantile(values[places == place], ids[places == place], asked, rule)
            for place in np.unique(places)
        ]
        value, how, warning = max(each)
        caveats += [warning] if warning else []
        if asked < floor:
            caveats.append(
                f"{plural(min(recordings), 'independent recording')} can support no rate below "
                f"{floor:.3g} "
                f"without a model of the tail; {asked:.3g} is extrapolated from it"
            )
    if several and caveats and len(set(recordings)) > 1:
        least = str(
            domains[int(np.flatnonzero(places == np.unique(places)[np.argmin(recordings)])[0])]
        )
        caveats.append(f"the fewest recordings are of the domain '{least}'")
    if several:
        how = f"{how}, the highest of {len(recordings)} domains"
    return Limit(float(value), asked, how, "; ".join(caveats))


def places_of(domains: Sequence[str], rule: ThresholdRule) -> IntVector:
    """The domains that are told from each other, as numbers."""
    found = group_ids(domains)
    return np.zeros_like(found) if rule.domains == "pooled" else found


def _quantile(
    values: Floats, ids: IntVector, rate: float, rule: ThresholdRule
) -> tuple[float, str, str]:
    """Threshold of one domain, how it was found, and a caveat."""
    if rule.kind == "mean_sigma":
        return _mean_sigma(values, rate, rule.sigmas)
    if rule.kind == "gamma":
        if (values > 0).all():
            shape, scale = fit_gamma(values)
            value = gamma_quantile(1.0 - rate, shape, scale)
            return value, f"{1 - rate:.4g} quantile of a gamma law (shape {shape:.3g})", ""
        value, how = tail_quantile(values, ids, rate, sure=False)
        return value, how, "a gamma law has positive scores only, and some are not: the tail's rule"
    value, how = tail_quantile(values, ids, rate, sure=rule.sure)
    return value, how, ""


def _mean_sigma(values: Floats, rate: float, sigmas: float | None) -> tuple[float, str, str]:
    k = -_NORMAL.inv_cdf(rate) if sigmas is None else sigmas
    spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    # Cantelli's inequality holds of any law with this mean and deviation.
    worst = 1.0 / (1.0 + k * k) if k > 0 else 1.0
    how = f"mean + {k:.3g} sigma (a Gaussian law's rate; whatever the law, below {worst:.2g})"
    return float(values.mean()) + k * spread, how, ""
