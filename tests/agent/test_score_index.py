"""Indexes of large banks: cells, files that no key vouches for, and bundles of before."""

import logging

import numpy as np
import pytest

from agent.bundle.manifest import Row
from agent.config.scorer_knn import KnnConfig
from agent.core.errors import BundleError
from agent.score import build, knn
from agent.score.bank import MemoryBank
from agent.score.build import build_scorer, fit_state, read_indexes, read_state, write_scorer
from agent.score.cells import Cells, CellSearch, add_rows, fit_cells, usual_count
from agent.score.index import choose_index, open_index, write_index
from agent.score.index_state import index_state, read_index
from agent.score.knn import KnnScorer
from agent.score.scorer import HealthySet, StateError

ROWS, DIM = 1500, 12
PLAIN = KnnConfig(metric="euclidean", normalization="none")


def points(count=ROWS, seed=0, dim=DIM):
    random = np.random.default_rng(seed)
    return np.float32(
        random.normal(size=(20, dim))[random.integers(0, 20, count)] * 3
        + random.normal(size=(count, dim))
    )


def healthy(vectors):
    return HealthySet(
        vectors,
        [Row(source=f"{i // 10}", start=float(i % 10), group=f"{i // 10}")
         for i in range(len(vectors))],
    )  # fmt: skip


@pytest.fixture
def large(monkeypatch):
    for module in (knn, build):
        monkeypatch.setattr(module, "EXACT_UP_TO", 100)


def written(folder, vectors, config=PLAIN):
    folder.mkdir(exist_ok=True)
    data = healthy(vectors)
    state = fit_state(data, config)
    told = write_scorer(folder, config, data, state)
    return data, state, told


def opened(folder, data, config=PLAIN):
    names = [file.name for file in folder.iterdir()]
    scorer = build_scorer(config, data, read_state(folder, names), read_indexes(folder, names))
    scorer.start()
    return scorer


@pytest.mark.parametrize("away", [0, 1000])
def test_all_cells_together_hold_what_is_nearest(away):
    """Also far from the origin, where squares of float32 would say nothing."""
    vectors = points() + np.float32(away)
    cells = fit_cells(vectors)
    assert len(cells.centres) == usual_count(ROWS)
    search = CellSearch(cells, [vectors[cells.rows] - cells.centres[cells.cell]])
    for point in points(20, 1) + np.float32(away):
        apart = np.linalg.norm(vectors.astype(float) - point, axis=1)
        for count in (1, 30, 300):
            rows, found = search.near(point, len(cells.centres), count)
            assert set(rows) == set(np.argsort(apart)[:count])
            np.testing.assert_allclose(found, apart[rows], rtol=1e-3, atol=1e-3)


def test_each_row_lies_in_the_cell_that_is_nearest():
    vectors = points()
    cells = fit_cells(vectors, 40)
    apart = np.linalg.norm(vectors[:, None] - cells.centres[None], axis=2)
    own = cells.own()
    assert (apart[np.arange(ROWS), own] <= apart.min(axis=1) + 1e-4).all()
    # What k-means is for: rows lie nearer to their centres than to centres drawn from them.
    drawn = vectors[np.random.default_rng(0).permutation(ROWS)[:40]]
    alone = np.linalg.norm(vectors[:, None] - drawn[None], axis=2).min(axis=1)
    assert (apart.min(axis=1) ** 2).mean() < 0.8 * (alone**2).mean()


def test_rows_that_are_added_leave_the_others_where_they_are():
    first, added = points(), points(200, 3)
    cells = fit_cells(first)
    more = add_rows(cells, added)
    np.testing.assert_array_equal(more.own()[:ROWS], cells.own())
    np.testing.assert_array_equal(more.centres, cells.centres)
    assert len(more.rows) == ROWS + 200


def test_equal_rows_and_fewer_than_are_asked_for():
    vectors = np.tile(points(1), (300, 1))
    cells = fit_cells(vectors)
    search = CellSearch(cells, [vectors[cells.rows] - cells.centres[cells.cell]])
    rows, apart = search.near(vectors[0], 1, 128)
    assert len(set(rows)) == 128
    np.testing.assert_allclose(apart, 0, atol=1e-5)
    assert len(search.near(vectors[0], 1, 1000)[0]) == 300, "all there are"


@pytest.mark.parametrize(
    ("starts", "rows", "what"),
    [
        ([0, 2], [0, 1], "2 cells do not hold 2 rows"),
        ([0, 1, 3], [0, 1], "do not hold"),
        ([0, 3, 2], [0, 1], "ends before it begins"),
        ([0, 1, 2], [0, 2], "the bank has not"),
        ([0, 1, 2], [0, -1], "the bank has not"),
        ([0, 1, 2], [1, 1], "in two cells"),
        ([], [], "do not hold"),
    ],
)
def test_cells_that_are_none_are_refused(starts, rows, what):
    with pytest.raises(ValueError, match=what):
        Cells(np.zeros((2, 3), np.float32), np.array(starts, np.int64), np.array(rows, np.int64))


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("index_plan", lambda a: a[:3]),
        ("index_plan", lambda a: -a),
        ("index_centres", lambda a: a[:, 1:]),
        ("index_centres", lambda a: a * np.nan),
        ("index_starts", lambda a: a + 5),
        ("index_rows", lambda a: a * 2**40),
        ("index_rows", lambda a: a.astype(str)),
        ("index_rows", np.zeros_like),
    ],
)
def test_arrays_of_an_index_that_were_altered_are_refused_by_name(name, spoil):
    vectors = points()
    state = index_state(choose_index(vectors, "euclidean", 0.99, healthy(vectors).groups))
    assert read_index(state, DIM) is not None
    state[name] = spoil(state[name])
    with pytest.raises(StateError, match="index_"):
        read_index(state, DIM)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[:0],
        lambda data: data[: len(data) // 2],
        lambda data: b"\x80\x04K\x01." + data,
        lambda data: data[:-4] + np.float32(np.nan).tobytes(),
        lambda data: data[:-4] + np.float32(9).tobytes(),
        lambda data: data.replace(b"'<f4'", b"'<i4'"),
        lambda data: data.replace(b"False", b"True "),
    ],
)
def test_a_file_that_is_no_index_of_the_bank_is_refused(tmp_path, spoil):
    vectors = points()
    index = choose_index(vectors, "euclidean", 0.99, healthy(vectors).groups)
    path = tmp_path / "i.npy"
    write_index(path, vectors, "euclidean", index)
    open_index(path, vectors, "euclidean", index)
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(BundleError, match="is no index of this bank"):
        open_index(path, vectors, "euclidean", index)


def test_an_altered_index_raises_scores_and_lowers_none(tmp_path, large):
    """Numbers of it that the check does not look at can only hide what is near."""
    vectors, asked = points(), points(100, 1)
    data, _, _ = written(tmp_path, vectors)
    exact = opened(tmp_path, data).score(asked)[0]
    stored = np.load(tmp_path / "bank.index.npy")
    looked = np.unique(np.linspace(0, ROWS - 1, 256).astype(int))
    rest = np.setdiff1d(np.arange(ROWS), looked)
    stored[rest] = np.random.default_rng(0).permutation(stored[rest]) * 1e18
    np.save(tmp_path / "bank.index.npy", stored)
    scores = opened(tmp_path, data).score(asked)[0]
    assert (scores >= exact - 1e-5).all()
    assert (scores > exact + 1e-5).any()


def test_small_banks_have_no_index(tmp_path):
    _, _, told = written(tmp_path, points(300))
    assert told == {}
    assert [file.name for file in tmp_path.iterdir()] == ["rows.npy"]


@pytest.mark.parametrize("used", [1, 0])
@pytest.mark.parametrize("dim", [DIM, 256])
def test_a_bundle_of_before_opens_and_says_once_what_to_do(tmp_path, large, caplog, dim, used):
    """Its index is another library's; what that missed its recall with is not asked for either."""
    vectors = points(dim=dim)
    data = healthy(vectors)
    for name, array in fit_state(data, PLAIN).items():
        assert name == "rows"
        np.save(tmp_path / "rows.npy", array)
    np.save(tmp_path / "scorer.index.npy", np.float32([16, 40, 128, 0.99, used, 32]))
    (tmp_path / "bank.hnsw").write_bytes(b"another library's")
    with caplog.at_level(logging.WARNING):
        scorer = opened(tmp_path, data)
        scorer.score(points(3, dim=dim))
    assert scorer.indexed == bool(used)
    assert [r.levelname for r in caplog.records] == ["WARNING"] * used
    if used:
        assert "bank.hnsw" in caplog.text
        assert "auscult export" in caplog.text
    asked = points(200, 1, dim=dim)
    exact = KnnScorer(scorer.bank, PLAIN)
    found = scorer.score(asked)
    assert (found[1] == exact.score(asked)[1]).mean() >= 0.98


def test_a_bundle_of_before_grows_into_one_of_this_kind(tmp_path, large):
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir(), new.mkdir()
    (old / "bank.hnsw").write_bytes(b"another library's")
    np.save(old / "scorer.index.npy", np.float32([16, 40, 128, 0.99, 1, 32]))
    data = healthy(points())
    state = {**fit_state(data, PLAIN), "index": np.float32([16, 40, 128, 0.99, 1, 32])}
    told = write_scorer(new, PLAIN, data, state, parent=old)
    assert told["bank.index.npy"].used
    assert not (new / "scorer.index.npy").exists()
    assert opened(new, data).indexed


def test_an_index_of_fewer_rows_than_the_bank_is_made_anew(tmp_path, large, caplog):
    data, _, _ = written(tmp_path, points(1400))
    more = healthy(np.concatenate([data.vectors, points(100, 4)]))
    plain = np.tile(np.float32([1, 0]), (1500, 1))
    state = read_state(tmp_path, [file.name for file in tmp_path.iterdir()])
    scorer = KnnScorer(
        MemoryBank(more.vectors, plain, more.rows), PLAIN, tmp_path / "bank.index.npy",
        index=read_index(state, DIM),
    )  # fmt: skip
    with caplog.at_level(logging.WARNING):
        found = scorer.score(more.vectors[1400:])
    assert "made anew" in caplog.text
    assert (found[1] >= 1400).all()
