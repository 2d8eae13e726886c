"""Searching memory banks: exact, our index, and faiss, in one run.

    .venv/bin/python benchmarks/banks.py [--rows 1000 10000 100000 1000000] [--dims 128 768]

For each size: seconds to build (ours with choosing how), memory of the index beside the raw
vectors, milliseconds of one query on one thread (median and 99th percentile) and recall@1. Ours
proposes 128 candidates by hnswlib with the plan that export would choose for a recall of 0.99, and
compares those exactly; faiss is asked with equal parameters (IndexHNSWFlat, M 16 or more, the same
ef), and exactly (IndexFlatIP). The plain product of NumPy is the peer: ratios are to it.

The rows resemble embeddings: recordings lie in a few hundred operating conditions, each a low-
dimensional patch (8 directions) of the sphere, and queries are healthy windows that are not in the
bank. Uniform noise would be another thing: nothing is near anything there, and graphs are lost.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
from rich.console import Console
from rich.table import Table

from agent.bundle.manifest import Row
from agent.config.scorer_knn import KnnConfig
from agent.score.bank import MemoryBank
from agent.score.index import CANDIDATES, plan_index
from agent.score.knn import KnnScorer

_QUERIES = 200
_CONDITIONS = 300
_DIRECTIONS = 8


def embeddings(rows: int, dim: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A bank and queries like it, unit length, float32."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(_CONDITIONS, dim)).astype(np.float32)
    patches = random.normal(size=(_CONDITIONS, _DIRECTIONS, dim)).astype(np.float32)
    count = rows + _QUERIES
    found = np.empty((count, dim), np.float32)
    for start in range(0, count, 20000):
        stop = min(start + 20000, count)
        which = random.integers(0, _CONDITIONS, stop - start)
        place = random.normal(size=(stop - start, _DIRECTIONS)).astype(np.float32)
        part = centres[which] + 0.3 * np.einsum("nk,nkd->nd", place, patches[which])
        part += 0.05 * random.normal(size=part.shape).astype(np.float32)
        found[start:stop] = part / np.linalg.norm(part, axis=1, keepdims=True)
    return found[:rows], found[rows:]


def timed(ask: Callable[[np.ndarray], np.ndarray], queries: np.ndarray) -> tuple[list[float], list]:
    """Milliseconds of each query asked by itself, and the answers."""
    ask(queries[:1])
    spent, answers = [], []
    for query in queries:
        start = time.perf_counter()
        answer = ask(query[None])
        spent.append(1e3 * (time.perf_counter() - start))
        answers.append(int(answer[0]))
    return spent, answers


def measure(rows: int, dim: int, done: Callable[[list[dict[str, object]]], None]) -> None:
    """Every way of searching one bank; `done` is given what was found after each."""
    bank, queries = embeddings(rows, dim)
    faiss.omp_set_num_threads(1)
    found: list[dict[str, object]] = []

    def note(way: str, build: float, size: float, spent: list[float], answers: list) -> None:
        right = float(np.mean(np.array(answers) == np.array(truth)))
        found.append(
            {
                "rows": rows,
                "dim": dim,
                "way": way,
                "build_s": build,
                "index_mb": size,
                "p50_ms": float(np.median(spent)),
                "p99_ms": float(np.quantile(spent, 0.99)),
                "recall": right,
            }
        )
        done(found[-1:])

    spent, truth = timed(lambda q: np.argmax(q @ bank.T, axis=1), queries)
    note("exact (NumPy)", 0.0, 0.0, spent, truth)

    flat = faiss.IndexFlatIP(dim)
    start = time.perf_counter()
    flat.add(bank)
    built = time.perf_counter() - start
    spent, answers = timed(lambda q: flat.search(q, 1)[1][:, 0], queries)
    note("exact (faiss)", built, bank.nbytes / 1e6, spent, answers)
    flat.reset()

    start = time.perf_counter()
    plan, index = plan_index(bank, "cosine", 0.99)
    built = time.perf_counter() - start
    index.set_ef(plan.ef)
    row = Row(source="r", start=0.0, group="r")
    memory = MemoryBank(bank, np.tile(np.float32([1, 0]), (rows, 1)), (row,) * rows)
    scorer = KnnScorer(memory, KnnConfig(normalization="none"))
    scorer.start()
    scorer._index = index  # noqa: SLF001 - as read from a bundle, whatever the bank's size
    spent, answers = timed(lambda q: scorer.score(q)[1], queries)
    name = f"ours (HNSW M {plan.links}, ef {plan.ef})" + ("" if plan.usable else ", not used")
    note(name, built, index.index_file_size() / 1e6, spent, answers)
    scorer._index = None  # noqa: SLF001
    index = None

    graph = faiss.IndexHNSWFlat(dim, plan.links, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = plan.weighed
    graph.hnsw.efSearch = plan.ef
    start = time.perf_counter()
    graph.add(bank)
    built = time.perf_counter() - start
    spent, answers = timed(lambda q: graph.search(q, CANDIDATES)[1][:, 0], queries)
    size = (bank.nbytes + rows * 2 * plan.links * 4) / 1e6
    note("faiss (HNSW, same)", built, size, spent, answers)


def show(found: list[dict[str, object]]) -> Table:
    """The table."""
    table = Table(
        title="One query on one thread; ratio to NumPy's exact search", title_justify="left"
    )
    for heading in ("rows", "dim", "way", "build", "index", "p50", "p99", "ratio", "recall@1"):
        table.add_column(heading, justify="left" if heading == "way" else "right")
    for row in found:
        exact = next(
            r for r in found if (r["rows"], r["dim"]) == (row["rows"], row["dim"])
        )  # the first of each size
        table.add_row(
            f"{row['rows']:,}",
            str(row["dim"]),
            str(row["way"]),
            f"{row['build_s']:.1f} s",
            f"{row['index_mb']:.0f} MB",
            f"{row['p50_ms']:.3f} ms",
            f"{row['p99_ms']:.3f} ms",
            f"{float(exact['p50_ms']) / float(row['p50_ms']):.2f}",  # type: ignore[arg-type]
            f"{row['recall']:.3f}",
            end_section=row is found[-1] or str(row["way"]).startswith("faiss (HNSW"),
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", nargs="+", type=int, default=[1000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--dims", nargs="+", type=int, default=[128, 768])
    parser.add_argument("--json", type=Path, help="also write the figures here, after each way")
    chosen = parser.parse_args()
    console, found = Console(width=120), []

    def done(rows: list[dict[str, object]]) -> None:
        found.extend(rows)
        if chosen.json:
            chosen.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")

    for dim in chosen.dims:
        for rows in chosen.rows:
            measure(rows, dim, done)
            console.print(f"{rows:,} x {dim}: done")
    console.print(show(found))


if __name__ == "__main__":
    main()
