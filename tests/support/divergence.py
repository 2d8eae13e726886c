"""Divergence of two mixtures by sampling: what the bound is held against."""

from __future__ import annotations

import numpy as np

from agent.drift.mixture import Mixture


def monte_carlo(
    p: Mixture, q: Mixture, *, count: int, rng: np.random.Generator
) -> tuple[float, float]:
    """Estimate KL(p || q) by sampling from p.

    Returns:
        The estimate and its standard error, nats.
    """
    points = p.sample(count, rng)
    gains = p.log_density(points) - q.log_density(points)
    return float(gains.mean()), float(gains.std(ddof=1) / np.sqrt(count))
