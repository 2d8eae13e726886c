"""How costs grow with the work: exponents, and a picture.

    .venv/bin/python benchmarks/growth_cost.py [--png growth.png] [--quick]

Each cost is measured at several sizes of the work; the exponent is the slope of log cost over log
work, by least squares, over all of them (1: twice the work, twice the cost), with its 95 % interval
by Student's t; `each further` is the slope of the cost itself. Window length: one
mn04 window (random weights, float32, one thread). Rows: one query of a bank, every row compared,
and by its index. Clips: embedding so many windows of 10 s. Healthy rows: fitting a detector's row
constants. For machines see `agent_cost.py`, whose figures --agent adds. For
recordings and hours see `learn_growth.py`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from growth_fit import each_further, power
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from rich.console import Console
from rich.table import Table
from small_bundle import FEATURES, noise

from agent.bundle.manifest import Row
from agent.config.scorer_knn import KnnConfig
from agent.learn.embed import embed
from agent.score.bank import MemoryBank
from agent.score.cells import CellSearch
from agent.score.index import choose_index
from agent.score.knn import KnnScorer
from agent.score.normalize import fit_constants
from trainer.encoders.mn04 import Mn04
from trainer.graph.encoder_info import encoder_info
from trainer.graph.onnx_graph import OPSET, export_graph

_DIM = 128
_REPEATS = 15
_TOLD = "processor, ms"


def milliseconds(do: Callable[[], object], repeats: int = _REPEATS) -> float:
    """Of processor, the median."""
    do()
    spent = []
    for _ in range(repeats):
        start = time.process_time()
        do()
        spent.append(1e3 * (time.process_time() - start))
    return float(np.median(spent))


def by_window(folder: Path, lengths: Sequence[float]) -> list[float]:
    """Milliseconds of one window of so many seconds."""
    found = []
    for seconds in lengths:
        encoder = Mn04(window_seconds=seconds, features=FEATURES).eval()
        graph = export_graph(encoder, folder / "float.onnx")
        info = encoder_info(encoder, "float32", OPSET)
        windows = noise(5, encoder.window_samples)
        start = milliseconds(partial(embed, graph.path, info, windows[:1]), 3)
        whole = milliseconds(partial(embed, graph.path, info, windows), 3)
        found.append((whole - start) / (len(windows) - 1))
    return found


def by_clips(folder: Path, counts: Sequence[int]) -> list[float]:
    """Milliseconds of embedding so many windows of 10 s."""
    encoder = Mn04(window_seconds=10.0, features=FEATURES).eval()
    graph = export_graph(encoder, folder / "float.onnx")
    info = encoder_info(encoder, "float32", OPSET)
    windows = noise(max(counts), encoder.window_samples)
    return [milliseconds(partial(embed, graph.path, info, windows[:n]), 2) for n in counts]


def scorer_of(rows: int) -> tuple[KnnScorer, np.ndarray]:
    """A bank on patches of the sphere, and a query."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(100, _DIM))
    vectors = centres[random.integers(0, 100, rows)] + 0.3 * random.normal(size=(rows, _DIM))
    row = Row(source="r", start=0.0, group="r")
    bank = MemoryBank(
        vectors.astype(np.float32), np.tile(np.float32([1, 0]), (rows, 1)), (row,) * rows
    )
    return KnnScorer(bank, KnnConfig(normalization="none")), bank.vectors[:1] + np.float32(0.01)


def ask(scorer: KnnScorer, query: np.ndarray, times: int) -> None:
    for _ in range(times):
        scorer.score(query)


def by_rows(counts: Sequence[int], *, indexed: bool) -> list[float]:
    """Milliseconds of one query."""
    found = []
    for rows in counts:
        scorer, query = scorer_of(rows)
        scorer.start()
        if indexed:
            # As read from a bundle, whatever the bank's size.
            vectors = scorer.bank.vectors
            groups = [str(i // 10) for i in range(rows)]
            index = scorer.index = choose_index(vectors, "cosine", 0.99, groups)
            cells = index.cells
            apart = index.numbers(vectors, "cosine")[cells.rows] - cells.centres[cells.cell]
            scorer._search = CellSearch(cells, [apart])  # noqa: SLF001
        many = max(20, 200_000 // rows)
        found.append(milliseconds(partial(ask, scorer, query, many), 5) / many)
    return found


def by_healthy(counts: Sequence[int]) -> list[float]:
    """Milliseconds of fitting row constants."""
    random, found = np.random.default_rng(0), []
    for rows in counts:
        vectors = random.normal(size=(rows, _DIM)).astype(np.float32)
        groups = [str(i // 2) for i in range(rows)]
        config = KnnConfig(normalization="varmin")
        found.append(milliseconds(partial(fit_constants, vectors, groups, config), 3))
    return found


def picture(found: list[dict[str, object]], path: Path) -> None:
    """A panel for each, logarithmic both ways, with the power that was fitted."""
    columns = min(3, len(found))
    lines = -(-len(found) // columns)
    figure = Figure(figsize=(3.7 * columns, 3 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for axis, one in zip(axes, found, strict=False):
        work, cost = np.asarray(one["work"], float), np.asarray(one["cost_ms"], float)
        slope = power(work, cost)
        middle = np.exp(np.mean(np.log(cost) - slope.value * np.log(work)))
        axis.loglog(work, middle * work**slope.value, "--", color="tab:gray")
        axis.loglog(work, cost, "o", color="tab:blue")
        axis.set_title(f"{one['what']}\n{one['unit']} to the power of {slope}", fontsize=9)
        axis.set_xlabel(str(one["unit"]))
        axis.set_ylabel(str(one.get("told", _TOLD)))
        axis.set_xticks(work, [f"{size:,g}" for size in work], fontsize=8)
        # A decade at least: what hardly grows is to look so.
        centre, reach = np.sqrt(min(cost) * max(cost)), max(10.0, 1.5 * max(cost) / min(cost))
        axis.set_ylim(centre / np.sqrt(reach), centre * np.sqrt(reach))
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if reach < 100 else (1,)))
        axis.yaxis.set_major_formatter("{x:,g}")
        axis.yaxis.set_minor_formatter("")
        axis.xaxis.set_minor_formatter("")
        axis.grid(visible=True, which="major", alpha=0.3)
    for axis in axes[len(found) :]:
        axis.set_visible(False)
    figure.savefig(path, dpi=100)


def curve(
    what: str, unit: str, work: Sequence[float], cost: Sequence[float], told: str = _TOLD
) -> dict[str, object]:
    """One cost as it is kept; `told` says what of it was measured."""
    return {
        "what": what, "unit": unit, "work": list(work), "cost_ms": list(cost), "told": told,
        "exponent": power(work, cost).value,
    }  # fmt: skip


def measured(*, small: bool) -> list[dict[str, object]]:
    """Every cost that is measured here."""
    torch.manual_seed(0)
    lengths = [2.0, 5.0, 10.0] if small else [1.0, 2.0, 5.0, 10.0, 20.0, 40.0]
    counts = [8, 16, 32] if small else [8, 16, 32, 64, 128]
    rows = [1000, 4000, 16_000] if small else [1000, 4000, 16_000, 64_000, 256_000]
    graphs = rows if small else [1000, 2000, 4000, 8000, 16_000]  # larger ones take minutes
    healthy = [500, 1000, 2000] if small else [500, 1000, 2000, 4000, 8000]
    with tempfile.TemporaryDirectory(prefix="auscult-bench-") as place:
        folder = Path(place)
        found = [
            curve("a window", "seconds of sound", lengths, by_window(folder, lengths)),
            curve("embedding", "windows", counts, by_clips(folder, counts)),
        ]
    return [
        *found,
        curve("a query, all rows", "rows", rows, by_rows(rows, indexed=False)),
        curve("a query, by index", "rows", graphs, by_rows(graphs, indexed=True)),
        curve("row constants", "healthy rows", healthy, by_healthy(healthy)),
    ]


def by_machines(path: Path) -> list[dict[str, object]]:
    """What agent_cost.py measured of the agent: a second of all machines, and its memory."""
    ours = [one for one in json.loads(path.read_text()) if one["way"] == "auscult"]
    machines = [one["machines"] for one in ours]
    # By the window: on a busy computer some come too late to be counted by the second.
    a_second = [one["window_cpu_ms"] * one["machines"] / float(one["hop"]) for one in ours]
    resident = [one["memory_mb"] for one in ours]
    return [
        curve("the agent, a second", "machines", machines, a_second),
        curve("the agent, memory", "machines", machines, resident, "resident, MB"),
    ]


def show(found: list[dict[str, object]]) -> Table:
    """A line for each cost."""
    table = Table(title="How costs grow", title_justify="left")
    headings = ("cost", "work", "from", "to", "exponent (95 %)", "each further (95 %)")
    for heading in (*headings, "of"):
        table.add_column(heading)
    for one in found:
        work, cost = one["work"], one["cost_ms"]
        further = each_further(work, cost)
        table.add_row(
            str(one["what"]), str(one["unit"]), f"{work[0]:,g}: {cost[0]:.3g}",
            f"{work[-1]:,g}: {cost[-1]:.3g}", str(power(work, cost)),
            f"{further.value:.3g} ({further.low:.3g} to {further.high:.3g})",
            str(one.get("told", _TOLD)),
        )  # fmt: skip
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--png", type=Path, help="picture to write")
    parser.add_argument("--agent", type=Path, help="JSON of agent_cost.py, for machines")
    parser.add_argument("--quick", action="store_true", help="fewer sizes")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument(
        "--from", dest="kept", nargs="*", type=Path,
        help="tell what earlier --json of this script and of learn_growth.py hold; measure nothing",
    )  # fmt: skip
    chosen = parser.parse_args()
    if chosen.kept is not None:
        texts = [path.read_text(encoding="utf-8") for path in chosen.kept]
        found = [one for text in texts for one in json.loads(text)]
    else:
        found = measured(small=chosen.quick)
    if chosen.agent:
        found += by_machines(chosen.agent)
    Console(width=150).print(show(found))
    if chosen.png:
        picture(found, chosen.png)
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
