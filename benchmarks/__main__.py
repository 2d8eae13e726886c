"""Every benchmark of speed in a quick form: one table, and JSON named by the commit.

    .venv/bin/python benchmarks [--only NAME ...] [--out FOLDER]

Each is a script of its own with a `--json`, run here one after another in a process of its own, in
sizes that take some ten minutes in all; one that fails is told, and the others go on (the exit code
is 1 then). Ratios are to a peer measured in the same run. The sizes of docs/notes/speed.md are
those of the scripts' own defaults.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from agent.encode.processor import in_words, this_processor

_HERE = Path(__file__).parent
_LIMIT_SECONDS = 400.0
# Name of the measurement, value in words, ratio to its peer in words.
Line = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A script, the arguments of its quick form, and what of its figures to tell."""

    script: str
    arguments: tuple[str, ...]
    lines: Callable[[Any], Iterator[Line]]


def _agent(found: list[dict[str, Any]]) -> Iterator[Line]:
    for one in found:
        if one["way"] != "auscult":
            continue
        peers = [o for o in found if o["way"] != "auscult" and o["machines"] == one["machines"]]
        what = f"{one['machines']} machines"
        for name, key, unit in (
            ("first score", "start_s", "s"), ("CPU a window", "window_cpu_ms", "ms"),
            ("of a core", "core_percent", "%"), ("memory", "memory_mb", "MB"),
        ):  # fmt: skip
            ratio = f"{peers[0][key] / one[key]:.2f} x plain" if peers else ""
            yield f"{what}: {name}", f"{one[key]:.2f} {unit}", ratio
        if one["machines"] == 1:
            yield f"{what}: idle", f"{one['idle_percent']:.2f} %", ""


def _bank(found: list[dict[str, Any]]) -> Iterator[Line]:
    for one in found:
        yield (
            f"{one['rows']:,} x {one['dim']}, {one['way']}",
            f"{one['p50_ms']:.3f} ms, {one['memory_mb']:.0f} MB, recall {one['recall']:.3f}",
            f"{one['ratio']:.2f} x NumPy",
        )


def _trainer(found: list[dict[str, Any]]) -> Iterator[Line]:
    clips = {one["way"]: one for one in found if one["what"] == "embedding"}
    ours, plain = clips["auscult"], clips["plain loop"]
    ratio = f"{ours['per_second'] / plain['per_second']:.2f} x plain"
    yield "embedding recordings", f"{ours['per_second']:.1f} clips/s", ratio
    for one in found:
        if one["what"] == "INT8":
            value = f"{one['seconds']:.1f} s, cosine {one['cosine']:.4f}"
            yield f"INT8, {one['way']}", value, ""


def _growth(found: list[dict[str, Any]]) -> Iterator[Line]:
    for one in found:
        yield f"growth: {one['what']} by {one['unit']}", f"exponent {one['exponent']:.2f}", ""


def _beats(found: list[dict[str, Any]]) -> Iterator[Line]:
    for one in found:
        if "peak_mb" not in one:
            yield (
                f"{one['way']}: all products in INT8 at their best",
                f"{one['wall_ms']:.0f} ms",
                "",
            )
            continue
        ratio = f"{one['wall_ratio']:.2f} x reference, memory {one['peak_ratio']:.2f} x"
        yield one["way"], f"{one['wall_ms']:.0f} ms, {one['peak_mb']:.0f} MB", ratio


def _small(found: dict[str, Any]) -> Iterator[Line]:
    for model, result in found["models"].items():
        for way, one in result["ways"].items():
            ratio = f"{one['times_torch']:.2f} x torch" if "times_torch" in one else ""
            if "times_hop_10" in one:
                ratio = f"{one['times_hop_10']:.2f} x hop of 10 s"
            yield f"{model}, {way}", f"{one['cpu_ms']:.1f} ms of processor", ratio


def _page(found: dict[str, Any]) -> Iterator[Line]:
    shares = found["percent_of_a_core"]
    first = next(iter(shares.values()))
    for what, share in shares.items():
        yield what, f"{share:.2f} % of a core", f"{share / first:.2f} x without the page"
    yield "weight", f"{found['page_bytes'] / 1000:.0f} kB in {found['page_files']} files", ""
    for what, milliseconds in (found["first_picture"] or {}).items():
        yield what.removesuffix("_ms").replace("_", " "), f"{milliseconds:.0f} ms", ""


BENCHMARKS = {
    "agent": Benchmark("agent_cost.py", ("--machines", "1", "4", "--seconds", "8"), _agent),
    "bank": Benchmark(
        "bank_queries.py",
        ("--rows", "20000", "--dims", "128", "--ways", "ours", "flat-int8", "hnsw-int8"),
        _bank,
    ),
    "trainer": Benchmark(
        "trainer_cost.py",
        ("--clips", "16", "--calibration", "8", "--min-cosine", "0.5"),
        _trainer,
    ),
    "growth": Benchmark("growth_cost.py", ("--quick",), _growth),
    # The encoders' own, quick where they have such a form.
    "beats": Benchmark("beats.py", ("--quick",), _beats),
    "small": Benchmark("small_models.py", ("--quick",), _small),
    "page": Benchmark("web_cost.py", ("--seconds", "10"), _page),
}


def commit() -> str:
    """The commit measured, `-changed` where the tree is not it; `unknown` outside git."""
    try:
        said = subprocess.run(
            ["git", "describe", "--always", "--abbrev=9", "--dirty=-changed", "--exclude=*"],
            cwd=_HERE, capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return said.stdout.strip()


def run(benchmark: Benchmark, folder: Path) -> tuple[Any, str]:
    """The figures of a script, and why there are none."""
    place = folder / f"{benchmark.script}.json"
    environment = {**os.environ, "PYTHONPATH": str(_HERE.parent)}
    try:
        done = subprocess.run(
            [sys.executable, str(_HERE / benchmark.script), *benchmark.arguments, "--json", place],
            capture_output=True, text=True, check=False, timeout=_LIMIT_SECONDS, env=environment,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return None, f"not done in {_LIMIT_SECONDS:.0f} s"
    if done.returncode or not place.is_file():
        lines = done.stderr.strip().splitlines() or done.stdout.strip().splitlines()
        return None, lines[-1] if lines else f"it ended with code {done.returncode}"
    return json.loads(place.read_text(encoding="utf-8")), ""


def main() -> None:
    """Measure, tell, and keep."""
    there = {name: one for name, one in BENCHMARKS.items() if (_HERE / one.script).is_file()}
    parser = argparse.ArgumentParser(prog="benchmarks", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=there, default=list(there))
    parser.add_argument("--out", type=Path, default=Path("build/benchmarks"))
    chosen = parser.parse_args()
    console, measured = Console(width=120), commit()
    # INT8 is another speed with and without dot products: the title says what there was.
    processor = in_words(this_processor())
    table = Table(title=f"auscult {measured}, {processor}", title_justify="left")
    for heading in ("benchmark", "measured", "value", "ratio"):
        table.add_column(heading)
    kept: dict[str, Any] = {
        "commit": measured,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": f"{processor}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "results": {},
    }
    failed = 0
    chosen.out.mkdir(parents=True, exist_ok=True)
    path = chosen.out / f"{measured}.json"
    with tempfile.TemporaryDirectory(prefix="auscult-bench-") as place:
        for name in chosen.only:
            began = time.monotonic()
            found, fault = run(there[name], Path(place))
            console.print(f"{name}: {fault or 'done'} ({time.monotonic() - began:.0f} s)")
            if fault:
                failed += 1
                table.add_row(name, "failed", fault, "")
                continue
            kept["results"][name] = found
            # After each: what was measured stays when a later one is broken off.
            path.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
            for number, (what, value, ratio) in enumerate(there[name].lines(found)):
                table.add_row("" if number else name, what, value, ratio)
            table.add_section()
    console.print(table)
    if kept["results"]:
        console.print(f"{path}: written")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
