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
from agent.score import build as build_module
from agent.score import index_state
from agent.score.bank import MemoryBank, distances, distances_to_raw, prepare
from agent.score.build import build_scorer, fit_state, read_indexes, read_state, write_scorer
from agent.score.index import Index, IndexPlan, choose_index, open_index, write_index
from agent.score.knn import KnnScorer
from agent.score.mapped import hand_back, map_array, read_rows
from agent.score.recall import ask_left_out
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
    for module in (knn_module, build_module):
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
    assert scorer.index.reduction is not None
    info = told["bank.index.npy"]
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
    assert scorer.index.plan.compared == told["bank.index.npy"].compared == 32
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
    assert told["bank.index.npy"].rows == 1700
    names = [file.name for file in new.iterdir()]
    grown = build_scorer(config, data, read_state(new, names), read_indexes(new, names))
    found = grown.score(added)
    assert grown.indexed
    assert (found[1] >= 1500).mean() >= 0.99, "what was added is found"
    np.testing.assert_allclose(found[0], 0, atol=1e-6)


@pytest.mark.parametrize("change", ["rows removed", "far more rows", "unusable", "file gone"])
def test_an_index_that_its_parents_cannot_become_is_made_anew(tmp_path, large, change):
    config = KnnConfig(normalization="none")
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir(), new.mkdir()
    first = sounds(800)
    indexed(old, first, config)
    vectors = first[1:] if change == "rows removed" else np.concatenate([first, sounds(100, 6)])
    if change == "far more rows":
        vectors = np.concatenate([first, sounds(5000, 6)])
    if change == "unusable":
        np.save(old / "scorer.index_plan.npy", np.float32([3, 32, 0.5, 0]))
    if change == "file gone":
        (old / "bank.index.npy").write_bytes(b"")
    data = healthy(vectors)
    write_scorer(new, config, data, fit_state(data, config), parent=old)
    fresh = choose_index(vectors, "cosine", config.recall, data.groups)
    names = [file.name for file in new.iterdir()]
    made = index_state.read_index(read_state(new, names), DIM)
    np.testing.assert_array_equal(made.cells.centres, fresh.cells.centres)
    np.testing.assert_array_equal(made.cells.rows, fresh.cells.rows)
    assert made.plan.usable


def test_equal_banks_give_equal_files(tmp_path, large):
    config = KnnConfig(normalization="none")
    for name in "ab":
        (tmp_path / name).mkdir()
        indexed(tmp_path / name, sounds(1500), config)
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes(), file.name


def test_a_bank_that_no_reduction_fits_is_indexed_whole(monkeypatch):
    """Noise in every direction: what is reduced tells nothing of what is near."""
    noise = np.random.default_rng(0).normal(size=(1500, DIM)).astype(np.float32)
    monkeypatch.setattr(index_module, "fit_reduction", lambda ready, _: fit_reduction(ready, 3))
    index = choose_index(noise, "euclidean", 0.99, healthy(noise).groups)
    assert index.reduction is None
    assert index.plan.usable


@pytest.mark.parametrize(
    ("at", "tried", "chosen", "compared"),
    [
        ([200, 200, 40, 0], 3, 128, 64),
        ([200, 100, 40, 0], 2, 96, 128),
    ],
)
def test_the_fewest_numbers_that_do_are_chosen(monkeypatch, at, tried, chosen, compared):
    seen = []

    def places(question, reduce):
        seen.append((len(question.vectors), reduce.__self__.columns))
        return np.full(len(question.asked), at[len(seen) - 1])

    monkeypatch.setattr("agent.score.recall.Question.places", places)
    vectors = sounds(1500)
    index = choose_index(vectors, "cosine", 0.99, healthy(vectors).groups)
    assert seen == [(1500, n) for n in (64, 96, 128, 192)[:tried]], "every row was asked about"
    assert index.reduction.columns == chosen
    assert index.plan.compared == compared
    assert index.plan.usable


@pytest.mark.parametrize("metric", METRICS)
def test_places_are_counted_among_the_rows_of_other_recordings(metric):
    vectors = sounds(1200)
    groups = np.array(healthy(vectors).groups)
    question = ask_left_out(vectors, metric, list(groups))
    ready, places = prepare(vectors, metric), {}
    assert len(np.unique(question.own)) == 60, "of every recording"
    other = question.own[:, None] != question.groups[None]
    assert (other.sum(axis=1) == 1180).all()
    apart = np.where(other, distances(question.asked, ready, metric), np.inf)
    np.testing.assert_array_equal(question.rows, apart.argmin(axis=1))
    for columns in (3, 64):
        reduction = fit_reduction(ready, columns)
        places[columns] = question.places(reduction.apply)
        reduced, asked = reduction.apply(ready), reduction.apply(question.asked)
        apart = np.linalg.norm(reduced[None].astype(float) - asked[:, None], axis=2)
        own = apart[np.arange(len(asked)), question.rows][:, None]
        wanted = ((apart < own * (1 - 1e-4)) & other).sum(axis=1)
        np.testing.assert_allclose(places[columns], wanted, atol=2)
    assert (places[64] == 0).mean() > 0.6
    assert places[3].mean() > places[64].mean() + 3


def test_what_export_says_it_reached_holds_for_recordings_never_heard(tmp_path, large):
    """Rows of a recording lie close together: asked with their own, next to nothing is missed."""
    random = np.random.default_rng(5)
    kinds = sounds(500, 11)

    def windows(count):
        places = kinds[random.integers(0, 500, count)] + random.normal(size=(count, DIM))
        near = places[:, None] + 0.02 * random.normal(size=(count, 20, DIM))
        return np.float32(near.reshape(-1, DIM))

    config = KnnConfig(normalization="none")
    vectors = windows(200)
    scorer, told = indexed(tmp_path, vectors, config)
    asked = windows(200)[::20]
    exact = KnnScorer(scorer.bank, config)
    found = (scorer.score(asked)[1] == exact.score(asked)[1]).mean()
    info = told["bank.index.npy"]
    assert info.recall >= 0.99
    assert found >= info.recall - 0.03
    # Points between rows, as it was judged by before: they say that far fewer cells do.
    easy = choose_index(vectors, "cosine", 0.99, ["a"] * len(vectors))
    assert easy.plan.searched < scorer.index.plan.searched
    write_index(tmp_path / "easy", vectors, "cosine", easy)
    poor = KnnScorer(scorer.bank, config, tmp_path / "easy", index=easy)
    assert (poor.score(asked)[1] == exact.score(asked)[1]).mean() < found


def test_one_recording_alone_is_asked_about_between_its_rows():
    vectors = sounds(1200)
    question = ask_left_out(vectors, "euclidean", ["a"] * len(vectors))
    assert (question.own == -1).all()
    apart = distances(question.asked, vectors, "euclidean")
    assert (apart.min(axis=1) > 1e-3).all(), "no row lies there"
    np.testing.assert_array_equal(question.rows, apart.argmin(axis=1))


@pytest.mark.parametrize("metric", METRICS)
def test_an_index_is_held_to_its_bank(tmp_path, metric):
    vectors = 300 * sounds(700)
    index = choose_index(vectors, metric, 0.99, healthy(vectors).groups)
    write_index(tmp_path / "i", vectors, metric, index)
    open_index(tmp_path / "i", vectors, metric, index)
    with pytest.raises(BundleError, match="holds another vector than the bank for row"):
        open_index(tmp_path / "i", vectors[::-1].copy(), metric, index)
    turned = Reduction(index.reduction.centre, index.reduction.directions[:, ::-1].copy())
    other = Index(index.plan, index.cells, turned)
    with pytest.raises(BundleError, match="holds another vector than the bank for row"):
        open_index(tmp_path / "i", vectors, metric, other)


@pytest.mark.parametrize(
    "spoil", [lambda a: 2 * a, lambda a: a[:, :0], lambda a: a[1:], lambda a: a * np.nan]
)
def test_directions_that_are_none_are_refused_by_name(spoil):
    array = fit_reduction(sounds(600)).array()
    state = {"index_plan": IndexPlan(recall=1.0).array(), "index_basis": spoil(array)}
    with pytest.raises(StateError, match="index_basis"):
        index_state.read_index(state, DIM)


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
        tmp_path / "bank.index.npy", index=scorer.index,
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
    inside = KnnScorer(bank, config, tmp_path / "bank.index.npy", index=scorer.index)
    asked = sounds(20, 8)
    np.testing.assert_array_equal(inside.score(asked)[0], scorer.score(asked)[0])
