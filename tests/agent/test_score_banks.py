"""Forms of the memory bank, each against the same done by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from agent.bundle.manifest import Row
from agent.calibrate.check import trusted
from agent.config.scorer_knn import KnnConfig
from agent.core.errors import ConfigError
from agent.score import neighbours as module
from agent.score.bank import MemoryBank, distances, prepare
from agent.score.build import build_scorer, fit_state, healthy_scores, write_scorer
from agent.score.fitter import WorkstationError
from agent.score.index import choose_index, write_index
from agent.score.index_state import index_state, read_index
from agent.score.knn import KnnScorer
from agent.score.prototypes import coreset
from agent.score.scorer import HealthySet
from trainer.fit.densities import ScikitFitter

DIM = 12


def healthy(source: int = 40, target: int = 6, *, windows: int = 2, seed: int = 0) -> HealthySet:
    """Two clouds, the target's smaller and wider."""
    rng = np.random.default_rng(seed)
    vectors, rows = [], []
    for domain, count, centre, width in (
        ("source", source, 1.0, 0.2),
        ("target", target, -1.0, 0.5),
    ):
        mean = centre * np.ones(DIM) + rng.normal(0, 0.2, DIM)
        for recording in range(count):
            at = mean + width * rng.normal(size=DIM)
            for window in range(windows):
                vectors.append(at + 0.05 * rng.normal(size=DIM))
                name = f"{domain}{recording}"
                rows.append(Row(source=name, start=window, group=name, domain=domain))
    return HealthySet(np.float32(vectors), rows)


def judge(config: KnnConfig, data: HealthySet, queries: np.ndarray) -> np.ndarray:
    scorer = build_scorer(config, data, fit_state(data, config, ScikitFitter()))
    scorer.start()
    return scorer.score(np.float32(queries))[0]


def queries(count: int = 20) -> np.ndarray:
    return np.float32(np.random.default_rng(5).normal(0, 1, (count, DIM)))


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize(("reduce", "k"), [("mean", 3), ("kth", 3), ("kth", 1)])
def test_reductions_are_scikit_learns(metric, reduce, k):
    data = healthy()
    config = KnnConfig(metric=metric, normalization="none", k=k, reduce=reduce)
    found = judge(config, data, queries())
    near = NearestNeighbors(n_neighbors=k, metric=metric, algorithm="brute").fit(data.vectors)
    wanted, _ = near.kneighbors(queries())
    wanted = wanted / 2 if metric == "cosine" else wanted
    wanted = wanted.mean(axis=1) if reduce == "mean" else wanted[:, -1]
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def density_by_hand(vectors, groups, k):
    ready = prepare(np.float32(vectors), "cosine")
    table = distances(ready, ready, "cosine")
    names, b = np.array(groups), []
    for i in range(len(ready)):
        near = sorted(table[i][names == g].min() for g in set(groups) if g != groups[i])
        b.append(np.mean(near[:k]))
    return np.array(b)


def test_domain_wise_density_is_that_among_the_own_domain():
    data = healthy()
    config = KnnConfig(normalization="ldn_ratio", banks="domains", density_k=16, density_k_target=9)
    constants = fit_state(data, config)["rows"]
    names = np.array(data.domains)
    for domain, k in (("source", 16), ("target", 9)):
        own = names == domain
        groups = [g for g, o in zip(data.groups, own, strict=True) if o]
        wanted = 1 / density_by_hand(data.vectors[own], groups, min(k, len(set(groups)) - 1))
        np.testing.assert_allclose(constants[own, 0], wanted, rtol=1e-4)


def test_scaled_domains_have_a_median_distance_of_one():
    data = healthy()
    config = KnnConfig(normalization="none", domain_scale="median")
    constants = fit_state(data, config)["rows"]
    ready, names = prepare(data.vectors, "cosine"), np.array(data.domains)
    groups = np.array(data.groups)
    table = distances(ready, ready, "cosine") * constants[None, :, 0] - constants[None, :, 1]
    table[groups[:, None] == groups[None, :]] = np.inf
    for domain in ("source", "target"):
        own = names == domain
        assert np.median(table[np.ix_(own, own)].min(axis=1)) == pytest.approx(1.0, rel=1e-4)
    found = judge(config, data, queries())
    asked = distances(prepare(queries(), "cosine"), ready, "cosine")
    least = [asked[:, names == d] * constants[names == d, 0] for d in ("source", "target")]
    np.testing.assert_allclose(found, np.min([t.min(axis=1) for t in least], axis=0), rtol=1e-4)


def test_a_scale_of_distances_below_zero_is_refused():
    with pytest.raises(ValueError, match="domain_scale"):
        KnnConfig(normalization="varmin", domain_scale="median")


def test_bands_are_banks_of_their_own():
    data = healthy()
    config = KnnConfig(normalization="none", bands=3)
    found = judge(config, data, queries())
    one = KnnConfig(normalization="none")
    pieces = [
        judge(one, data.columns((b * 4, b * 4 + 4)), queries()[:, b * 4 : b * 4 + 4])
        for b in range(3)
    ]
    np.testing.assert_allclose(found, np.mean(pieces, axis=0), rtol=1e-5)
    with pytest.raises(ConfigError, match="5 equal bands"):
        fit_state(data, KnnConfig(bands=5))


def test_a_fault_in_one_band_names_the_row_nearest_there():
    data = healthy()
    config = KnnConfig(normalization="none", bands=3)
    scorer = build_scorer(config, data, fit_state(data, config))
    scorer.start()
    strange = data.vectors[:1].copy()
    strange[0, 4:8] = data.vectors[-1, 4:8] + 0.3
    piece = KnnConfig(normalization="none")
    middle = data.columns((4, 8))
    alone = build_scorer(piece, middle, fit_state(middle, piece))
    alone.start()
    assert scorer.score(strange)[1] == alone.score(strange[:, 4:8])[1]


FORMS = {
    "domains": {"banks": "domains", "normalization": "ldn_ratio"},
    "difference": {"banks": "domains", "normalization": "ldn_difference"},
    "varmin": {"banks": "domains", "normalization": "varmin"},
    "scaled": {"domain_scale": "median", "normalization": "none"},
    "smote": {"oversample": "smote", "normalization": "none"},
    "kmeans": {"prototypes": {"method": "kmeans", "count": 5}, "normalization": "none"},
    "coreset": {"prototypes": {"method": "coreset", "count": 5}, "normalization": "none"},
    "bands": {"bands": 2, "normalization": "ldn_ratio", "density_k": 4},
}


@pytest.mark.parametrize("form", sorted(FORMS))
def test_left_out_means_fitted_without_it(form, monkeypatch):
    """Each recording's scores are those of a scorer that was fitted to all others."""
    monkeypatch.setattr(module, "_FOLDS", 1000)
    data = healthy(10, 4)
    config = KnnConfig.model_validate(FORMS[form])
    (found,) = healthy_scores(data, config, ScikitFitter())
    groups = np.array(data.groups)
    for name in ("source3", "target1"):
        rest = data.among(groups != name)
        wanted = judge(config, rest, data.vectors[groups == name])
        np.testing.assert_allclose(found[groups == name], wanted, rtol=2e-3, atol=2e-5)


def test_smote_fills_the_target_up_and_nothing_it_makes_is_a_recording():
    data = healthy(40, 6)
    config = KnnConfig(normalization="none", oversample="smote")
    state = fit_state(data, config, ScikitFitter())
    real = int(np.sum(np.array(data.domains) == "target"))
    sources = len(data) - real
    assert len(state["vectors"]) == len(data) + (sources - real)
    made = state["vectors"][len(data) :]
    targets = data.vectors[np.array(data.domains) == "target"]
    # Each lies on the line between two target rows.
    for vector in made[::7]:
        apart = min(
            np.linalg.norm(a - vector) + np.linalg.norm(b - vector) - np.linalg.norm(a - b)
            for i, a in enumerate(targets)
            for b in targets[i + 1 :]
        )
        assert apart < 1e-4
    scorer = build_scorer(config, data, state)
    scorer.start()
    _, rows = scorer.score(made)
    assert rows.max() < len(data)
    assert {data.rows[i].domain for i in rows} == {"target"}
    with pytest.raises(WorkstationError, match="smote"):
        fit_state(data, config)


def test_kmeans_keeps_every_target_row():
    data = healthy(40, 6)
    config = KnnConfig.model_validate(FORMS["kmeans"])
    state = fit_state(data, config, ScikitFitter())
    assert len(state["vectors"]) == 5 + 12
    target = data.vectors[np.array(data.domains) == "target"]
    np.testing.assert_allclose(state["vectors"][5:], prepare(target, "cosine"), rtol=1e-6)


def test_a_coreset_leaves_no_row_far_away():
    rng = np.random.default_rng(3)
    points = np.float32(
        np.concatenate([c + 0.05 * rng.normal(size=(50, 2)) for c in ((0, 0), (5, 0), (0, 5))])
    )
    chosen = coreset(points, 3)
    assert sorted(chosen // 50) == [0, 1, 2], "one of each cloud"
    reach = np.linalg.norm(points[:, None] - points[chosen][None], axis=2).min(axis=1).max()
    assert reach < 0.6
    assert len(set(coreset(np.zeros((5, 2), np.float32), 4))) == 4


def test_a_form_that_blinds_is_dropped():
    rng = np.random.default_rng(4)
    vectors = np.float32(rng.normal(0, 0.05, (60, DIM)) + 1)
    # Two lonely target recordings, whose density makes every distance to them next to nothing.
    vectors = np.concatenate([vectors, np.float32(5 * rng.normal(size=(2, DIM)))])
    names = [f"r{i}" for i in range(62)]
    rows = [
        Row(source=n, start=0, group=n, domain="target" if i >= 60 else "source")
        for i, n in enumerate(names)
    ]
    data = HealthySet(vectors, rows)
    config = KnnConfig(normalization="ldn_ratio", banks="domains", density_k=1, density_k_target=1)
    used, note = trusted(data, config)
    assert used == KnnConfig(normalization="none", density_k=1, density_k_target=1)
    assert "banks: domains was dropped" in note


def test_an_index_reaches_the_recall_it_states():
    rng = np.random.default_rng(1)
    low = np.float32(rng.normal(size=(3000, 6)) @ rng.normal(size=(6, 24)))
    groups = [str(i // 10) for i in range(3000)]
    index = choose_index(low, "cosine", 0.99, groups)
    assert index.reduction is None, "24 columns are indexed as they are"
    assert index.plan.usable
    assert index.plan.recall >= 0.99
    read = read_index(index_state(index), 24)
    assert read.plan.array().tolist() == index.plan.array().tolist()
    np.testing.assert_array_equal(read.cells.rows, index.cells.rows)
    everything = choose_index(low, "cosine", 1.0, groups)
    assert everything.plan.recall == 1.0
    assert everything.plan.searched > index.plan.searched


def test_an_index_that_missed_its_recall_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setattr("agent.score.knn.EXACT_UP_TO", 100)
    data = healthy(200, 6)
    bank = MemoryBank(data.vectors, np.tile(np.float32([1, 0]), (len(data), 1)), tuple(data.rows))
    config = KnnConfig(normalization="none")
    index = choose_index(data.vectors, "cosine", 0.99, data.groups)
    write_index(tmp_path / "i", data.vectors, "cosine", index)
    poor = replace(index, plan=replace(index.plan, usable=False))
    scorer = KnnScorer(bank, config, tmp_path / "i", index=poor)
    found = scorer.score(queries())[1]
    assert not scorer.indexed
    np.testing.assert_array_equal(found, KnnScorer(bank, config).score(queries())[1])


def test_a_large_banks_plan_is_kept_with_it(tmp_path, monkeypatch):
    monkeypatch.setattr("agent.score.build.EXACT_UP_TO", 100)
    data = healthy(100, 6)
    config = KnnConfig(normalization="none")
    write_scorer(tmp_path, config, data, fit_state(data, config))
    assert (tmp_path / "scorer.index_plan.npy").is_file()
    assert (tmp_path / "bank.index.npy").is_file()
