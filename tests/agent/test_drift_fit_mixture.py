"""The drift baseline's mixture and axes without scikit-learn, held against scikit-learn."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.mixture import BayesianGaussianMixture

from agent.drift_fit.dirichlet import fit_components
from agent.drift_fit.reduce import principal_axes


def _points(kind, seed=0, count=160, dims=5):
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((count, dims))
    if kind == "two":
        points[: count // 2] += 6.0
    if kind == "four":
        points += 9.0 * rng.standard_normal((4, dims))[rng.integers(0, 4, count)]
    return points


def _scikit(points, count):
    return BayesianGaussianMixture(
        n_components=count, covariance_type="diag",
        weight_concentration_prior_type="dirichlet_process",
        weight_concentration_prior=1.0 / count, max_iter=500, n_init=3, random_state=0,
    ).fit(points)  # fmt: skip


@pytest.mark.parametrize("kind", ["one", "two", "four"])
def test_components_are_those_of_scikit_learn(kind):
    points = _points(kind)
    ours, theirs = fit_components(points, 8, concentration=1 / 8, seed=0), _scikit(points, 8)

    def heavy(weights, means, variances):
        kept = [i for i in np.argsort(means[:, 0]) if weights[i] * len(points) >= 5]
        return weights[kept], means[kept], variances[kept]

    for one, other in zip(
        heavy(ours.weights, ours.means, ours.variances),
        heavy(theirs.weights_, theirs.means_, theirs.covariances_),
        strict=True,
    ):
        assert one == pytest.approx(other, rel=0.1, abs=0.05)


def test_the_bound_is_that_of_scikit_learn_where_there_is_one_optimum():
    points = _points("one", seed=3)

    ours = fit_components(points, 1, concentration=1.0, seed=0)

    assert ours.bound == pytest.approx(_scikit(points, 1).lower_bound_, abs=0.01)
    assert ours.weights.tolist() == [1.0]


def test_fewer_different_points_than_components():
    points = np.repeat(_points("one", count=2), 20, axis=0)

    found = fit_components(points, 8, concentration=1 / 8, seed=0)

    assert np.isfinite(found.means).all()
    assert (found.variances > 0).all()
    assert found.weights.sum() == pytest.approx(1.0)


@pytest.mark.parametrize("shape", [(60, 12), (10, 40)])
def test_axes_are_those_of_scikit_learn(shape):
    points = _points("one", count=shape[0], dims=shape[1]) * np.arange(1, shape[1] + 1)
    theirs = PCA(n_components=6, svd_solver="full").fit(points)

    axes, shares = principal_axes(points, 6)

    assert axes == pytest.approx(theirs.components_, abs=1e-9)
    assert shares == pytest.approx(theirs.explained_variance_ratio_, abs=1e-12)
