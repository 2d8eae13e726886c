"""Fusion: its arithmetic by hand, what makes parts comparable, and that no say saturates."""

from __future__ import annotations

import numpy as np
import pytest

from agent.bundle.manifest import Row
from agent.config.scorer import FusionConfig, Part
from agent.config.scorer_density import MahalanobisConfig, ValueConfig
from agent.config.scorer_knn import KnnConfig
from agent.core.errors import ConfigError
from agent.score import fusion as fusion_module
from agent.score.build import build_scorer, fit_scored, fit_state, healthy_scores
from agent.score.comparable import Surprise, combine, normalizer
from agent.score.fusion import FusionScorer, Judge
from agent.score.left_out import leave_one_out
from agent.score.scorer import HealthySet

TWO = (
    Part(columns=(0, 1), scorer=ValueConfig(), weight=3.0),
    Part(columns=(1, 2), scorer=ValueConfig(), weight=1.0),
)


def healthy_set(vectors):
    rows = [Row(source=f"{i}.wav", start=0, group=f"{i}.wav") for i in range(len(vectors))]
    return HealthySet(np.float32(vectors), rows)


def fused(config, healthy, queries):
    scorer = build_scorer(config, healthy, fit_state(healthy, config))
    scorer.start()
    return scorer.score(np.float32(queries))[0]


@pytest.mark.parametrize(
    ("rule", "wanted"), [("mean", [0.75 * 2 + 0.25 * 6]), ("min", [2]), ("max", [6])]
)
def test_rules_by_hand(rule, wanted):
    config = FusionConfig(parts=TWO, combine=rule)
    np.testing.assert_allclose(combine(config, np.array([[2.0], [6.0]])), wanted)


def test_rank_is_the_weighted_mean_of_the_shares_above():
    config = FusionConfig(parts=TWO, combine="rank")
    shares = np.array([[0.5, 1e-300], [0.01, 1e-250]])
    found = combine(config, -np.log(shares))
    assert found[0] == pytest.approx(-np.log(0.75 * 0.5 + 0.25 * 0.01))
    assert found[1] == pytest.approx(250 * np.log(10) - np.log(0.25))  # without underflow


def test_normalisations_by_hand():
    healthy = np.array([1.0, 2.0, 3.0, 6.0])
    asked = np.array([3.0, 8.0])

    def made(kind):
        return normalizer(FusionConfig(parts=TWO, normalize=kind), healthy)(asked)

    np.testing.assert_allclose(made("none"), asked)
    np.testing.assert_allclose(made("z"), (asked - 3.0) / np.sqrt(3.5))
    np.testing.assert_allclose(made("minmax"), [0.4, 1.4])
    # At 3: one of four above, and 3 itself half: 1.5 of 4.
    assert made("quantile")[0] == pytest.approx(-np.log(1.5 / 4))


def test_surprise_is_calibrated_inside_and_rises_for_ever_outside():
    rng = np.random.default_rng(0)
    healthy = np.sort(rng.exponential(size=4000))
    surprise = Surprise(healthy)
    # For an exponential, -log P(X > x) is x itself, in the tail that was never seen too.
    asked = np.array([0.1, 0.5, 1.0, 3.0, 12.0, 100.0])
    np.testing.assert_allclose(surprise(asked), asked, rtol=0.15, atol=0.03)
    assert (np.diff(surprise(np.linspace(0, 1000, 5000))) >= 0).all()
    equal = Surprise(np.full(10, 2.0))
    assert np.isfinite(equal(np.array([0.0, 2.0, 3.0]))).all()
    assert equal(np.array([3.0]))[0] > equal(np.array([2.0]))[0]


def test_a_fused_system_of_columns_by_hand():
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(30, 2)) * [1.0, 100.0] + [5.0, -40.0]
    queries = rng.normal(size=(4, 2)) * [2.0, 200.0]
    z = (np.float32(queries) - np.float32(vectors).mean(axis=0)) / np.float32(vectors).std(axis=0)
    healthy = healthy_set(vectors)
    mean = fused(FusionConfig(parts=TWO), healthy, queries)
    np.testing.assert_allclose(mean, z @ [0.75, 0.25], rtol=1e-4, atol=1e-5)
    least = fused(FusionConfig(parts=TWO, combine="min"), healthy, queries)
    np.testing.assert_allclose(least, z.min(axis=1), rtol=1e-4, atol=1e-5)


def test_parts_are_made_comparable_by_left_out_scores():
    """A bank's rows score 0 against itself: in-sample, every new sound would look strange."""
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(40, 6))
    knn = KnnConfig(metric="euclidean", normalization="none")
    config = FusionConfig(
        parts=(
            Part(columns=(0, 3), scorer=knn),
            Part(columns=(3, 6), scorer=MahalanobisConfig()),
        )
    )
    healthy = healthy_set(vectors)
    state = fit_state(healthy, config)
    wanted = np.sort(leave_one_out(np.float32(vectors[:, :3]), healthy.groups, knn))
    np.testing.assert_allclose(state["0.healthy"], wanted)
    (scores,) = healthy_scores(healthy, config)
    fresh = fused(config, healthy, rng.normal(size=(400, 6)))
    assert abs(np.median(scores) - np.median(fresh)) < 0.4
    both, again = fit_scored(healthy, config)
    np.testing.assert_array_equal(again, scores)
    assert both.keys() == state.keys()
    for name, array in state.items():
        np.testing.assert_array_equal(both[name], array)


def test_parts_are_left_out_once_whoever_asks(monkeypatch):
    rng = np.random.default_rng(3)
    healthy = healthy_set(rng.normal(size=(40, 6)))
    knn = KnnConfig(metric="euclidean", normalization="varmin", density_k=4)
    config = FusionConfig(
        parts=(
            Part(columns=(0, 3), scorer=knn, standardize="robust"),
            Part(columns=(3, 6), scorer=knn, standardize="whiten"),
        )
    )
    asked = []
    original = fusion_module.by_folds

    def counted(*args, **settings):
        asked.append(len(args[1]))
        return original(*args, **settings)

    monkeypatch.setattr(fusion_module, "by_folds", counted)
    _, scores = fit_scored(healthy, config)
    assert asked == [1, 1]

    displaced = np.float32(healthy.vectors + 1.0)
    own, moved, once_more = healthy_scores(
        healthy, config, queries=[healthy.vectors, displaced, healthy.vectors]
    )

    assert asked == [1, 1, 2, 2]
    np.testing.assert_array_equal(own, scores)
    np.testing.assert_array_equal(once_more, scores)
    assert not np.allclose(moved, scores)


def test_the_nearest_row_is_that_of_the_part_that_decided():
    class Fixed:
        def __init__(self, score, row):
            self.score_, self.row = score, row

        def start(self):
            pass

        def score(self, embeddings):
            return np.float32([self.score_]), np.array([self.row])

    parts = tuple(Part(scorer=KnnConfig()) for _ in range(3))

    def nearest(rule, *found):
        judges = [Judge(None, Fixed(*pair), lambda scores: scores) for pair in found]
        scorer = FusionScorer(FusionConfig(parts=parts, combine=rule), judges)
        return scorer.score(np.zeros((1, 2), np.float32))[1][0]

    assert nearest("max", (1, 11), (3, 33), (2, 22)) == 33
    assert nearest("min", (1, 11), (3, 33), (2, 22)) == 11
    assert nearest("mean", (1, 11), (9, -1), (2, 22)) == 22  # the loudest knows no row
    assert nearest("mean", (1, -1), (9, -1), (2, -1)) == -1


def test_columns_beyond_the_embedding_are_refused_with_the_field():
    config = FusionConfig(parts=(Part(columns=(1, 9), scorer=KnnConfig()),))
    with pytest.raises(ConfigError, match=r"scorer.parts.0.columns.*gives 4"):
        fit_state(healthy_set(np.zeros((5, 4))), config)


def test_columns_that_end_before_they_start_are_refused():
    with pytest.raises(ValueError, match="start < stop"):
        Part(columns=(4, 4), scorer=KnnConfig())
