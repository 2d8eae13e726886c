"""How large banks grow, from the figures of benchmarks/large_banks.py: exponents, and a picture.

    .venv/bin/python benchmarks/large_banks_growth.py FILE.json ... [--png growth.png]

Each figure is fitted by a power of the number of rows (least squares of the logarithms), with the
95 % interval of the exponent by Student's t; of three sizes or more. Up to 20,000 rows every row
is compared, by a product: of ours larger banks alone are fitted.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from growth_fit import FEWEST, power
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

FIGURES = {
    "cpu_p50_ms": "processor time of a query, median, ms",
    "cpu_p99_ms": "processor time of a query, 99 %, ms",
    "build_cpu_s": "processor time of building, s",
    "resident_mb": "resident after the queries, MB",
}
_COMPARED = 20_000


def read(paths: list[Path]) -> list[dict[str, Any]]:
    """All figures; of the same rows and way the last file's."""
    found: dict[tuple[int, str], dict[str, Any]] = {}
    for path in paths:
        for one in json.loads(path.read_bytes()):
            found[one["rows"], one["way"]] = one
    return sorted(found.values(), key=lambda one: (one["way"], one["rows"]))


def fitted(found: list[dict[str, Any]], way: str, name: str) -> tuple[list[dict[str, Any]], str]:
    """What is fitted, and the exponent in words; empty with fewer than three sizes."""
    mine = [one for one in found if one["way"] == way and one.get(name, 0) > 0]
    if way == "ours":
        mine = [one for one in mine if one["rows"] > _COMPARED]
    if len(mine) < FEWEST:
        return mine, ""
    return mine, str(power([one["rows"] for one in mine], [one[name] for one in mine]))


def picture(found: list[dict[str, Any]], path: Path) -> None:
    """One panel a figure, logarithmic."""
    figure = Figure(figsize=(10, 7.5), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (name, title) in zip(figure.subplots(2, 2).ravel(), FIGURES.items(), strict=True):
        for way in dict.fromkeys(one["way"] for one in found):
            mine = [one for one in found if one["way"] == way and one.get(name, 0) > 0]
            if way == "product" and name == "build_cpu_s":  # nothing is built
                continue
            told = fitted(found, way, name)[1]
            axes.loglog(
                [one["rows"] for one in mine], [one[name] for one in mine], marker="o",
                label=f"{way}{': rows^' + told.split()[0] if told else ''}",
            )  # fmt: skip
        axes.set(title=title, xlabel="rows of 768 values")
        axes.grid(visible=True, which="major", alpha=0.3)
        axes.legend(fontsize=8)
    figure.savefig(path, dpi=80)


def main() -> None:
    """Fit, draw, tell."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--png", type=Path)
    chosen = parser.parse_args()
    found = read(chosen.files)
    table = Table(title="grows by this power of the rows (95 %)")
    for heading in ("way", *FIGURES):
        table.add_column(heading)
    for way in dict.fromkeys(one["way"] for one in found):
        table.add_row(way, *(fitted(found, way, name)[1] for name in FIGURES))
    Console(width=140).print(table)
    if chosen.png:
        picture(found, chosen.png)


if __name__ == "__main__":
    main()
