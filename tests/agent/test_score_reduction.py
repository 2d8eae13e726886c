"""Large banks of long embeddings: an index of reduced rows, compared exactly from their file."""

import gc
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import agent.score.index as index_module
import agent.score.knn as knn_module
from agent.bundle.manifest import Row
from agent.config.scorer_knn import KnnConfig
from agent.core.errors import BundleError
from agent.score import neighbours
from agent.score.bank import MemoryBank, distances, distances_to_raw, prepare
from agent.score.build import build_scorer, fit_state, read_indexes, read_state, write_scorer
from agent.score.index import IndexPlan, choose_plan, write_index
from agent.score.index_check import check_index
from agent.score.knn import KnnScorer
from agent.score.mapped import hand_back, map_array, read_rows
from agent.score.recall import ask_between
from agent.score.reduction import Reduction, fit_reduction
from agent.score.scorer import HealthySet, StateError

DIM = 256
METRICS = ["cosine", "euclidean"]


def sounds(count, seed=0):
    """Points of a dozen conditions with a few directions each, as embeddings are."""
    shape, random = np.random.default_rng(99), np.random.default_rng(seed)
    centres, patches = shape.normal(size=(12, DIM)), shape.normal(size=(12, 10, DIM))
    which = random.integers(0, 12, count)
    place = 0.3 * random.normal(size=(count, 10))
    found = centres[which] + np.einsum("nk,nkd->nd", place, patches[which])
    return np.float32(3 * found + 0.1 * random.normal(size=found.shape))


def healthy(vectors):
    return HealthySet(
        vectors,
        [Row(source=f"{i // 20}.flac", start=float(i % 20), group=f"{i // 20}")
         for i in range(len(vectors))],
    )  # fmt: skip


@pytest.fixture
def large(monkeypatch):
    for module in (knn_module, neighbours):
        monkeypatch.setattr(module, "EXACT_UP_TO", 500)


def indexed(folder, vectors, config, state=None):
    """A scorer as it is read from a bundle, its vectors in a file."""
    data = healthy(vectors)
    state = state or fit_state(data, config)
    told = write_scorer(folder, config, data, state)
    np.save(folder / "bank.npy", vectors)
    mapped = HealthySet(np.load(folder / "bank.npy", mmap_mode="r"), data.rows)
    names = [file.name for file in folder.iterdir()]
    scorer = build_scorer(config, mapped, read_state(folder, names), read_indexes(folder, names))
    scorer.start()
    return scorer, told


@pytest.mark.parametrize("metric", METRICS)
def test_reduced_distances_never_exceed_those_of_the_vectors(metric):
    bank, asked = prepare(sounds(600), metric), prepare(sounds(40, 1), metric)
    reduction = fit_reduction(bank, 20)
    apart = np.linalg.norm(bank[None] - asked[:, None], axis=2)
    reduced = np.linalg.norm(reduction.apply(bank)[None] - reduction.apply(asked)[:, None], axis=2)
    assert reduction.columns == 20
    assert (reduced <= apart * (1 + 1e-5) + 1e-5).all()
    assert np.median(reduced / apart) > 0.5, "a bound of nothing would be true as well"


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("k", "reduce"), [(1, "mean"), (4, "mean"), (20, "kth")])
@pytest.mark.parametrize("normalization", ["none", "varmin"])
def test_a_reduced_index_gives_the_exact_scores(
    tmp_path, large, metric, k, reduce, normalization
):  # fmt: skip
    config = KnnConfig(metric=metric, k=k, reduce=reduce, normalization=normalization)
    vectors, asked = sounds(1500), sounds(60, 1)
    scorer, told = indexed(tmp_path, vectors, config)
    assert scorer.indexed
    assert scorer.reduction is not None
    info = told["bank.hnsw"]
    assert (info.rows, info.columns, info.used) == (1500, 64, True)
    assert info.recall >= 0.99
    exact = KnnScorer(scorer.bank, config)
    found, wanted = scorer.score(asked), exact.score(asked)
    assert (found[1] == wanted[1]).mean() >= 0.98
    same = np.isclose(found[0], wanted[0], rtol=1e-5, atol=1e-6)
    assert same.mean() >= 0.98
    assert (found[0] >= wanted[0] - 1e-5).all(), "a row can be missed, never misjudged"


@pytest.mark.parametrize("metric", METRICS)
def test_what_is_left_unread_could_not_have_won(tmp_path, large, monkeypatch, metric):
    config = KnnConfig(metric=metric, k=2, normalization="ldn_ratio")
    scorer, _ = indexed(tmp_path, sounds(1500), config)
    asked = sounds(80, 2)
    read = []
    compare = KnnScorer._compare
    monkeypatch.setattr(
        KnnScorer, "_compare", lambda self, q, rows: read.append(len(rows)) or compare(self, q, rows)
    )  # fmt: skip
    some = scorer.score(asked)
    few = sum(read)
    read.clear()
    monkeypatch.setattr(knn_module, "_FIRST", 10_000)
    everything = scorer.score(asked)
    assert sum(read) == 80 * 128
    assert few < sum(read) / 2
    np.testing.assert_array_equal(some[1], everything[1])
    np.testing.assert_allclose(some[0], everything[0], rtol=1e-6)


@pytest.mark.parametrize("normalization", ["none", "ldn_ratio"])
@pytest.mark.parametrize("metric", METRICS)
def test_no_more_candidates_are_compared_than_the_plan_says(
    tmp_path, large, monkeypatch, metric, normalization
):
    """Sound unlike any row: bounds exclude nothing, and their order still finds the nearest."""
    config = KnnConfig(metric=metric, normalization=normalization)
    scorer, told = indexed(tmp_path, sounds(1500), config)
    assert scorer.plan.compared == told["bank.hnsw"].compared == 32
    random = np.random.default_rng(1)
    asked = np.float32(sounds(60, 9) + 2 * random.normal(size=(60, DIM)))
    read = []
    compare = KnnScorer._compare
    monkeypatch.setattr(
        KnnScorer, "_compare", lambda self, q, rows: read.append(len(rows)) or compare(self, q, rows)
    )  # fmt: skip
    found = scorer.score(asked)
    assert sum(read) > 60 * 16, "bounds alone do not settle it"
    assert max(read) <= 16
    assert len(read) <= 2 * 60
    wanted = KnnScorer(scorer.bank, config).score(asked)
    assert (found[1] == wanted[1]).mean() >= 0.95
    assert (found[0] >= wanted[0] - 1e-5 * np.abs(wanted[0])).all()


def test_a_plan_of_before_has_every_candidate_compared():
    plan = neighbours.read_plan({"index": np.float32([16, 40, 128, 0.99, 1])}, DIM)[0]
    assert plan == IndexPlan(16, 40, 128, float(np.float32(0.99)), True, 128)
    with pytest.raises(StateError, match=r"index.*6 numbers, but is 7"):
        neighbours.read_plan({"index": np.ones(7, np.float32)}, DIM)


def test_plain_distances_come_through_the_index_too(tmp_path, large):
    scorer, _ = indexed(tmp_path, sounds(1500), KnnConfig())
    asked = sounds(30, 3)
    wanted = distances(prepare(asked, "cosine"), prepare(scorer.bank.vectors, "cosine"), "cosine")
    np.testing.assert_allclose(scorer.nearest(asked), wanted.min(axis=1), atol=1e-6)
    exact = KnnScorer(scorer.bank, scorer.config)
    np.testing.assert_allclose(exact.nearest(asked), wanted.min(axis=1), atol=1e-6)


def test_an_index_grows_by_its_parents_directions_while_it_is_searched(tmp_path, large):
    """A bundle's growth: the old version is asked all the time, and stays what it was."""
    config = KnnConfig(normalization="none")
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir(), new.mkdir()
    first, added, asked = sounds(1500), sounds(200, 4) * 1.5, sounds(20, 5)
    scorer, _ = indexed(old, first, config)
    before = scorer.score(asked)
    stop, seen = threading.Event(), []

    def search():
        while not stop.is_set():
            seen.append(scorer.score(asked))

    searching = threading.Thread(target=search)
    searching.start()
    try:
        vectors = np.concatenate([first, added])
        data = healthy(vectors)
        told = write_scorer(new, config, data, fit_state(data, config), parent=old)
    finally:
        stop.set()
        searching.join()
    assert seen
    for scores, rows in seen:
        np.testing.assert_array_equal(scores, before[0])
        np.testing.assert_array_equal(rows, before[1])
    names = ["scorer.index_basis.npy"]
    np.testing.assert_array_equal(
        read_state(new, names)["index_basis"], read_state(old, names)["index_basis"]
    )
    assert told["bank.hnsw"].rows == 1700
    names = [file.name for file in new.iterdir()]
    grown = build_scorer(config, data, read_state(new, names), read_indexes(new, names))
    found = grown.score(added)
    assert grown.indexed
    assert (found[1] >= 1500).mean() >= 0.99, "what was added is found"
    np.testing.assert_allclose(found[0], 0, atol=1e-6)


def test_an_index_whose_parent_has_none_of_this_is_grown_as_it_was(tmp_path, large, monkeypatch):
    """A bundle of before: its index holds the vectors themselves, and so does that of its heir."""
    config = KnnConfig(normalization="none")
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir(), new.mkdir()
    first = sounds(1500)
    monkeypatch.setattr(index_module, "REDUCED_FROM_DIM", 10_000)
    scorer, told = indexed(old, first, config)
    assert scorer.reduction is None
    assert told["bank.hnsw"].columns == DIM
    monkeypatch.undo()
    monkeypatch.setattr(knn_module, "EXACT_UP_TO", 500)
    monkeypatch.setattr(neighbours, "EXACT_UP_TO", 500)
    data = healthy(np.concatenate([first, sounds(100, 6)]))
    state = fit_state(data, config)
    assert "index_basis" in state
    write_scorer(new, config, data, state, parent=old)
    assert not (new / "scorer.index_basis.npy").exists()
    assert check_index(new / "bank.hnsw", data.vectors, "cosine") == 1600


def test_a_bank_that_no_reduction_fits_is_indexed_whole(large, monkeypatch):
    """Noise in every direction: what is reduced tells nothing of what is near."""
    noise = np.random.default_rng(0).normal(size=(1500, DIM)).astype(np.float32)
    monkeypatch.setattr(index_module, "PLANS", (IndexPlan(48, 600, 512),))
    monkeypatch.setattr(index_module, "fit_reduction", lambda ready, _: fit_reduction(ready, 3))
    plan, reduction = choose_plan(noise, "euclidean", 0.99)
    assert reduction is None
    assert plan.usable


def test_a_reduction_is_chosen_by_all_rows_and_not_by_some(monkeypatch):
    """Among more rows more seem near by few numbers: what does for a tenth may not for all."""
    monkeypatch.setattr(index_module, "_CHOSEN_ON", 300)
    seen = []
    ceiling = index_module._ceiling
    monkeypatch.setattr(
        index_module, "_ceiling",
        lambda question, reduction: seen.append((len(question.vectors), reduction.columns))
        or (0.9 if reduction.columns < 128 else ceiling(question, reduction)),
    )  # fmt: skip
    plan, reduction = choose_plan(sounds(1500), "cosine", 0.99)
    assert seen == [(1500, 64), (1500, 96), (1500, 128)]
    assert reduction.columns == 128
    assert plan.usable


@pytest.mark.parametrize("metric", METRICS)
def test_no_index_does_better_than_every_reduced_row(metric):
    vectors = sounds(1200)
    question = ask_between(vectors, metric)
    ready, places = prepare(vectors, metric), {}
    for columns in (3, 64):
        reduction = fit_reduction(ready, columns)
        places[columns] = question.places_without_index(reduction.apply)
        reduced, asked = reduction.apply(ready), reduction.apply(question.asked)
        apart = np.linalg.norm(reduced[None].astype(float) - asked[:, None], axis=2)
        wanted = (apart < apart[np.arange(len(asked)), question.rows][:, None] * (1 - 1e-4)).sum(1)
        np.testing.assert_allclose(places[columns], wanted, atol=2)
    assert (places[64] == 0).mean() > 0.8
    assert places[3].mean() > places[64].mean() + 3


def test_what_few_numbers_lose_is_not_searched_for_by_a_more_thorough_index(tmp_path, monkeypatch):
    """Each of them would take longer to build than the one before, and none could reach it."""
    noise = np.random.default_rng(0).normal(size=(3000, DIM)).astype(np.float32)
    built = []
    build = index_module.build_index
    monkeypatch.setattr(
        index_module, "build_index", lambda *given: built.append(given[2]) or build(*given)
    )
    reduction = fit_reduction(noise, 3)
    made = write_index(
        tmp_path / "i", noise, "euclidean", IndexPlan(16, 40, 128), reduction=reduction, recall=0.99
    )
    assert not made.usable
    assert made.recall < 0.99
    assert len(built) == 1


def test_an_index_that_falls_short_of_the_whole_bank_is_asked_for_more(tmp_path):
    random = np.random.default_rng(0)
    vectors = np.float32(random.normal(size=(4000, 48)))
    poor = IndexPlan(4, 10, 128, recall=1.0)
    made = write_index(tmp_path / "i", vectors, "euclidean", poor, recall=0.9)
    assert made.usable
    assert made.recall >= 0.9
    assert (made.links, made.weighed, made.ef) > (poor.links, poor.weighed, poor.ef)


@pytest.mark.parametrize("metric", METRICS)
def test_a_reduced_index_is_held_to_its_bank(tmp_path, metric):
    vectors = 300 * sounds(700)
    reduction = fit_reduction(prepare(vectors, metric))
    write_index(tmp_path / "i", vectors[:600], metric, reduction=reduction)
    assert check_index(tmp_path / "i", vectors, metric, reduction) == 600
    with pytest.raises(BundleError, match="row 0 holds another vector than the bank"):
        check_index(tmp_path / "i", vectors[::-1], metric, reduction)
    with pytest.raises(BundleError, match="256 columns"):
        check_index(tmp_path / "i", vectors, metric)
    turned = Reduction(reduction.centre, reduction.directions[:, ::-1].copy())
    with pytest.raises(BundleError, match="row 0 holds another vector than the bank"):
        check_index(tmp_path / "i", vectors, metric, turned)


@pytest.mark.parametrize(
    "spoil", [lambda a: 2 * a, lambda a: a[:, :0], lambda a: a[1:], lambda a: a * np.nan]
)
def test_directions_that_are_none_are_refused_by_name(spoil):
    array = fit_reduction(sounds(600)).array()
    state = {"index": IndexPlan(recall=1.0).array(), "index_basis": spoil(array)}
    with pytest.raises(StateError, match="index_basis"):
        neighbours.read_plan(state, DIM)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells which pages are held")
def test_pages_of_a_mapped_bank_are_handed_back(tmp_path):
    np.save(tmp_path / "bank.npy", sounds(2000))
    mapped = np.load(tmp_path / "bank.npy", mmap_mode="r")
    for vectors in (mapped, mapped[:, 10:20]):
        wanted = vectors.sum()
        assert held(tmp_path / "bank.npy") > mapped.nbytes / 2
        hand_back(vectors)
        assert held(tmp_path / "bank.npy") == 0
        assert vectors.sum() == wanted
    hand_back(np.zeros((2, 2), np.float32))


@pytest.mark.parametrize("metric", METRICS)
def test_rows_are_read_from_the_open_file(tmp_path, large, metric):
    """Another file that takes the bank's name, as at an update, changes nothing."""
    config = KnnConfig(metric=metric, normalization="varmin")
    vectors = sounds(1500)
    scorer, _ = indexed(tmp_path, vectors, config)
    mapped = map_array(tmp_path / "bank.npy")
    (tmp_path / "other.npy").write_bytes((tmp_path / "bank.npy").read_bytes()[::-1])
    (tmp_path / "other.npy").replace(tmp_path / "bank.npy")
    rows = np.array([1499, 0, 7])
    read, through = read_rows(mapped, rows)
    assert through != Path("/proc/self/fd").is_dir()
    np.testing.assert_array_equal(read, vectors[rows])
    np.testing.assert_array_equal(read_rows(mapped[:, 3:9], rows)[0], vectors[rows, 3:9])
    np.testing.assert_array_equal(read_rows(mapped[100:], rows - 100 * (rows > 99))[0][0],
                                  vectors[1499])  # fmt: skip
    again = KnnScorer(
        MemoryBank(mapped, scorer.bank.constants, scorer.bank.rows), config,
        tmp_path / "bank.hnsw", plan=scorer.plan, reduction=scorer.reduction,
    )  # fmt: skip
    asked = sounds(20, 3)
    np.testing.assert_allclose(again.score(asked)[0], scorer.score(asked)[0], rtol=1e-6)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells which files are open")
def test_the_file_is_closed_with_the_mapping(tmp_path):
    np.save(tmp_path / "bank.npy", sounds(10))
    before = len(list(Path("/proc/self/fd").iterdir()))
    mapped = map_array(tmp_path / "bank.npy")
    rows = mapped[2:]
    del mapped
    assert read_rows(rows, np.array([0]))[0].shape == (1, DIM)
    del rows
    gc.collect()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.skipif(sys.platform != "linux", reason="rows are read through the mapping elsewhere")
def test_a_file_that_was_cut_off_is_told(tmp_path):
    np.save(tmp_path / "bank.npy", sounds(3000))
    mapped = map_array(tmp_path / "bank.npy")
    with (tmp_path / "bank.npy").open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(BundleError, match="shorter than it was"):
        read_rows(mapped, np.array([2999]))


@pytest.mark.parametrize("metric", METRICS)
def test_rows_need_not_be_prepared_to_be_compared(metric):
    rows = 40 * sounds(50)
    rows[7] = 0
    asked = prepare(sounds(5, 2), metric)
    wanted = distances(asked, prepare(rows, metric), metric)
    np.testing.assert_allclose(distances_to_raw(asked, rows, metric), wanted, atol=2e-7, rtol=1e-6)


def test_a_scorer_hands_back_what_it_has_read(tmp_path, large, monkeypatch):
    monkeypatch.setattr(knn_module, "_HELD_ROWS", 64)
    given = []
    monkeypatch.setattr(knn_module, "hand_back", given.append)
    scorer, _ = indexed(tmp_path, sounds(1500), KnnConfig(normalization="none"))
    assert len(given) == 1, "what was read to hold the index to the bank"
    scorer.score(sounds(100, 7))
    assert len(given) > 100 * 16 / 128
    assert all(vectors is scorer.bank.vectors for vectors in given)


def held(path):
    """Bytes of a mapped file in this process's memory."""
    found, here = 0, False
    with Path("/proc/self/smaps").open() as lines:
        for line in lines:
            if line[:1] in "0123456789abcdef" and "-" in line.split()[0]:
                here = line.rstrip().endswith(str(path))
            elif here and line.startswith("Rss:"):
                found += 1024 * int(line.split()[1])
    return found


def test_a_bank_in_memory_is_searched_as_well(tmp_path, large):
    config = KnnConfig(normalization="none")
    vectors = sounds(1500)
    scorer, _ = indexed(tmp_path, vectors, config)
    plain = np.tile(np.float32([1, 0]), (1500, 1))
    bank = MemoryBank(vectors, plain, healthy(vectors).rows)
    inside = KnnScorer(
        bank, config, tmp_path / "bank.hnsw", plan=scorer.plan, reduction=scorer.reduction
    )
    asked = sounds(20, 8)
    np.testing.assert_array_equal(inside.score(asked)[0], scorer.score(asked)[0])
