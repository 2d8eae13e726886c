"""What scoring methods have fitted on the workstation: mixtures, support vectors, clusters.

The device judges with the numbers alone (agent/score/gmm.py, ocsvm.py). scikit-learn takes
a second to load, and nearest neighbours need none of it: it is loaded by what needs it.
"""

from __future__ import annotations

import warnings

import numpy as np

from agent.config.scorer_density import DtmmConfig, MixtureConfig, OneClassConfig
from agent.core.records import Matrix
from agent.drift_fit.mixture_fit import fit_mixture
from agent.drift_fit.reduce import fit_reducer
from agent.drift_fit.settings import DriftSettings, embedding_tolerance
from agent.score.fitter import Evolving, Flags, Mixture, SupportVectors
from agent.score.scorer import Floats, IntVector

# A component of fewer windows than this has no shape of its own.
_WINDOWS_A_COMPONENT = 10
_STARTS = 3
# Vectors that an evolving mixture is fitted to: more change it little, and take minutes.
_MOST_POINTS = 4000


class ScikitFitter:
    """Fits with scikit-learn; the same input gives the same result."""

    def mixture(self, points: Floats, config: MixtureConfig) -> Mixture:
        """Gaussian mixture by expectation maximisation, the best of three starts.

        Args:
            points: Standardised, shape `(n, r)`.
            config: Components, form and floor of the covariances, seed.
        """
        from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415
        from sklearn.mixture import GaussianMixture  # noqa: PLC0415

        most = len(points) // _WINDOWS_A_COMPONENT
        model = GaussianMixture(
            n_components=max(1, min(config.components, most)),
            covariance_type=config.covariance,
            reg_covar=config.floor,
            n_init=_STARTS,
            random_state=config.seed,
        )
        with warnings.catch_warnings():
            # A hundred steps are close enough to a maximum.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(points)
        return Mixture(model.weights_, model.means_, model.covariances_)

    def one_class(self, points: Floats, config: OneClassConfig) -> SupportVectors:
        """One-class support vector machine with a Gaussian kernel.

        Args:
            points: Standardised, shape `(n, r)`.
            config: nu and gamma.
        """
        from sklearn.svm import OneClassSVM  # noqa: PLC0415

        variance = max(float(points.var()), 1e-12)
        gamma = config.gamma or 1.0 / (points.shape[1] * variance)
        model = OneClassSVM(nu=config.nu, gamma=gamma).fit(points)
        weights = np.asarray(model.dual_coef_, dtype=np.float64)[0]
        used = weights > 0.0
        return SupportVectors(
            np.asarray(model.support_vectors_, dtype=np.float64)[used],
            weights[used],
            -float(model.intercept_[0]),
            gamma,
        )

    def evolving(self, points: Floats, config: DtmmConfig) -> Evolving:
        """Mixture of Student-t components under a Dirichlet process, as the drift monitor's.

        Args:
            points: Shape `(n, d)`; of more than some thousands an even choice is fitted.
            config: Axes, components, seed.
        """
        # All the axes asked for: the share of variance that a few states make says nothing of the
        # directions that a fault takes.
        settings = DriftSettings(
            variance=1.0,
            max_axes=config.axes,
            max_components=config.components,
            seed=config.seed,
        )
        places = np.linspace(0, len(points) - 1, min(len(points), _MOST_POINTS)).round()
        chosen = points[places.astype(np.int64)]
        reducer, reduced = fit_reducer(chosen, embedding_tolerance(points.shape[1]), settings)
        return Evolving(
            reducer, fit_mixture(reduced, max_components=config.components, seed=config.seed)
        )

    def clusters(self, points: Floats, count: int, seed: int) -> IntVector:
        """K-means with ten starts; fewer clusters where there are fewer different points.

        Args:
            points: Shape `(n, r)`.
            count: Clusters wanted.
            seed: Of the starts.
        """
        from sklearn.cluster import KMeans  # noqa: PLC0415

        count = min(count, len(np.unique(points, axis=0)))
        labels = KMeans(n_clusters=count, n_init=10, random_state=seed).fit_predict(points)
        found: IntVector = labels.astype(np.int64)
        return found

    def oversample(self, vectors: Matrix, few: Flags, neighbours: int) -> Matrix:
        """SMOTE of imbalanced-learn: each new vector lies between one marked and a neighbour.

        Args:
            vectors: Shape `(n, d)`.
            few: Which of them are to be more, `(n,)`.
            neighbours: Nearest marked ones that are interpolated to; as many as there are, if
                fewer.

        Returns:
            The new ones only, float32; none where fewer than two are marked, or most already are.
        """
        from imblearn.over_sampling import SMOTE  # noqa: PLC0415

        count = int(few.sum())
        none = np.empty((0, vectors.shape[1]), np.float32)
        if count < 2 or count >= len(few) - count:
            return none
        sampler = SMOTE(k_neighbors=min(neighbours, count - 1), random_state=0)
        more, _ = sampler.fit_resample(vectors, few.astype(int))
        made: Matrix = np.asarray(more[len(vectors) :], dtype=np.float32)
        return made
