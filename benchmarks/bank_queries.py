"""Codes for large memory banks: float32, float16 and INT8 with exact re-ranking, and loading.

    .venv/bin/python benchmarks/bank_queries.py [--rows 100000 1000000] [--dims 768] [--ways ...]

The raw vectors lie in a file that is mapped into memory, as the agent has them of a large bank.
What is searched are codes of them (`flat` compares every row, `hnsw` walks a graph; both faiss's,
one thread), which propose 128 rows; those are compared exactly from the file. `ours` is what a
bundle holds: cells of float32 rows, as many looked at as export would choose. Recall is
counted by distance, after re-ranking: of two equal rows either is right. The first way, NumPy's
product over all rows in memory, is the peer.

Each way is built, written, read back (`load`) and asked; `memory` is the size of what must stay in
memory for it, the mapped file apart. 1,000,000 x 768 takes 3 GB of disk and 10 GB of memory.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from rich.console import Console
from rich.table import Table

from agent.bundle.manifest import Row
from agent.config.scorer_knn import KnnConfig
from agent.score.bank import MemoryBank
from agent.score.index import CANDIDATES, choose_index, open_index, write_index
from agent.score.knn import KnnScorer
from agent.score.mapped import map_array

_QUERIES = 200
_CONDITIONS = 300
_DIRECTIONS = 8
_BLOCK = 20_000
_LINKS, _WEIGHED, _EF = 16, 40, 256
CODES = {
    "float32": None,
    "float16": faiss.ScalarQuantizer.QT_fp16,
    "int8": faiss.ScalarQuantizer.QT_8bit,
}
WAYS = ("numpy", "ours", *(f"{kind}-{code}" for kind in ("flat", "hnsw") for code in CODES))


@dataclass(frozen=True, slots=True)
class Measured:
    """One way of searching one bank; times in seconds and milliseconds, sizes in MB."""

    rows: int
    dim: int
    way: str
    build_s: float
    load_s: float
    memory_mb: float
    p50_ms: float
    p99_ms: float
    recall: float
    ratio: float


def write_bank(path: Path, rows: int, dim: int, seed: int = 0) -> np.ndarray:
    """A bank on patches of a few directions, written block by block; gives queries like it."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(_CONDITIONS, dim)).astype(np.float32)
    patches = random.normal(size=(_CONDITIONS, _DIRECTIONS, dim)).astype(np.float32)

    def some(count: int) -> np.ndarray:
        which = random.integers(0, _CONDITIONS, count)
        place = random.normal(size=(count, _DIRECTIONS)).astype(np.float32)
        part = centres[which]
        for direction in range(_DIRECTIONS):
            part += 0.3 * place[:, direction, None] * patches[which, direction]
        part += 0.05 * random.normal(size=part.shape).astype(np.float32)
        return part / np.linalg.norm(part, axis=1, keepdims=True)

    bank = np.lib.format.open_memmap(path, "w+", np.float32, (rows, dim))
    for start in range(0, rows, _BLOCK):
        stop = min(start + _BLOCK, rows)
        bank[start:stop] = some(stop - start)
    bank.flush()
    return some(_QUERIES)


def timed(ask: Callable[[np.ndarray], int], queries: np.ndarray) -> tuple[list[float], list[int]]:
    """Milliseconds of each query asked by itself, and the rows found."""
    ask(queries[0])
    spent, found = [], []
    for query in queries:
        start = time.perf_counter()
        found.append(ask(query))
        spent.append(1e3 * (time.perf_counter() - start))
    return spent, found


def reranked(index: Any, bank: np.ndarray) -> Callable[[np.ndarray], int]:
    """Asks an index for candidates and compares those exactly."""

    def ask(query: np.ndarray) -> int:
        _, labels = index.search(query[None], CANDIDATES)
        rows = np.sort(labels[0][labels[0] >= 0])
        return int(rows[np.argmax(bank[rows] @ query)])

    return ask


class Bench:
    """Every way of searching one bank."""

    def __init__(self, folder: Path, rows: int, dim: int) -> None:
        self.folder, self.rows, self.dim = folder, rows, dim
        self.queries = write_bank(folder / "bank.npy", rows, dim)
        self.bank = np.load(folder / "bank.npy", mmap_mode="r")
        self.best = np.max(
            [
                (self.bank[start : start + _BLOCK] @ self.queries.T).max(axis=0)
                for start in range(0, rows, _BLOCK)
            ],
            axis=0,
        )
        self.peer_ms = 0.0

    def measure(self, way: str) -> Measured:
        """Build, write, load and ask."""
        built, load, size, ask = self._way(way)
        spent, found = timed(ask, self.queries)
        reached = np.einsum("nd,nd->n", self.bank[found], self.queries)
        p50 = float(np.median(spent))
        self.peer_ms = self.peer_ms or p50
        return Measured(
            self.rows,
            self.dim,
            way,
            built,
            load,
            size / 1e6,
            p50,
            float(np.quantile(spent, 0.99)),
            float(np.mean(reached >= self.best - 1e-5)),
            self.peer_ms / p50,
        )

    def _way(self, way: str) -> tuple[float, float, float, Callable[[np.ndarray], int]]:
        if way == "numpy":
            start = time.perf_counter()
            whole = np.load(self.folder / "bank.npy")
            load = time.perf_counter() - start
            return 0.0, load, whole.nbytes, lambda query: int(np.argmax(whole @ query))
        return self._ours() if way == "ours" else self._faiss(way)

    def _ours(self) -> tuple[float, float, float, Callable[[np.ndarray], int]]:
        place, start = self.folder / "bank.index.npy", time.perf_counter()
        groups = [str(i // 10) for i in range(self.rows)]
        index = choose_index(self.bank, "cosine", 0.99, groups)
        write_index(place, self.bank, "cosine", index)
        built, start = time.perf_counter() - start, time.perf_counter()
        row = Row(source="r", start=0.0, group="r")
        bank = map_array(self.folder / "bank.npy")
        constants = np.tile(np.float32([1, 0]), (self.rows, 1))
        scorer = KnnScorer(
            MemoryBank(bank, constants, (row,) * self.rows), KnnConfig(normalization="none")
        )
        # As read from a bundle, whatever the bank's size.
        scorer._search, scorer.index = open_index(place, bank, "cosine", index)  # noqa: SLF001
        load = time.perf_counter() - start
        size = place.stat().st_size + index.cells.centres.nbytes + index.cells.rows.nbytes
        return built, load, size, lambda query: int(scorer.score(query[None])[1][0])

    def _faiss(self, way: str) -> tuple[float, float, float, Callable[[np.ndarray], int]]:
        kind, code = way.split("-")
        quantizer = CODES[code]
        metric, place = faiss.METRIC_INNER_PRODUCT, str(self.folder / f"{way}.faiss")
        if kind == "flat":
            index = (
                faiss.IndexFlatIP(self.dim)
                if quantizer is None
                else faiss.IndexScalarQuantizer(self.dim, quantizer, metric)
            )
        else:
            index = (
                faiss.IndexHNSWFlat(self.dim, _LINKS, metric)
                if quantizer is None
                else faiss.IndexHNSWSQ(self.dim, quantizer, _LINKS, metric)
            )
            index.hnsw.efConstruction, index.hnsw.efSearch = _WEIGHED, _EF
        start = time.perf_counter()
        if not index.is_trained:
            index.train(np.ascontiguousarray(self.bank[:: max(1, self.rows // 20_000)]))
        for first in range(0, self.rows, _BLOCK):
            index.add(np.ascontiguousarray(self.bank[first : first + _BLOCK]))
        built = time.perf_counter() - start
        faiss.write_index(index, place)
        index.reset()
        start = time.perf_counter()
        index = faiss.read_index(place)
        load = time.perf_counter() - start
        if kind == "hnsw":
            index.hnsw.efSearch = _EF
        return built, load, Path(place).stat().st_size, reranked(index, self.bank)


def show(found: list[Measured]) -> Table:
    """The table."""
    table = Table(title="One query on one thread; ratio to NumPy's exact search")
    for heading in [
        "rows",
        "dim",
        "way",
        "build",
        "load",
        "memory",
        "p50",
        "p99",
        "ratio",
        "recall@1",
    ]:
        table.add_column(heading, justify="left" if heading == "way" else "right")
    for one in found:
        table.add_row(
            f"{one.rows:,}", str(one.dim), one.way, f"{one.build_s:.1f} s", f"{one.load_s:.2f} s",
            f"{one.memory_mb:.0f} MB", f"{one.p50_ms:.3f} ms", f"{one.p99_ms:.3f} ms",
            f"{one.ratio:.2f}", f"{one.recall:.3f}",
        )  # fmt: skip
    return table


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", nargs="+", type=int, default=[10_000, 100_000])
    parser.add_argument("--dims", nargs="+", type=int, default=[768])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--folder", type=Path, help="where the bank is written; a temporary one")
    parser.add_argument("--json", type=Path, help="also write the figures here, after each way")
    chosen = parser.parse_args()
    faiss.omp_set_num_threads(1)
    console, found = Console(width=120), []
    for dim in chosen.dims:
        for rows in chosen.rows:
            with tempfile.TemporaryDirectory(dir=chosen.folder, prefix="auscult-bank-") as folder:
                bench = Bench(Path(folder), rows, dim)
                for way in dict.fromkeys(("numpy", *chosen.ways)):
                    found.append(bench.measure(way))
                    console.print(f"{rows:,} x {dim}, {way}: {found[-1].p50_ms:.3f} ms")
                    if chosen.json:
                        text = json.dumps([asdict(one) for one in found], indent=1)
                        chosen.json.write_text(text + "\n", encoding="utf-8")
    console.print(show(found))


if __name__ == "__main__":
    main()
