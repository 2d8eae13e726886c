"""The scorer against plain loops, and scikit-learn where it has the method."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from agent.bundle.manifest import Row
from agent.config.scorer_knn import KnnConfig
from agent.score import bank as bank_module
from agent.score import knn as knn_module
from agent.score.bank import MemoryBank, distances, prepare
from agent.score.index import choose_index, write_index
from agent.score.knn import KnnScorer
from agent.score.left_out import leave_one_out, leave_one_out_each
from agent.score.normalize import (
    density,
    fit_constants,
    group_ids,
    nearest_groups,
    nearest_k,
    row_constants,
    varmin_slope,
)


def bank_of(vectors, constants=None):
    if constants is None:
        constants = np.tile(np.float32([1, 0]), (len(vectors), 1))
    rows = tuple(Row(source=f"{i}.wav", start=0, group=str(i)) for i in range(len(vectors)))
    return MemoryBank(vectors, constants, rows)


def cosine(x, y):
    return (1 - x @ y / np.linalg.norm(x) / np.linalg.norm(y)) / 2


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("k", [1, 3])
def test_plain_knn_equals_scikit_learn(metric, k):
    rng = np.random.default_rng(0)
    bank, queries = rng.normal(size=(50, 8)), rng.normal(size=(20, 8))
    scorer = KnnScorer(
        bank_of(np.float32(bank)), KnnConfig(metric=metric, k=k, normalization="none")
    )
    scores, rows = scorer.score(np.float32(queries))
    far, near = NearestNeighbors(n_neighbors=k, metric=metric).fit(bank).kneighbors(queries)
    expected = far.mean(axis=1) / (2 if metric == "cosine" else 1)
    assert scores == pytest.approx(expected, abs=1e-5)
    assert (rows == near[:, 0]).all()


def test_the_minimum_is_taken_after_normalising():
    bank = np.float32([[1, 0], [0, 1]])
    constants = np.float32([[1, 0], [1, 0.45]])  # row 1 forgives a distance of 0.45
    scorer = KnnScorer(bank_of(bank, constants), KnnConfig())
    query = np.float32([[1, 0.1]])
    scores, rows = scorer.score(query)
    assert rows[0] == 1
    assert scores[0] == pytest.approx(cosine(query[0], bank[1]) - 0.45, abs=1e-6)


def test_a_zero_embedding_is_far_from_everything_and_not_nan():
    scorer = KnnScorer(bank_of(np.float32([[1, 0], [0, 0]])), KnnConfig(normalization="none"))
    scores, _ = scorer.score(np.zeros((1, 2), np.float32))
    assert scores[0] == pytest.approx(0.5)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_a_large_bank_through_its_index_gives_the_exact_scores(tmp_path, monkeypatch, metric):
    monkeypatch.setattr(knn_module, "EXACT_UP_TO", 100)
    rng = np.random.default_rng(1)
    vectors = np.float32(rng.normal(size=(2000, 16)))
    config = KnnConfig(metric=metric, normalization="ldn_ratio")
    constants = fit_constants(vectors, [str(i) for i in range(2000)], config)
    index = choose_index(vectors, metric, 0.99, [str(i) for i in range(2000)])
    write_index(tmp_path / "i.npy", vectors, metric, index)
    queries = np.float32(rng.normal(size=(50, 16)))
    bank = bank_of(vectors, constants)
    through_index = KnnScorer(bank, config, tmp_path / "i.npy", index=index).score(queries)
    exact = KnnScorer(bank, config).score(queries)
    assert (through_index[1] == exact[1]).mean() >= 0.98
    assert np.median(np.abs(through_index[0] - exact[0])) < 1e-6


def test_neighbours_are_other_recordings_each_counted_once():
    vectors = np.float32([[1, 0], [1, 0.01], [0, 1], [0.1, 1]])
    found = nearest_groups(vectors, group_ids(["a", "a", "b", "b"]), "euclidean", 3)
    assert found.distances.shape == (4, 1)  # only one other recording exists
    assert found.partner.tolist() == [3, 3, 1, 1]
    assert found.distances[0, 0] == pytest.approx(np.hypot(0.9, 1))


def test_constants_do_not_depend_on_how_often_a_recording_is_cut():
    rng = np.random.default_rng(2)
    vectors = np.float32(rng.normal(size=(30, 5)))
    groups = [str(i) for i in range(30)]
    config = KnnConfig(normalization="ldn_ratio", density_k=4)
    once = fit_constants(vectors, groups, config)
    thrice = fit_constants(vectors.repeat(3, axis=0), np.repeat(groups, 3).tolist(), config)
    assert thrice[::3] == pytest.approx(once, rel=1e-5)


def reference_leave_one_out(vectors, groups, config):
    """Literally remove the recording and rebuild everything but the varmin slope."""
    scores = []
    for i, group in enumerate(groups):
        keep = [j for j, g in enumerate(groups) if g != group]
        rest, rest_groups = vectors[keep], [groups[j] for j in keep]
        constants = fit_constants(rest, rest_groups, config)
        score, _ = KnnScorer(bank_of(rest, constants), config).score(vectors[i : i + 1])
        scores.append(score[0])
    return np.array(scores)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    normalization=st.sampled_from(["none", "ldn_ratio", "ldn_difference"]),
    metric=st.sampled_from(["cosine", "euclidean"]),
    k=st.integers(1, 3),
)
def test_leave_one_out_equals_removing_the_recording(seed, normalization, metric, k):
    rng = np.random.default_rng(seed)
    vectors = np.float32(rng.normal(size=(24, 5)) + rng.normal(size=5))
    groups = [f"g{g}" for g in rng.integers(0, 9, size=24)]
    config = KnnConfig(normalization=normalization, metric=metric, k=k, density_k=3)
    fast = leave_one_out(vectors, groups, config)
    assert fast == pytest.approx(
        reference_leave_one_out(vectors, groups, config), rel=1e-3, abs=1e-5
    )


def searched_anew(vectors, groups, config, queries):
    """Every recording searched by itself, its neighbours' densities found without it."""
    ready, asked = prepare(vectors, config.metric), prepare(queries, config.metric)
    ids, most = group_ids(groups), config.density_k
    found = nearest_groups(ready, ids, config.metric, most + 1)
    slope = varmin_slope(found.distances[:, 0], found.partner, density(found.distances, most))
    scores = np.full(len(vectors), np.nan, np.float32)
    for group in np.unique(ids):
        without = np.where(found.groups == group, np.inf, found.distances)
        b = density(found.distances, most)
        touched = (found.groups == group).any(axis=1)
        if touched.any():
            b[touched] = density(np.sort(without[touched], axis=1), most)
        rest = ids != group
        table = distances(asked[~rest], ready[rest], config.metric)
        constants = row_constants(b, config, slope)[rest]
        table = table * constants[:, 0] - constants[:, 1]
        scores[~rest] = nearest_k(table, min(config.k, rest.sum()), config)
    return scores


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    normalization=st.sampled_from(["none", "varmin", "ldn_ratio"]),
    metric=st.sampled_from(["cosine", "euclidean"]),
    k=st.integers(1, 30),
)
def test_one_matrix_gives_what_a_search_for_each_recording_gives(seed, normalization, metric, k):
    rng = np.random.default_rng(seed)
    vectors = np.float32(rng.normal(size=(30, 5)) + rng.normal(size=5))
    groups = [f"g{g}" for g in rng.integers(0, rng.integers(2, 14), size=30)]
    if len(set(groups)) < 2:
        return
    config = KnnConfig(normalization=normalization, metric=metric, k=k, density_k=3)
    others = np.float32(vectors + rng.normal(size=vectors.shape))

    own, moved = leave_one_out_each(vectors, groups, config, [vectors, others])

    assert own == pytest.approx(searched_anew(vectors, groups, config, vectors), abs=1e-5)
    assert moved == pytest.approx(searched_anew(vectors, groups, config, others), abs=1e-5)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_many_windows_at_once_are_judged_in_pieces_and_alike(metric, monkeypatch):
    rng = np.random.default_rng(0)
    vectors = np.float32(rng.normal(size=(3000, 8)))
    config = KnnConfig(normalization="none", metric=metric, k=2)
    scorer = KnnScorer(bank_of(vectors), config)
    scorer.start()
    queries = np.float32(rng.normal(size=(3000, 8)))
    whole, rows = scorer.score(queries)
    groups = ["long"] * 2000 + ["other"] * 1000
    left = leave_one_out(vectors, groups, config)
    monkeypatch.setattr(bank_module, "_AT_ONCE", 300_000)
    tracemalloc.start()
    try:
        pieces, found = scorer.score(queries)
        again = leave_one_out(vectors, groups, config)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert pieces == pytest.approx(whole, abs=1e-5)
    assert (found == rows).all()
    assert again == pytest.approx(left, abs=1e-5)
    assert most < 20e6  # one table of all distances takes 36 MB and more


def two_conditions(rng, n_source=60, n_target=8):
    """A crowded condition and a sparse one, with healthy and faulty test sound of both."""
    source = rng.normal(size=(n_source, 6)) * 0.05 + np.eye(6)[0]
    target = rng.normal(size=(n_target, 6)) * 0.25 + np.eye(6)[1]
    return np.float32(np.concatenate([source, target]))


@pytest.mark.parametrize("normalization", ["ldn_ratio", "varmin"])
def test_normalising_brings_the_sparse_condition_level_with_the_crowded_one(normalization):
    vectors = two_conditions(np.random.default_rng(3))
    groups = [str(i) for i in range(len(vectors))]
    gaps = {}
    for kind in ("none", normalization):
        scores = leave_one_out(vectors, groups, KnnConfig(normalization=kind, density_k=4))
        # How often a sparse healthy window outscores a crowded one: 0.5 is fair.
        gaps[kind] = np.mean(scores[60:, None] > scores[None, :60])
    assert gaps["none"] > 0.95
    assert abs(gaps[normalization] - 0.5) < abs(gaps["none"] - 0.5) - 0.1


def test_varmin_never_raises_the_variance_of_healthy_distances():
    vectors = two_conditions(np.random.default_rng(4))
    groups = [str(i) for i in range(len(vectors))]
    config = KnnConfig(normalization="varmin")
    found = nearest_groups(prepare(vectors, "cosine"), group_ids(groups), "cosine", 4)
    constants = fit_constants(vectors, groups, config)
    raw = found.distances[:, 0]
    assert np.var(raw - constants[found.partner, 1]) < np.var(raw)


def test_duplicate_recordings_do_not_make_a_row_infinitely_dense():
    rng = np.random.default_rng(5)
    vectors = np.float32(rng.normal(size=(20, 4)))
    vectors = np.concatenate([vectors, vectors[:1].repeat(5, axis=0)])
    groups = [str(i) for i in range(len(vectors))]
    constants = fit_constants(vectors, groups, KnnConfig(normalization="ldn_ratio"))
    assert np.isfinite(constants).all()
    assert constants[:, 0].max() <= 101 / np.median(1 / constants[:, 0])


def test_density_without_neighbours_takes_the_median():
    found = np.float32([[1, 3], [np.inf, np.inf], [3, 5]])
    assert density(found, 2).tolist() == [2, 3, 4]


def test_one_recording_alone_cannot_be_left_out():
    vectors = np.float32(np.random.default_rng(0).normal(size=(4, 3)))
    assert np.isnan(leave_one_out(vectors, ["a"] * 4, KnnConfig())).all()
    assert np.isfinite(fit_constants(vectors, ["a"] * 4, KnnConfig())).all()


def test_euclidean_distances_survive_a_far_origin():
    """Loudness in dB is one number far from zero: cancellation would round small distances away."""
    values = np.float32([[-40.0], [-40.001], [-40.01]])
    found = KnnScorer(bank_of(values[:1]), KnnConfig(metric="euclidean")).score(values)[0]
    assert found == pytest.approx([0, 0.001, 0.01], abs=2e-5)


def test_the_raw_vectors_of_an_indexed_bank_stay_in_their_file(tmp_path, monkeypatch):
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(400, 16)).astype(np.float32)
    np.save(tmp_path / "bank.npy", vectors)
    index = choose_index(vectors, "cosine", 0.99, [str(i // 4) for i in range(400)])
    write_index(tmp_path / "i.npy", vectors, "cosine", index)
    mapped = np.load(tmp_path / "bank.npy", mmap_mode="r")
    config = KnnConfig(normalization="none")
    exact = KnnScorer(bank_of(vectors), config).score(vectors[:20] + 0.1)
    monkeypatch.setattr(knn_module, "EXACT_UP_TO", 100)
    prepared = []

    def count(rows, *others):
        prepared.append(len(rows))
        return prepare(rows, *others)

    monkeypatch.setattr(knn_module, "prepare", count)
    scorer = KnnScorer(bank_of(mapped), config, tmp_path / "i.npy", index=index)
    scorer.start()
    found = scorer.score(vectors[:20] + 0.1)
    np.testing.assert_array_equal(found[1], exact[1])
    np.testing.assert_allclose(found[0], exact[0], atol=1e-6)
    assert max(prepared) < len(vectors), "the whole bank was copied into memory"
