"""Mixtures of Student-t distributions with diagonal scales and shared degrees of freedom.

Heavy tails keep a passing lorry from counting as drift (Svensen and Bishop 2005, Archambeau and
Verleysen 2007). The scales are diagonal because the features are principal components, and because
every natural parameter (mean, log scale, logit of the weight) then evolves as a scalar.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Mixture:
    """A mixture of K Student-t components over d dimensions. Component order has meaning.

    Several at once, of blocks of windows for example, have leading axes of their own (`...`).

    Attributes:
        logits: Unnormalised log weights, shape `(..., K)`.
        means: Component centres, shape `(..., K, d)`.
        log_scales: Natural logarithm of the component scales (not standard deviations; the
            variance is `scale**2 * dof / (dof - 2)`), shape `(..., K, d)`.
        dof: Degrees of freedom shared by the components; larger is nearer to Gaussian.
    """

    logits: Array
    means: Array
    log_scales: Array
    dof: float

    @property
    def log_weights(self) -> Array:
        """Logarithm of the weights, shape `(..., K)`."""
        shifted = self.logits - self.logits.max(axis=-1, keepdims=True)
        summed = np.exp(shifted).sum(axis=-1, keepdims=True)
        return np.asarray(shifted - np.log(summed), dtype=np.float64)

    @property
    def weights(self) -> Array:
        """The weights, shape `(..., K)`, summing to 1."""
        return np.asarray(np.exp(self.log_weights), dtype=np.float64)

    @property
    def scales(self) -> Array:
        """Component scales, shape `(..., K, d)`."""
        return np.asarray(np.exp(self.log_scales), dtype=np.float64)

    def squared_distances(self, points: Array) -> Array:
        """Squared distance of points `(..., n, d)` to each centre, in its scale, `(..., n, K)`."""
        apart = points[..., :, None, :] - self.means[..., None, :, :]
        standard = apart * np.exp(-self.log_scales)[..., None, :, :]
        return np.asarray((standard**2).sum(axis=-1), dtype=np.float64)

    def joint_log_density(self, points: Array, squared: Array | None = None) -> Array:
        """Log weight plus log density of each component, shape `(..., n, K)`.

        Args:
            points: Shape `(..., n, d)`.
            squared: `squared_distances(points)` when at hand.
        """
        if squared is None:
            squared = self.squared_distances(points)
        dims = self.means.shape[-1]
        half = (self.dof + dims) / 2
        constant = (
            math.lgamma(half)
            - math.lgamma(self.dof / 2)
            - dims / 2 * math.log(self.dof * math.pi)
            - self.log_scales.sum(axis=-1)
        )
        density = constant[..., None, :] - half * np.log1p(squared / self.dof)
        return np.asarray(self.log_weights[..., None, :] + density, dtype=np.float64)

    def log_density(self, points: Array) -> Array:
        """Log density of points `(..., n, d)`, shape `(..., n)`."""
        return log_sum_exp(self.joint_log_density(points))


def log_sum_exp(values: Array) -> Array:
    """Logarithm of the sum of exponentials along the last axis."""
    top = values.max(axis=-1, keepdims=True)
    summed = np.log(np.exp(values - top).sum(axis=-1))
    return np.asarray(summed + top[..., 0], dtype=np.float64)
