"""How far one mixture lies from another whose components correspond to its own.

The Kullback-Leibler divergence of two mixtures has no closed form. With component k of one being
the descendant of component k of the other, the chain rule gives the matched-component bound
(Hershey and Olsen 2007, section 7):

    KL(p || q) <= sum_k w_k log(w_k / v_k) + sum_k w_k KL(p_k || q_k)

Student-t components have no closed form either. A Student-t is a Gaussian whose precision is
multiplied by u ~ Gamma(dof / 2, dof / 2); both sides share that law, so the chain rule over u gives

    KL(p_k || q_k) <= 1/2 sum_j (s_j / r_j)^2 - 1 - 2 log(s_j / r_j) + (shift_j / r_j)^2

with s and r the scales of p and q, because E[u] = 1. It is exact for one component as dof grows.
The sum is thus never below the true divergence; tests measure by how much it is above by sampling.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agent.drift.mixture import Array, Mixture


@dataclass(frozen=True, slots=True, eq=False)
class Divergence:
    """Upper bound on KL(p || q), nats, and where it comes from.

    Attributes:
        value: The bound.
        weight_part: Share owed to changed weights, shape `(K,)`; a term may be negative.
        place_part: Share owed to components that moved or changed their spread, shape `(K,)`.
    """

    value: float
    weight_part: Array
    place_part: Array


def matched_bound(p: Mixture, q: Mixture) -> Divergence:
    """Bound KL(p || q) for mixtures of corresponding components and the same dof.

    Raises:
        ValueError: The mixtures differ in shape or in degrees of freedom.
    """
    if p.means.shape != q.means.shape or p.dof != q.dof:
        raise ValueError("the bound needs corresponding components and equal degrees of freedom")
    weights = p.weights
    ratio = 2 * (p.log_scales - q.log_scales)
    shift = (p.means - q.means) * np.exp(-q.log_scales)
    each = 0.5 * (np.exp(ratio) - 1 - ratio + shift**2).sum(axis=1)
    weight_part = weights * (p.log_weights - q.log_weights)
    place_part = weights * each
    value = float(weight_part.sum() + place_part.sum())
    return Divergence(max(value, 0.0), weight_part, place_part)
