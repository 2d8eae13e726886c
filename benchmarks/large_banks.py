"""Large banks as a bundle holds them, beside faiss's HNSW and IVF-PQ and a plain product.

    .venv/bin/python benchmarks/bank_sounds.py ../shared --out SOUNDS
    .venv/bin/python benchmarks/large_banks.py SOUNDS [--rows 1000 ... 1000000] [--ways ...]

Rows are embeddings of real recordings (benchmarks/bank_sounds.py); beyond as many as there are,
points on the way from one of them to one of the ten nearest among a tenth of them, with a fiftieth
of its length of noise in all directions. Queries are windows of recordings of which the bank has
nothing. Each way is built, loaded and asked in processes of their own, one thread: `build` in
seconds of wall clock and of processor; `resident` after the queries, all of the process, of which
`file` lies in mapped files; recall@1 counts, by distance, how often the nearest row is found. The
bank's file is in the system's cache, except for `cold`: asked after it was dropped from there.
`grown`: seconds to add 500 rows and measure again. Other work on the machine lengthens what the
clock tells, not `cpu`, the processor time of a query.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from agent.score.mapped import map_array

ROWS = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
WAYS = ("product", "ours", "faiss-hnsw", "faiss-ivfpq")
_QUERIES, _COLD, _ADDED = 500, 50, 500
_BLOCK = 20_000
_NEIGHBOURS = 10
_RECALL = 0.99
_PRODUCTS = 50  # queries of the plain product


def unit(rows: np.ndarray) -> np.ndarray:
    return np.float32(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def write_bank(folder: Path, real: np.ndarray, near: np.ndarray, rows: int) -> None:
    """bank.npy of so many rows, and rows.json: recordings of ten minutes."""
    random = np.random.default_rng(rows)
    bank = np.lib.format.open_memmap(folder / "bank.npy", "w+", np.float32, (rows, real.shape[1]))
    kept = real[random.permutation(len(real))[:rows]]
    bank[: len(kept)] = unit(kept)
    for start in range(len(kept), rows, _BLOCK):
        count = min(_BLOCK, rows - start)
        first = random.integers(0, len(real), count)
        second = near[first, random.integers(0, near.shape[1], count)]
        part = real[first] + random.random((count, 1)) * (real[second] - real[first])
        size = np.linalg.norm(part, axis=1, keepdims=True) / np.sqrt(part.shape[1]) / 50
        bank[start : start + count] = unit(part + size * random.normal(size=part.shape))
    bank.flush()
    with (folder / "rows.json").open("w", encoding="utf-8") as file:
        for i in range(rows):
            name = f"normal/2026-03-02/recording_{i // 600:05d}.flac"
            row = {"source": name, "start": float(i % 600), "group": name, "domain": "source"}
            file.write(("[" if i == 0 else ",") + json.dumps(row))
        file.write("]")


def neighbours(real: np.ndarray) -> np.ndarray:
    """For each row the ten nearest others among a tenth of them."""
    some = unit(real[::10]).T
    return np.concatenate(
        [
            10 * np.argsort(-(unit(real[at : at + 1000]) @ some))[:, 1 : _NEIGHBOURS + 1]
            for at in range(0, len(real), 1000)
        ]
    )


def best(bank: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """The cosine of the nearest row to each query."""
    found = [(bank[at : at + _BLOCK] @ queries.T).max(axis=0) for at in range(0, len(bank), _BLOCK)]
    return np.max(found, axis=0)


def resident() -> dict[str, float]:
    """MB of this process: all, and what lies in mapped files."""
    text = Path("/proc/self/status").read_text(encoding="ascii")
    sizes = {line.split(":")[0]: line.split()[1] for line in text.splitlines() if " kB" in line}
    return {
        "resident_mb": int(sizes["VmRSS"]) * 1024 / 1e6,
        "file_mb": int(sizes["RssFile"]) * 1024 / 1e6,
    }


def peak() -> float:
    """Most memory that this process had so far, MB; of mapped files what was in it too."""
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return int(text.split("VmHWM:")[1].split()[0]) * 1024 / 1e6


def timed(
    ask: Callable[[np.ndarray], int], queries: np.ndarray
) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Milliseconds of each query asked by itself, by the clock and of processor; rows found."""
    ask(queries[0])
    clock, spent, found = [], [], []
    for query in queries:
        start, used = time.perf_counter(), time.thread_time()
        found.append(ask(query))
        spent.append(1e3 * (time.thread_time() - used))
        clock.append(1e3 * (time.perf_counter() - start))
    return np.array(clock), np.array(spent), found


def reranked(index: Any, bank: np.ndarray) -> Callable[[np.ndarray], int]:
    """Compares the 128 candidates of an index exactly, from the file."""

    def ask(query: np.ndarray) -> int:
        labels = index.search(query[None], 128)[1][0]
        rows = labels[labels >= 0]
        return int(rows[np.argmax(bank[rows] @ query)])

    return ask


def build(way: str, folder: Path) -> dict[str, object]:
    """Make what a way searches by, in `folder`."""
    bank = np.load(folder / "bank.npy", mmap_mode="r")
    start, spent, told = time.perf_counter(), time.process_time(), {}
    if way == "ours":
        from agent.score.index import choose_plan, write_index

        plan, reduction = choose_plan(bank, "cosine", _RECALL)
        plan = write_index(
            folder / "ours", bank, "cosine", plan, reduction=reduction, recall=_RECALL
        )
        np.save(folder / "plan.npy", plan.array())
        (folder / "basis.npy").unlink(missing_ok=True)
        if reduction is not None:
            np.save(folder / "basis.npy", reduction.array())
        columns = bank.shape[1] if reduction is None else reduction.columns
        words = f"{columns} numbers, M {plan.links}, {plan.weighed}, ef {plan.ef}"
        told = {"plan": f"{words}, {plan.compared} compared", "planned": plan.recall}
    elif way.startswith("faiss"):
        import faiss

        faiss.omp_set_num_threads(1)
        rows, dim = bank.shape
        if way == "faiss-hnsw":
            index = faiss.IndexHNSWFlat(dim, 16)
            index.hnsw.efConstruction = 40
        else:
            cells = max(1, int(np.sqrt(rows)))
            index = faiss.index_factory(dim, f"IVF{cells},PQ96x8")
            index.cp.niter = index.pq.cp.niter = 8
            index.train(np.ascontiguousarray(bank[:: max(1, rows // (40 * cells))]))
        for at in range(0, rows, _BLOCK):
            index.add(np.ascontiguousarray(bank[at : at + _BLOCK]))
        faiss.write_index(index, str(folder / way))
    return {
        **told,
        "build_s": time.perf_counter() - start,
        "build_cpu_s": time.process_time() - spent,
        "build_mb": peak(),
    }


def loaded(way: str, folder: Path, bank: np.ndarray) -> Callable[[np.ndarray], int]:
    """What asks."""
    if way == "product":
        whole = np.load(folder / "bank.npy")
        return lambda query: int(np.argmax(whole @ query))
    if way == "ours":
        from agent.bundle.rows import read_rows
        from agent.config.scorer_knn import KnnConfig
        from agent.score.bank import MemoryBank
        from agent.score.index import IndexPlan
        from agent.score.knn import KnnScorer
        from agent.score.reduction import Reduction

        rows = read_rows(folder / "rows.json")
        constants = np.tile(np.float32([1, 0]), (len(bank), 1))
        basis = folder / "basis.npy"
        scorer = KnnScorer(
            MemoryBank(bank, constants, rows),
            KnnConfig(normalization="none"),
            folder / "ours",
            plan=IndexPlan.of(np.load(folder / "plan.npy")),
            reduction=Reduction.of(np.load(basis)) if basis.exists() else None,
        )
        scorer.start()
        return lambda query: int(scorer.score(query[None])[1][0])
    import faiss

    faiss.omp_set_num_threads(1)
    index = faiss.read_index(str(folder / way))
    if way == "faiss-ivfpq":
        index.nprobe = 32
        return reranked(index, bank)
    index.hnsw.efSearch = 128
    return lambda query: int(index.search(query[None], 128)[1][0, 0])


def ask(way: str, folder: Path) -> dict[str, object]:
    """Load, and answer the queries."""
    bank, queries = map_array(folder / "bank.npy"), np.load(folder / "queries.npy")
    truth = np.load(folder / "truth.npy")
    start, used = time.perf_counter(), time.process_time()
    answer = loaded(way, folder, bank)
    told: dict[str, object] = {
        "load_s": time.perf_counter() - start, "load_cpu_s": time.process_time() - used
    }  # fmt: skip
    queries = queries[: _PRODUCTS if way == "product" else None]
    timed(answer, queries[-200:] if way != "product" else queries[:2])
    clock, spent, found = timed(answer, queries)
    told |= {
        "p50_ms": float(np.median(clock)),
        "p99_ms": float(np.quantile(clock, 0.99)),
        "cpu_p50_ms": float(np.median(spent)),
        "cpu_p99_ms": float(np.quantile(spent, 0.99)),
        **resident(),
    }
    truth = truth[: len(queries)]
    reached = np.einsum("nd,nd->n", bank[found], queries)
    told["recall"] = float(np.mean(reached >= truth - 1e-5))
    if way == "ours":
        with (folder / "bank.npy").open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        told["cold_ms"] = float(np.median(timed(answer, queries[-_COLD:])[0]))
    return told


def grow(folder: Path) -> dict[str, object]:
    """Add rows to our index, as a bundle's growth does."""
    from agent.score.index import IndexPlan, write_index
    from agent.score.reduction import Reduction

    old = np.load(folder / "bank.npy", mmap_mode="r")
    np.save(folder / "grown.npy", np.concatenate([old, np.load(folder / "queries.npy")[:_ADDED]]))
    basis = folder / "basis.npy"
    start, spent = time.perf_counter(), time.process_time()
    write_index(
        folder / "grown", np.load(folder / "grown.npy", mmap_mode="r"), "cosine",
        IndexPlan.of(np.load(folder / "plan.npy")),
        reduction=Reduction.of(np.load(basis)) if basis.exists() else None,
        recall=_RECALL, grown_from=folder / "ours",
    )  # fmt: skip
    told = {
        "grown_s": time.perf_counter() - start, "grown_cpu_s": time.process_time() - spent
    }  # fmt: skip
    for name in ("grown", "grown.npy"):
        (folder / name).unlink()
    return told


def child(step: str, way: str, folder: Path) -> dict[str, object]:
    """A step in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, str(folder), "--step", step, "--ways", way],
        stdout=subprocess.PIPE, check=True, text=True,
        env=os.environ | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
    )  # fmt: skip
    return json.loads(done.stdout)


def exponents(found: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """By way and figure, the power of the number of rows that it grows by, from 30,000 rows on."""
    told: dict[str, dict[str, float]] = {}
    for way in dict.fromkeys(one["way"] for one in found):
        mine = [one for one in found if one["way"] == way and one["rows"] >= 30_000]
        if len(mine) > 1:
            rows = np.log([one["rows"] for one in mine])
            told[way] = {
                name: float(np.polyfit(rows, np.log([one[name] for one in mine]), 1)[0])
                for name in ("p50_ms", "cpu_p50_ms", "build_cpu_s", "resident_mb")
            }
    return told


def show(found: list[dict[str, Any]]) -> Table:
    """The table."""
    table = Table(title="One query on one thread")
    for heading in ("rows", "way", "build (cpu)", "load", "resident (file)", "p50", "p99",
                    "cpu p50, p99", "cold", "recall@1", "grown"):  # fmt: skip
        table.add_column(heading, justify="left" if heading == "way" else "right")
    for one in found:
        table.add_row(
            f"{one['rows']:,}", f"{one['way']} {one.get('plan', '')}",
            f"{one['build_s']:.0f} ({one['build_cpu_s']:.0f}) s", f"{one['load_s']:.1f} s",
            f"{one['resident_mb']:.0f} ({one['file_mb']:.0f}) MB", f"{one['p50_ms']:.3f} ms",
            f"{one['p99_ms']:.3f} ms",
            f"{one['cpu_p50_ms']:.3f}, {one['cpu_p99_ms']:.3f} ms", f"{one.get('cold_ms', 0):.1f}",
            f"{one['recall']:.4f}", f"{one.get('grown_s', 0):.1f} s",
        )  # fmt: skip
    return table


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="from benchmarks/bank_sounds.py")
    parser.add_argument("--rows", nargs="+", type=int, default=ROWS)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--work", type=Path, help="where banks are written; a temporary folder")
    parser.add_argument("--json", type=Path, help="also write the figures here, after each way")
    parser.add_argument("--step", choices=("build", "ask", "grow"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.step:
        way = chosen.ways[0]
        done = {
            "build": lambda: build(way, chosen.folder),
            "ask": lambda: ask(way, chosen.folder),
            "grow": lambda: grow(chosen.folder),
        }[chosen.step]()
        sys.stdout.write(json.dumps(done))
        return
    console, found = Console(width=150), []
    real = np.load(chosen.folder / "bank.npy")
    near = neighbours(real)
    random = np.random.default_rng(1)
    queries = np.load(chosen.folder / "queries.npy")
    queries = unit(queries[random.permutation(len(queries))[:_QUERIES]])
    console.print(f"{len(real):,} windows of recordings, {len(queries):,} queries")
    for rows in chosen.rows:
        with tempfile.TemporaryDirectory(dir=chosen.work, prefix="auscult-bank-") as name:
            folder = Path(name)
            write_bank(folder, real, near, rows)
            np.save(folder / "queries.npy", queries)
            np.save(
                folder / "truth.npy", best(np.load(folder / "bank.npy", mmap_mode="r"), queries)
            )
            for way in chosen.ways:
                one = {"rows": rows, "way": way, **child("build", way, folder)}
                one |= child("ask", way, folder)
                if way == "ours":
                    one |= child("grow", way, folder)
                (folder / way).unlink(missing_ok=True)
                found.append(one)
                console.print(one)
                if chosen.json:
                    chosen.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    console.print(show(found))
    console.print("grows by the power of rows:", exponents(found))


if __name__ == "__main__":
    main()
