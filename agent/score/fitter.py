"""What takes a workstation to fit, asked for by an interface that the device has no answer to.

Support vectors, mixtures and clusters are found with scikit-learn, which a device does not carry.
The trainer passes a `Fitter`; where there is none, the fit is refused with what to do about it.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from agent.config.scorer_density import DtmmConfig, MixtureConfig, OneClassConfig
from agent.core.errors import AuscultError
from agent.core.records import Matrix
from agent.drift.baseline import Reducer
from agent.drift.mixture import Mixture as StudentMixture
from agent.score.scorer import Floats, IntVector

Flags: TypeAlias = npt.NDArray[np.bool_]


class Mixture(NamedTuple):
    """A Gaussian mixture.

    Attributes:
        weights: `(k,)`, sum 1.
        means: `(k, d)`.
        covariances: `(k, d, d)` when full, `(k, d)` variances when diagonal.
    """

    weights: Floats
    means: Floats
    covariances: Floats


class SupportVectors(NamedTuple):
    """A one-class support vector machine with the kernel exp(-gamma |x - y|^2).

    Attributes:
        vectors: `(s, d)`.
        coefficients: alpha, `(s,)`, positive.
        rho: Offset: the decision function is sum alpha K - rho.
        gamma: Width of the kernel.
    """

    vectors: Floats
    coefficients: Floats
    rho: float
    gamma: float


class Evolving(NamedTuple):
    """A healthy mixture that can evolve, and how points come to its dimensions.

    Attributes:
        reducer: Standardises and projects.
        mixture: Student-t components, the heaviest first.
    """

    reducer: Reducer
    mixture: StudentMixture


class Fitter(Protocol):
    """Fits what needs scikit-learn."""

    def mixture(self, points: Floats, config: MixtureConfig) -> Mixture:
        """Fit a Gaussian mixture to points `(n, d)` by expectation maximisation."""

    def one_class(self, points: Floats, config: OneClassConfig) -> SupportVectors:
        """Fit a one-class support vector machine to points `(n, d)`."""

    def evolving(self, points: Floats, config: DtmmConfig) -> Evolving:
        """Fit a Dirichlet-process mixture of Student-t components to vectors `(n, d)`."""

    def clusters(self, points: Floats, count: int, seed: int) -> IntVector:
        """Cluster of each of the points `(n, d)`, int64 `(n,)`, by k-means."""

    def oversample(self, vectors: Matrix, few: Flags, neighbours: int) -> Matrix:
        """Vectors made up between those marked `few`, until they are as many as the others."""


class WorkstationError(AuscultError):
    """A fit that a device cannot make."""


def on_workstation(fitter: Fitter | None, method: str) -> Fitter:
    """The fitter, if there is one.

    Raises:
        WorkstationError: There is none.
    """
    if fitter is None:
        raise WorkstationError(
            f"the scorer '{method}' cannot be fitted on this device",
            remedy="Add the recordings to the data folder on the workstation, export the machine "
            "again there with `auscult export`, and copy the bundle here.",
        )
    return fitter
