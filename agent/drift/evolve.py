"""The mixture a block of new windows makes of an older one.

As in a dynamic topic model (Blei and Lafferty 2006) the natural parameters take a Gaussian step:

    mean      m' = m + s * N(0, noise.mean^2)         (s: the component's scale)
    log scale l' = l + N(0, noise.log_scale^2)
    logit     a' = a + N(0, noise.logit^2)

and the block's windows are then drawn from the stepped mixture. The evolved mixture is the most
probable one given the block, found by expectation-maximisation for Student-t mixtures with those
steps as priors: the mean's update is a Kalman update whose gain is
`noise^2 / (noise^2 + 1 / sum(r u))`; log scales and logits take Newton steps on concave functions.
A component that no window belongs to stays where it was, so order and meaning are kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agent.drift.divergence import matched_bound
from agent.drift.mixture import Array, Mixture, log_sum_exp

ITERATIONS = 12
_NEWTON_STEPS = 3
_LARGEST_STEP = 1.0
# Of points by components by dimensions at once: what stays in the processor's cache.
_ELEMENTS = 50_000


@dataclass(frozen=True, slots=True)
class ProcessNoise:
    """Standard deviations of one evolution step.

    Attributes:
        mean: Of a centre, in units of its component's scale. Wide, so that the block's windows
            and not the prior say where a well-occupied component is.
        log_scale: Of the logarithm of a scale; 0.5 is a factor of 1.65.
        logit: Of the logit of a weight. Wide: how long a machine spends in each of its known
            states is the operator's business, not wear.
    """

    mean: float = 3.0
    log_scale: float = 0.5
    logit: float = 1.0


def evolve(ancestor: Mixture, points: Array, noise: ProcessNoise) -> Mixture:
    """Let a block of windows move a mixture, or each of several blocks.

    Args:
        ancestor: Where it starts from.
        points: The block's features, shape `(n, d)`, finite; `(m, n, d)` of m blocks.
        noise: The state evolution's process noise.

    Returns:
        The evolved mixture: same components in the same order, same degrees of freedom. Of
        several blocks its arrays have a leading axis.
    """
    dims = points.shape[-1]
    prior_precision = np.exp(-2 * ancestor.log_scales) / noise.mean**2
    evolved = _translated(ancestor, points)
    for _ in range(ITERATIONS):
        squared = evolved.squared_distances(points)
        joint = evolved.joint_log_density(points, squared)
        belongs = np.exp(joint - log_sum_exp(joint)[..., None])  # (..., n, K)
        trust = belongs * (evolved.dof + dims) / (evolved.dof + squared)
        precision = np.exp(-2 * evolved.log_scales)
        information = trust.sum(axis=-2)[..., None] * precision
        drawn = np.swapaxes(trust, -1, -2) @ points
        means = (prior_precision * ancestor.means + drawn * precision) / (
            prior_precision + information
        )
        counts = belongs.sum(axis=-2)
        apart = points[..., :, None, :] - means[..., None, :, :]
        spread = (trust[..., None] * apart**2).sum(axis=-3)
        evolved = Mixture(
            logits=_logits(evolved.logits, ancestor.logits, counts, noise.logit),
            means=means,
            log_scales=_log_scales(
                evolved.log_scales, ancestor.log_scales, counts, spread, noise.log_scale
            ),
            dof=ancestor.dof,
        )
    return evolved


def evolved_distance(ancestor: Mixture, points: Array, noise: ProcessNoise) -> float:
    """How far a block of windows moves a mixture: bound on the KL divergence, nats.

    Args:
        ancestor: Where it starts from.
        points: The block's features, shape `(n, d)`, n >= 1, finite.
        noise: The state evolution's process noise.
    """
    return matched_bound(evolve(ancestor, points, noise), ancestor).value


def evolved_distances(ancestor: Mixture, blocks: Array, noise: ProcessNoise) -> Array:
    """How far each of many blocks moves a mixture, as `evolved_distance` says, `(m,)`.

    Args:
        ancestor: Where each starts from.
        blocks: The blocks' features, shape `(m, n, d)`, n >= 1, finite.
        noise: The state evolution's process noise.
    """
    found = np.empty(len(blocks))
    at_once = max(1, _ELEMENTS // (blocks.shape[1] * ancestor.means.size))
    for first in range(0, len(blocks), at_once):
        moved = evolve(ancestor, blocks[first : first + at_once], noise)
        for place in range(len(moved.means)):
            one = Mixture(
                moved.logits[place], moved.means[place], moved.log_scales[place], moved.dof
            )
            found[first + place] = matched_bound(one, ancestor).value
    return found


def _translated(ancestor: Mixture, points: Array) -> Mixture:
    """Start from the ancestor moved as a whole by the block's median displacement.

    Seen from the ancestor, a block that moved far is all outliers, and heavy tails would discount
    it; seen from its own middle it is not.
    """
    home = ancestor.joint_log_density(points).argmax(axis=-1)
    step = np.median(points - ancestor.means[home], axis=-2)[..., None, :]
    return Mixture(ancestor.logits, ancestor.means + step, ancestor.log_scales, ancestor.dof)


def _log_scales(start: Array, prior: Array, counts: Array, spread: Array, noise: float) -> Array:
    """Maximise `-N l - S exp(-2 l) / 2 - (l - l0)^2 / (2 noise^2)`, elementwise."""
    here = start
    for _ in range(_NEWTON_STEPS):
        inside = spread * np.exp(-2 * here)
        slope = inside - counts[..., None] - (here - prior) / noise**2
        curvature = 2 * inside + 1 / noise**2
        here = here + np.clip(slope / curvature, -_LARGEST_STEP, _LARGEST_STEP)
    return here


def _logits(start: Array, prior: Array, counts: Array, noise: float) -> Array:
    """Maximise `sum_k N_k log softmax(a)_k - |a - a0|^2 / (2 noise^2)`.

    The Hessian is diagonal minus rank one, so a Newton step costs O(K) (Sherman-Morrison).
    """
    total = counts.sum(axis=-1, keepdims=True)
    here = start
    for _ in range(_NEWTON_STEPS):
        share = np.exp(here - here.max(axis=-1, keepdims=True))
        share /= share.sum(axis=-1, keepdims=True)
        slope = counts - total * share - (here - prior) / noise**2
        diagonal = total * share + 1 / noise**2
        solved = slope / diagonal
        ratio = share / diagonal
        both = [(share * one).sum(axis=-1, keepdims=True) for one in (solved, ratio)]
        solved = solved + ratio * total * both[0] / (1 - total * both[1])
        here = here + np.clip(solved, -_LARGEST_STEP, _LARGEST_STEP)
    return here
