"""Divergence of two mixtures by sampling: what the bound is held against."""

from __future__ import annotations

import numpy as np

from agent.drift.mixture import Array, Mixture


def monte_carlo(
    p: Mixture, q: Mixture, *, count: int, rng: np.random.Generator
) -> tuple[float, float]:
    """Estimate KL(p || q) by sampling from p.

    Returns:
        The estimate and its standard error, nats.
    """
    points = _sample(p, count, rng)
    gains = p.log_density(points) - q.log_density(points)
    return float(gains.mean()), float(gains.std(ddof=1) / np.sqrt(count))


def _sample(p: Mixture, count: int, rng: np.random.Generator) -> Array:
    """Draw points, shape `(count, d)`."""
    which = rng.choice(len(p.logits), size=count, p=p.weights)
    precision = rng.chisquare(p.dof, size=(count, 1)) / p.dof
    noise = rng.standard_normal((count, p.means.shape[1])) / np.sqrt(precision)
    return np.asarray(p.means[which] + p.scales[which] * noise, dtype=np.float64)
