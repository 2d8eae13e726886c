"""Density scorers against scikit-learn, scipy and PyOD, and what each is for."""

from __future__ import annotations

import numpy as np
import pytest
from pyod.models.gmm import GMM
from pyod.models.ocsvm import OCSVM
from scipy.spatial.distance import mahalanobis
from scipy.stats import multivariate_normal
from sklearn.covariance import LedoitWolf, ledoit_wolf, shrunk_covariance
from sklearn.mixture import GaussianMixture
from sklearn.svm import OneClassSVM

from agent.bundle.manifest import Row
from agent.config.scorer_density import (
    CoveringConfig,
    DensitySoftmaxConfig,
    MahalanobisConfig,
    MixtureConfig,
    OneClassConfig,
    ValueConfig,
)
from agent.core.errors import ConfigError
from agent.score.build import build_scorer, fit_state, healthy_scores
from agent.score.fitter import WorkstationError
from agent.score.gaussian import covariance
from agent.score.scorer import HealthySet
from trainer.fit.densities import ScikitFitter

FITTER = ScikitFitter()


def healthy_set(vectors, *, domains=None, attributes=None, groups=None):
    rows = [
        Row(
            source=f"{i}.wav",
            start=0,
            group=f"{i}.wav" if groups is None else groups[i],
            domain="unknown" if domains is None else domains[i],
            attributes={} if attributes is None else {"load": attributes[i]},
        )
        for i in range(len(vectors))
    ]
    return HealthySet(np.float32(vectors), rows)


def scores_of(healthy, config, queries, fitter=FITTER):
    scorer = build_scorer(config, healthy, fit_state(healthy, config, fitter))
    scorer.start()
    scores, rows = scorer.score(np.float32(queries))
    assert scores.dtype == np.float32
    assert (rows == -1).all()
    return scores


def crooked(rng, count, dim):
    """Correlated numbers of different sizes."""
    return rng.normal(size=(count, dim)) @ rng.normal(size=(dim, dim)) + rng.normal(size=dim) * 3


@pytest.mark.parametrize("shape", [(200, 6), (12, 30)])
def test_shrinkage_is_that_of_scikit_learn(shape):
    points = crooked(np.random.default_rng(0), *shape)
    points -= points.mean(axis=0)
    wanted, _ = ledoit_wolf(points, assume_centered=True)
    np.testing.assert_allclose(covariance(points, None), wanted, rtol=1e-6, atol=1e-9)
    plain = points.T @ points / len(points)
    np.testing.assert_allclose(
        covariance(points, 0.3), shrunk_covariance(plain, 0.3), rtol=1e-6, atol=1e-9
    )


def test_pooled_mahalanobis_is_scikit_learns():
    rng = np.random.default_rng(1)
    points, queries = crooked(rng, 80, 7), rng.normal(size=(20, 7)) * 4
    scores = scores_of(healthy_set(points), MahalanobisConfig(covariance="pooled"), queries)
    wanted = np.sqrt(LedoitWolf().fit(np.float32(points)).mahalanobis(np.float32(queries)))
    np.testing.assert_allclose(scores, wanted, rtol=1e-3)


def test_selective_mahalanobis_is_the_smaller_of_two_domains():
    rng = np.random.default_rng(2)
    source, target = crooked(rng, 60, 4), crooked(rng, 25, 4)
    queries = rng.normal(size=(10, 4)) * 3
    healthy = healthy_set(
        np.concatenate([source, target]), domains=["source"] * 60 + ["target"] * 25
    )
    scores = scores_of(healthy, MahalanobisConfig(shrinkage=0.0), queries)
    wanted = [
        min(
            mahalanobis(query, part.mean(axis=0), np.linalg.inv(np.cov(part.T, bias=True)))
            for part in (source, target)
        )
        for query in queries
    ]
    np.testing.assert_allclose(scores, wanted, rtol=2e-3)


def test_the_baselines_full_matrix_is_the_mean_residual_and_the_textbook_the_mean_distance():
    rng = np.random.default_rng(3)
    frames, size = 5, 3
    residuals = rng.normal(size=(40, frames, size)) + np.array([0.5, 0, -0.2])
    query = rng.normal(size=(frames, size)) + 1
    healthy = healthy_set(residuals.reshape(40, -1))
    every = residuals.reshape(-1, size)
    precision = np.linalg.inv(every.T @ every / len(every))
    usual = MahalanobisConfig(
        covariance="pooled", center="zero", shrinkage=0.0, frames=frames, form="of_mean"
    )
    # What the baseline computes: the mean over the whole matrix of products, not its diagonal.
    full = (query @ precision @ query.T).mean()
    (score,) = scores_of(healthy, usual, query.reshape(1, -1))
    assert score == pytest.approx(np.sqrt(full), rel=1e-3)
    (textbook,) = scores_of(
        healthy, usual.model_copy(update={"form": "mean_of"}), query.reshape(1, -1)
    )
    diagonal = np.sqrt(np.einsum("ti,ij,tj->t", query, precision, query)).mean()
    assert textbook == pytest.approx(diagonal, rel=1e-3)
    assert textbook > score


def test_too_few_windows_without_shrinkage_are_refused_with_the_field():
    healthy = healthy_set(np.random.default_rng(0).normal(size=(5, 20)))
    with pytest.raises(ConfigError, match=r"scorer.shrinkage.*too few"):
        fit_state(healthy, MahalanobisConfig(shrinkage=0.0))
    assert np.isfinite(scores_of(healthy, MahalanobisConfig(), np.ones((2, 20)))).all()


def test_a_lone_target_recording_is_judged_by_all_domains_together():
    rng = np.random.default_rng(4)
    points = np.concatenate([rng.normal(size=(30, 3)), rng.normal(size=(1, 3)) + 6])
    healthy = healthy_set(points, domains=["source"] * 30 + ["target"])
    state = fit_state(healthy, MahalanobisConfig())
    assert len(state["mean"]) == 2
    np.testing.assert_allclose(state["mean"][1], np.float32(points).mean(axis=0), rtol=1e-4)


@pytest.mark.parametrize("form", ["full", "diag"])
def test_mixture_is_scikit_learns_and_orders_as_pyods(form):
    rng = np.random.default_rng(5)
    points = np.concatenate([crooked(rng, 80, 4), crooked(rng, 60, 4)])
    queries = rng.normal(size=(40, 4)) * 4
    healthy = healthy_set(points)
    config = MixtureConfig(components=2, covariance=form, dims=None, floor=1e-6)
    scores = scores_of(healthy, config, queries)
    mean, deviation = np.float32(points).mean(axis=0), np.float32(points).std(axis=0)
    model = GaussianMixture(2, covariance_type=form, random_state=0, n_init=3, reg_covar=1e-6)
    model.fit((np.float32(points) - mean) / deviation)
    wanted = -model.score_samples((np.float32(queries) - mean) / deviation)
    np.testing.assert_allclose(scores, wanted, rtol=1e-3, atol=1e-3)
    theirs = GMM(n_components=2, covariance_type=form, random_state=0, n_init=3)
    theirs.fit((points - mean) / deviation)
    # PyOD negates scikit-learn's log density as well.
    found = np.argsort(theirs.decision_function((queries - mean) / deviation))
    assert np.corrcoef(np.argsort(found), np.argsort(np.argsort(scores)))[0, 1] > 0.99


def test_one_class_svm_agrees_with_scikit_learn_and_pyod_and_does_not_end():
    rng = np.random.default_rng(6)
    points, queries = rng.normal(size=(150, 5)), rng.normal(size=(60, 5)) * 1.7
    healthy = healthy_set(points)
    config = OneClassConfig(dims=None, nu=0.1, gamma=0.3)
    scores = scores_of(healthy, config, queries)
    mean, deviation = np.float32(points).mean(axis=0), np.float32(points).std(axis=0)
    model = OneClassSVM(nu=0.1, gamma=0.3).fit((np.float32(points) - mean) / deviation)
    decision = model.decision_function((np.float32(queries) - mean) / deviation)
    sure = np.abs(decision) > 1e-4
    assert ((scores > 0) == (decision < 0))[sure].all()
    # The same function, its logarithm: the kernel sum is decision + rho.
    rho = float(-model.intercept_[0])
    np.testing.assert_allclose(scores, np.log(rho) - np.log(decision + rho), rtol=1e-3, atol=1e-3)
    theirs = OCSVM(nu=0.1, gamma=0.3).fit((points - mean) / deviation)
    theirs_order = np.argsort(theirs.decision_function((queries - mean) / deviation))
    np.testing.assert_array_equal(theirs_order, np.argsort(scores))
    far = scores_of(healthy, config, np.float32([[50.0] * 5, [500.0] * 5]))
    assert far[1] > far[0] > scores.max()
    assert (model.decision_function([[50.0] * 5, [500.0] * 5]) == -rho).all()


def test_covering_cone_is_the_brute_force_one_and_ignores_an_outlier_on_request():
    rng = np.random.default_rng(7)
    points = rng.normal(size=(99, 8)) * 0.2 + np.eye(8)[0]
    points = np.concatenate([points, -np.eye(8)[:1]])  # one healthy window faces the other way
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    center = unit.mean(axis=0) / np.linalg.norm(unit.mean(axis=0))
    away = np.sort((1 - unit @ center) / 2)
    healthy = healthy_set(points)
    queries = rng.normal(size=(10, 8))
    lengths = np.linalg.norm(queries, axis=1)
    for covered, radius in ((1.0, away[-1]), (0.95, away[95])):
        scores = scores_of(healthy, CoveringConfig(covered=covered), queries)
        np.testing.assert_allclose(scores, (1 - queries @ center / lengths) / 2 / radius, rtol=1e-4)
    inside = scores_of(healthy, CoveringConfig(), points)
    assert inside.max() == pytest.approx(1.0, rel=1e-5)
    assert (scores_of(healthy, CoveringConfig(covered=0.95), points) > 1).sum() == 4


def test_density_softmax_sees_both_none_likely_and_none_standing_out():
    rng = np.random.default_rng(8)
    a, b = rng.normal(size=(60, 2)) * 0.5 + [4, 0], rng.normal(size=(60, 2)) * 0.5 - [4, 0]
    healthy = healthy_set(np.concatenate([a, b]), attributes=["a"] * 60 + ["b"] * 60)
    config = DensitySoftmaxConfig(dims=None)
    queries = np.float32([[4, 0], [4, 30], [0, 0]])
    own, far, between = scores_of(healthy, config, queries, None)
    assert own < 1
    assert far > 5  # as far from either class: small everywhere
    assert between > 5
    total_only = config.model_copy(update={"spread": 0.0})
    own_total, _, between_total = scores_of(healthy, total_only, queries, None)
    assert between - own > between_total - own_total + 1  # the flat posterior counts on top


def test_density_softmax_total_is_scipys_density():
    rng = np.random.default_rng(9)
    points = np.concatenate([crooked(rng, 50, 3), crooked(rng, 50, 3)])
    classes = ["a"] * 50 + ["b"] * 50
    healthy = healthy_set(points, attributes=classes)
    config = DensitySoftmaxConfig(dims=None, covariance="full", shrinkage=0.0, spread=0.0)
    queries = rng.normal(size=(20, 3)) * 3
    scores = scores_of(healthy, config, queries, None)
    points, queries = np.float32(points).astype(float), np.float32(queries).astype(float)
    mean, deviation = points.mean(axis=0), points.std(axis=0)

    def total(x):
        z, own = (x - mean) / deviation, (points - mean) / deviation
        logs = [
            multivariate_normal.logpdf(z, own[half].mean(axis=0), np.cov(own[half].T, bias=True))
            for half in (slice(50), slice(50, 100))
        ]
        return -np.logaddexp(*logs) + np.log(2)

    wanted = (total(queries) - total(points).mean()) / total(points).std()
    np.testing.assert_allclose(scores, wanted, rtol=2e-3, atol=2e-3)


def test_a_change_outside_the_principal_directions_is_seen():
    rng = np.random.default_rng(10)
    points = np.zeros((100, 40))
    points[:, :4] = rng.normal(size=(100, 4)) * 5
    points[:, 4:] = rng.normal(size=(100, 36)) * 0.1
    healthy = healthy_set(points)
    quiet, odd = points[:1].copy(), points[:1].copy()
    odd[0, 30] += 3.0  # large beside the 0.1 of its direction, small beside the 5 of others
    for config in (MixtureConfig(dims=4), OneClassConfig(dims=4), DensitySoftmaxConfig(dims=4)):
        before, after = scores_of(healthy, config, np.concatenate([quiet, odd]))
        usual = scores_of(healthy, config, points)
        assert after > usual.max(), config.kind
        assert before <= usual.max(), config.kind


def test_no_attributes_need_clusters_and_clusters_need_a_workstation():
    rng = np.random.default_rng(11)
    points = np.concatenate([rng.normal(size=(40, 3)) + 9, rng.normal(size=(40, 3)) - 9])
    healthy = healthy_set(points)
    config = DensitySoftmaxConfig(clusters=2, dims=None)
    state = fit_state(healthy, config, FITTER)
    assert len(state["means"]) == 2
    for refused in (config, MixtureConfig(), OneClassConfig()):
        with pytest.raises(WorkstationError, match="auscult export"):
            fit_state(healthy, refused, None)
    assert len(fit_state(healthy, config.model_copy(update={"clusters": 1}), None)["means"]) == 1


@pytest.mark.parametrize(
    "config", [MahalanobisConfig(), CoveringConfig(), MixtureConfig(dims=3), OneClassConfig(dims=3)]
)
def test_healthy_scores_leave_the_recording_out(config):
    rng = np.random.default_rng(12)
    points = rng.normal(size=(40, 6)) + 5 * np.eye(6)[0]
    groups = [f"{i // 4}.wav" for i in range(40)]
    points[groups.index("7.wav") : groups.index("7.wav") + 4] -= 9 * np.eye(6)[0]
    healthy = healthy_set(points, groups=groups)
    (left_out,) = healthy_scores(healthy, config, FITTER)
    odd = np.array(groups) == "7.wav"
    # Known, the odd recording bends the model towards itself; left out, it cannot.
    known = scores_of(healthy, config, points)
    assert left_out[odd].min() > known[odd].max()
    assert left_out[odd].min() > left_out[~odd].max()


def test_one_recording_has_no_left_out_scores():
    healthy = healthy_set(np.random.default_rng(0).normal(size=(8, 3)), groups=["a"] * 8)
    (scores,) = healthy_scores(healthy, MahalanobisConfig())
    assert np.isnan(scores).all()


def test_value_is_its_column():
    vectors = np.random.default_rng(0).normal(size=(6, 4))
    found = scores_of(healthy_set(vectors), ValueConfig(column=2), vectors)
    np.testing.assert_array_equal(found, np.float32(vectors[:, 2]))


@pytest.mark.parametrize(
    "config",
    [
        MahalanobisConfig(),
        CoveringConfig(),
        DensitySoftmaxConfig(clusters=1, dims=None),
        MixtureConfig(dims=4, components=2),
        OneClassConfig(dims=4),
    ],
    ids=lambda config: config.kind,
)
def test_new_healthy_sound_exceeds_left_out_scores_as_often_as_it_should(config):
    """A tenth of new sound lies above the left-out scores' 90 % quantile."""
    found = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        mix = rng.normal(size=(4, 20))

        def draw(count, rng=rng, mix=mix):
            return rng.normal(size=(count, 4)) @ mix + rng.normal(size=(count, 20)) * 0.7 + 1

        points = draw(80)
        (left_out,) = healthy_scores(healthy_set(points), config, FITTER)
        fresh = scores_of(healthy_set(points), config, draw(400))
        found.append(np.mean(fresh > np.quantile(left_out, 0.9)))
    assert np.mean(found) == pytest.approx(0.1, abs=0.04)


@pytest.mark.parametrize("form", ["tied", "full", "diag"])
def test_attributes_that_name_each_recording_are_no_classes(form):
    rng = np.random.default_rng(3)
    vectors = np.float32(rng.normal(size=(20, 16)))
    named = healthy_set(vectors, attributes=[str(i) for i in range(20)])
    config = DensitySoftmaxConfig(covariance=form)
    (left,) = healthy_scores(named, config)
    assert np.isfinite(left).all()
    assert np.abs(left).max() < 1e6  # it was 1e38: beyond it no fault has a finite score
    assert np.isfinite(scores_of(named, config, 1e4 * np.ones((1, 16)))).all()


@pytest.mark.parametrize("targets", [2, 3])
def test_a_domain_of_two_or_three_recordings_has_a_covariance(targets):
    rng = np.random.default_rng(5)
    vectors = rng.normal(size=(16 + targets, 12))
    vectors[16:] += 4.0
    healthy = healthy_set(vectors, domains=["source"] * 16 + ["target"] * targets)
    config = MahalanobisConfig()
    (left,) = healthy_scores(healthy, config)
    assert np.isfinite(left).all()
    own = scores_of(healthy, config, vectors[16:])
    away = scores_of(healthy, config, vectors[16:] + 20.0)
    assert own.max() < 0.5 * away.min()


def test_a_recording_filed_over_and_over_has_a_covariance():
    twins = np.repeat(np.random.default_rng(6).normal(size=(2, 8)), 10, axis=0)
    assert np.isfinite(scores_of(healthy_set(twins), MahalanobisConfig(), twins + 1.0)).all()
