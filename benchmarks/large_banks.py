"""Large banks as a bundle holds them, beside faiss's HNSW and IVF-PQ and a plain product.

    .venv/bin/python benchmarks/bank_sounds.py ../shared --out SOUNDS
    .venv/bin/python benchmarks/large_banks.py SOUNDS [--rows 1000 ... 1000000] [--ways ...]

Rows are embeddings of real recordings (benchmarks/bank_sounds.py); beyond as many as there are,
points on the way from one of them to one of the ten nearest of its own recording, with a fiftieth
of its length of noise in all directions. Queries are windows of recordings of which the bank has
nothing. Each way is built, loaded and asked in processes of their own, one thread: `build` in
seconds of wall clock and of processor; `resident` after the queries, all of the process, of which
`file` lies in mapped files; recall@1 counts, by distance, how often the nearest row is found. The
bank's file is in the system's cache, except for `cold`: asked after it was dropped from there.
`ours` is written and opened by what export and the agent do it with. `grown`: seconds to add 500
rows and choose again how much is looked at, while another thread asks the bank as it was: its
answers must stay, and its time is told (`asked_meanwhile_cpu_p50_ms`). Other work on the machine
lengthens what the clock tells, not `cpu`, the processor time of a query.

`faiss-reduced` is faiss's HNSW over the reduced rows of `ours` (8 bits a number, M 32), its 128
candidates compared exactly from the file. IVF-PQ is trained on 65,536 rows at most.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from agent.bundle.manifest import Row
from agent.bundle.rows import read_rows as origins
from agent.config.scorer_knn import KnnConfig
from agent.score.mapped import map_array, read_rows
from agent.score.scorer import HealthySet

ROWS = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
WAYS = ("product", "ours", "faiss-reduced", "faiss-hnsw", "faiss-ivfpq")
CONFIG = KnnConfig(normalization="none")
_QUERIES, _COLD, _ADDED = 500, 50, 500
_BLOCK = 20_000
_NEIGHBOURS = 10
_TRAINED = 65_536  # rows that IVF-PQ learns from
_PRODUCTS = 50  # queries of the plain product


def unit(rows: np.ndarray) -> np.ndarray:
    return np.float32(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def write_bank(
    folder: Path, real: np.ndarray, groups: np.ndarray, near: np.ndarray, rows: int
) -> None:
    """bank.npy of so many rows, and rows.json: which recording each is of, or lies within."""
    random = np.random.default_rng(rows)
    bank = np.lib.format.open_memmap(folder / "bank.npy", "w+", np.float32, (rows, real.shape[1]))
    kept = random.permutation(len(real))[:rows]
    bank[: len(kept)] = unit(real[kept])
    own = [groups[kept]]
    for start in range(len(kept), rows, _BLOCK):
        count = min(_BLOCK, rows - start)
        first = random.integers(0, len(real), count)
        second = near[first, random.integers(0, near.shape[1], count)]
        part = real[first] + random.random((count, 1), np.float32) * (real[second] - real[first])
        size = np.linalg.norm(part, axis=1, keepdims=True) / np.sqrt(part.shape[1]) / 50
        part += size * random.standard_normal(part.shape, np.float32)
        bank[start : start + count] = unit(part)
        own.append(groups[first])
    bank.flush()
    with (folder / "rows.json").open("w", encoding="utf-8") as file:
        heard: dict[int, int] = {}
        for i, group in enumerate(np.concatenate(own).tolist()):
            at = heard[group] = heard.get(group, -1) + 1
            name = f"normal/2026-03-02/recording_{group:05d}.flac"
            row = {"source": name, "start": float(at), "group": name, "domain": "source"}
            file.write(("[" if i == 0 else ",") + json.dumps(row))
        file.write("]")


def neighbours(real: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """For each row ten others of its recording, the nearest; the same ones again of few."""
    found = np.empty((len(real), _NEIGHBOURS), np.int64)
    for group in np.unique(groups):
        mine = np.flatnonzero(groups == group)
        rows = unit(real[mine])
        order = np.argsort(-(rows @ rows.T), axis=1)[:, 1 : _NEIGHBOURS + 1]
        if order.shape[1] == 0:
            order = np.zeros((len(mine), 1), np.int64)
        found[mine] = mine[order[:, np.arange(_NEIGHBOURS) % order.shape[1]]]
    return found


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


def reranked(
    index: Any, bank: np.ndarray, reduce: Callable[[np.ndarray], np.ndarray] = lambda rows: rows
) -> Callable[[np.ndarray], int]:
    """Compares the 128 candidates of an index exactly, from the file."""

    def ask(query: np.ndarray) -> int:
        labels = index.search(reduce(query[None]), 128)[1][0]
        rows = labels[labels >= 0]
        return int(rows[np.argmax(read_rows(bank, rows)[0] @ query)])

    return ask


def of_bundle(folder: Path, bank: np.ndarray) -> HealthySet:
    """The bank with its rows' origins, as a bundle has them."""
    return HealthySet(bank, origins(folder / "rows.json"))


def plain(rows: int) -> dict[str, np.ndarray]:
    """What a scorer without normalization has learnt."""
    return {"rows": np.tile(np.float32([1, 0]), (rows, 1))}


def opened(folder: Path, healthy: HealthySet) -> Any:
    """The scorer, as the agent opens it."""
    from agent.score.build import build_scorer, read_indexes, read_state

    names = [file.name for file in folder.iterdir()]
    state = read_state(folder, names)
    scorer = build_scorer(CONFIG, healthy, state, read_indexes(folder, names))
    scorer.start()
    return scorer


def reduction_of(folder: Path) -> Any:
    """What `ours` holds in the place of vectors; of a bank that it has no index of 128 numbers."""
    from agent.score.reduction import Reduction, fit_reduction

    basis = folder / "ours" / "scorer.index_basis.npy"
    if basis.exists():
        return Reduction.of(np.load(basis))
    return fit_reduction(np.load(folder / "bank.npy", mmap_mode="r"), 128)


def build(way: str, folder: Path) -> dict[str, object]:
    """Make what a way searches by, in `folder`."""
    bank = np.load(folder / "bank.npy", mmap_mode="r")
    start, spent, told = time.perf_counter(), time.process_time(), {}
    if way == "ours":
        from agent.score.build import write_scorer

        healthy = of_bundle(folder, bank)
        (folder / "ours").mkdir(exist_ok=True)
        made = write_scorer(folder / "ours", CONFIG, healthy, plain(len(bank)))
        for info in made.values():
            told = {
                "plan": f"{info.columns} numbers, {info.searched} of {info.cells} cells, "
                f"{info.compared} compared",
                "planned": info.recall,
            }
    elif way == "faiss-reduced":
        import faiss

        faiss.omp_set_num_threads(1)
        reduced = reduction_of(folder)
        index = faiss.IndexHNSWSQ(reduced.columns, faiss.ScalarQuantizer.QT_8bit, 32)
        index.hnsw.efConstruction = 100
        index.train(reduced.apply(np.ascontiguousarray(bank[:: max(1, len(bank) // 20_000)])))
        for at in range(0, len(bank), _BLOCK):
            index.add(reduced.apply(np.ascontiguousarray(bank[at : at + _BLOCK])))
        faiss.write_index(index, str(folder / way))
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
            index.train(np.ascontiguousarray(bank[:: -(-rows // _TRAINED)]))
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
        scorer = opened(folder / "ours", of_bundle(folder, bank))
        return lambda query: int(scorer.score(query[None])[1][0])
    import faiss

    faiss.omp_set_num_threads(1)
    index = faiss.read_index(str(folder / way))
    if way == "faiss-ivfpq":
        index.nprobe = 32
        return reranked(index, bank)
    index.hnsw.efSearch = 128
    if way == "faiss-reduced":
        index.hnsw.efSearch = 256
        reduced = reduction_of(folder)
        return reranked(index, bank, reduced.apply)
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
    """Add rows to our index, as a bundle's growth does, while another thread asks the old one."""
    from agent.score.build import write_scorer

    queries = np.load(folder / "queries.npy")
    old = map_array(folder / "bank.npy")
    rows = list(origins(folder / "rows.json"))
    scorer = opened(folder / "ours", HealthySet(old, rows))
    before = [scorer.score(query[None]) for query in queries[:_ADDED]]
    grown = np.lib.format.open_memmap(
        folder / "grown.npy", "w+", np.float32, (len(old) + _ADDED, old.shape[1])
    )
    for at in range(0, len(old), _BLOCK):
        grown[at : min(at + _BLOCK, len(old))] = old[at : at + _BLOCK]
    grown[len(old) :] = queries[:_ADDED]
    grown.flush()
    grown = map_array(folder / "grown.npy")
    added = [Row(source="new", start=float(i), group="new") for i in range(_ADDED)]
    (folder / "newer").mkdir()
    done, spent, wrong = threading.Event(), [], []

    def ask_all() -> None:
        while not done.is_set():
            for i, query in enumerate(queries[:_ADDED]):
                used = time.thread_time()
                score, row = scorer.score(query[None])
                spent.append(1e3 * (time.thread_time() - used))
                if (score[0], row[0]) != (before[i][0][0], before[i][1][0]):
                    wrong.append(i)
                time.sleep(0.01)
                if done.is_set():
                    break

    asking = threading.Thread(target=ask_all)
    asking.start()
    start, used = time.perf_counter(), time.thread_time()
    healthy = HealthySet(grown, [*rows, *added])
    write_scorer(folder / "newer", CONFIG, healthy, plain(len(grown)), parent=folder / "ours")
    told: dict[str, object] = {
        "grown_s": time.perf_counter() - start, "grown_cpu_s": time.thread_time() - used
    }  # fmt: skip
    done.set()
    asking.join()
    found = opened(folder / "newer", healthy).score(queries[:_ADDED])[1]
    told |= {
        "asked_meanwhile": len(spent),
        "changed_meanwhile": len(wrong),
        "asked_meanwhile_cpu_p50_ms": float(np.median(spent)),
        "added_found": float(np.mean(found >= len(old))),
    }
    shutil.rmtree(folder / "newer")
    (folder / "grown.npy").unlink()
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
    groups = np.load(chosen.folder / "groups.npy")
    near = neighbours(real, groups)
    random = np.random.default_rng(1)
    queries = np.load(chosen.folder / "queries.npy")
    queries = unit(queries[random.permutation(len(queries))[:_QUERIES]])
    console.print(f"{len(real):,} windows of recordings, {len(queries):,} queries")
    for rows in chosen.rows:
        with tempfile.TemporaryDirectory(dir=chosen.work, prefix="auscult-bank-") as name:
            folder = Path(name)
            write_bank(folder, real, groups, near, rows)
            np.save(folder / "queries.npy", queries)
            np.save(
                folder / "truth.npy", best(np.load(folder / "bank.npy", mmap_mode="r"), queries)
            )
            for way in chosen.ways:
                one = {"rows": rows, "way": way, **child("build", way, folder)}
                one |= child("ask", way, folder)
                if way == "ours":
                    one |= child("grow", way, folder)
                if way not in {"ours", "product"}:
                    (folder / way).unlink()
                found.append(one)
                console.print(one)
                if chosen.json:
                    chosen.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    console.print(show(found))
    console.print("grows by the power of rows:", exponents(found))


if __name__ == "__main__":
    main()
