"""The healthy-data check lets a sound normalisation pass and stops one that blinds the scorer."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from agent.bundle.manifest import Row
from agent.calibrate.check import auc, power, trusted
from agent.calibrate.fit import fit_scorer
from agent.config.scorer_knn import KnnConfig
from agent.config.threshold import ThresholdRule
from agent.score.bank import MemoryBank
from agent.score.build import build_scorer
from agent.score.knn import KnnScorer
from agent.score.normalize import fit_constants
from agent.score.scorer import HealthySet


def test_auc_equals_scikit_learn_with_ties():
    rng = np.random.default_rng(0)
    low, high = (
        rng.integers(0, 9, 50).astype(np.float32),
        rng.integers(2, 12, 40).astype(np.float32),
    )
    truth = [0] * 50 + [1] * 40
    assert auc(low, high) == pytest.approx(roc_auc_score(truth, np.concatenate([low, high])))


def healthy_set(vectors, groups=None):
    groups = range(len(vectors)) if groups is None else groups
    return HealthySet(vectors, [Row(source=str(g), start=0, group=str(g)) for g in groups])


def two_conditions(rng):
    """A crowded and a sparse condition: what local-density normalisation is for."""
    crowded = rng.normal(size=(80, 12)) * 0.03 + np.eye(12)[0]
    sparse = rng.normal(size=(10, 12)) * 0.15 + np.eye(12)[1]
    return np.float32(np.concatenate([crowded, sparse]))


def test_a_normalisation_that_helps_is_kept():
    vectors = two_conditions(np.random.default_rng(0))
    config = KnnConfig(normalization="varmin", density_k=8)
    assert power(healthy_set(vectors), config) > power(
        healthy_set(vectors), config.model_copy(update={"normalization": "none"})
    )
    assert trusted(healthy_set(vectors), config) == (config, "")


@pytest.mark.parametrize("normalization", ["ldn_ratio", "ldn_difference", "varmin"])
def test_two_recordings_are_no_density_and_the_machine_is_not_in_alarm_for_ever(normalization):
    rng = np.random.default_rng(0)
    alarmed = []
    for _ in range(5):
        base = rng.normal(size=16)
        one, other, new = (base + 0.1 * rng.normal(size=16) for _ in range(3))
        vectors = np.concatenate([np.tile(one, (10, 1)), np.tile(other, (10, 1))])
        vectors += 0.03 * rng.normal(size=vectors.shape)
        healthy = healthy_set(np.float32(vectors), [0] * 10 + [1] * 10)
        rule = ThresholdRule(false_alarm_rate=0.02)
        fitted = fit_scorer(
            healthy, KnnConfig(normalization=normalization), rule, window_seconds=10.0
        )
        assert fitted.config.normalization == "none"
        assert "3 healthy recordings" in fitted.notes[0]
        scorer = build_scorer(fitted.config, healthy, fitted.state)
        scorer.start()
        heard, _ = scorer.score(np.float32(new + 0.03 * rng.normal(size=(20, 16))))
        alarmed.append(np.mean(heard > fitted.threshold.value))
    assert np.mean(alarmed) < 0.5  # it was all of them, or nearly


def with_twins_and_strays(rng):
    """One condition, most of whose recordings were filed twice, and a few strays around it.

    At K = 1 a twin's density is almost nothing and a stray's is huge: divided by those, distances
    to twins explode and the strays claim every sound, healthy or not.
    """
    crowd = rng.normal(size=(60, 24)) * 0.2 + 2 * np.eye(24)[0]
    twins = crowd[:40] + rng.normal(size=(40, 24)) * 0.002
    strays = rng.normal(size=(6, 24)) * 1.5 + np.eye(24)[0]
    return np.float32(np.concatenate([crowd, twins, strays]))


def real_auc(vectors, config, healthy, faulty):
    """AUC of faulty against healthy embeddings, neither heard before."""
    groups = [str(i) for i in range(len(vectors))]
    constants = fit_constants(vectors, groups, config)
    rows = tuple(Row(source=g, start=0, group=g) for g in groups)
    scorer = KnnScorer(MemoryBank(vectors, constants, rows), config)
    return auc(scorer.score(healthy)[0], scorer.score(faulty)[0])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_normalisation_that_collapses_is_dropped_with_a_note(seed):
    rng = np.random.default_rng(seed)
    vectors = with_twins_and_strays(rng)
    healthy = np.float32(rng.normal(size=(100, 24)) * 0.2 + 2 * np.eye(24)[0])
    faulty = np.float32(rng.normal(size=(100, 24)) * 0.3 + 2 * np.eye(24)[0] + 0.3 * np.eye(24)[1])
    config = KnnConfig(normalization="ldn_ratio", density_k=1)
    used, note = trusted(healthy_set(vectors), config)
    # It did collapse, and the check mended it.
    with_it, without = (real_auc(vectors, one, healthy, faulty) for one in (config, used))
    assert with_it < without - 0.1
    assert used.normalization == "none"
    assert "ldn_ratio was dropped" in note


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("density_k", [1, 8])
def test_variance_minimisation_that_sees_nothing_far_away_is_dropped(seed, density_k):
    rng = np.random.default_rng(seed)
    vectors = with_twins_and_strays(rng)
    config = KnnConfig(normalization="varmin", density_k=density_k)
    used, note = trusted(healthy_set(vectors), config)
    assert used.normalization == "none"
    assert "varmin was dropped: on far displaced healthy sound" in note
    healthy, faulty = (np.float32(rng.normal(size=(100, 24)) * s) for s in (0.2, 0.3))
    healthy[:, 0] += 2
    faulty[:, 0] += 2
    assert real_auc(vectors, config, healthy, faulty) < real_auc(vectors, used, healthy, faulty)


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_variance_minimisation_is_kept_where_it_only_loses_what_is_near(seed):
    """A machine like motors: some conditions are steadier than others, and recordings differ."""
    rng = np.random.default_rng(seed)

    def recordings(count, fault):
        unsteady = rng.random(count) < 0.3
        spread = np.where(unsteady, 2.0, 1.0) * np.exp(0.2 * rng.normal(size=count))
        found = rng.normal(size=(count, 24)) * spread[:, None]
        found[:, 0] += 8.0 * unsteady
        found[:, 1] += fault
        return np.float32(found)

    vectors, healthy, faulty = recordings(60, 0), recordings(200, 0), recordings(200, 6)
    config = KnnConfig(metric="euclidean", normalization="varmin")
    plain = config.model_copy(update={"normalization": "none"})
    own = healthy_set(vectors)
    assert power(own, config) < power(own, plain) - 0.015  # near by it loses,
    gain = real_auc(vectors, config, healthy, faulty) - real_auc(vectors, plain, healthy, faulty)
    assert gain > 0.03  # but not on faults
    assert trusted(own, config) == (config, "")


def test_one_recording_leaves_nothing_to_ask():
    vectors = np.float32(np.random.default_rng(0).normal(size=(5, 4)))
    config = KnnConfig()
    assert trusted(healthy_set(vectors, "aaaaa"), config) == (config, "")
