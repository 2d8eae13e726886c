"""The table of all development machines: defaults and floors through exported bundles.

Each machine of `machines.py` is one `auscult evaluate` of both defaults, INT8 and float32, and the
floors, told as a harmonic mean of the areas with its bootstrap interval; beside it the processor
time of a window through the INT8 bundle, one thread, and the flags of the processor that it ran on.
What is done is kept in --out, a file a machine: run it again to go on, or to print what is there.
Full sets come first, then draws of few recordings.

    python benchmarks/machines.py --shared ../shared --out MACHINES
    python benchmarks/development.py MACHINES --weights WEIGHTS --out FOLDER [--machine M ...]
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from rich.console import Console
from rich.table import Table

from agent.deploy.load import open_bundle
from agent.encode.processor import this_processor

PRESETS = ("auscult_scratch", "auscult_small")
COLUMNS = (
    "auscult_scratch", "auscult_small (int8)", "auscult_small (float32)", "log_mel", "loudness",
)  # fmt: skip
_WINDOWS = 20


def in_order(names: list[str]) -> list[str]:
    """Full sets first, then draws."""
    full = [name for name in names if not re.search(r"-\d+[a-z]?$", name)]
    large = [name for name in names if name.endswith(("-100", "-30"))]
    return [*dict.fromkeys([*full, *large, *names])]


def evaluated(
    data: Path, machine: str, weights: Path, out: Path, presets: tuple[str, ...] = PRESETS
) -> dict[str, Any]:
    """The figures of a machine; from the file where they are kept, if they are."""
    place = out / f"{machine}.json"
    if place.is_file():
        return dict(json.loads(place.read_text()))
    work, results = out / "work" / machine, out / "work" / f"{machine}.json"
    command = [
        sys.executable, "-c", "from agent.cli import main; main()", "evaluate", str(data),
        "--machine", machine, "--weights", str(weights), "--compare-float", "--reuse",
        "--out", str(work), "--json", str(results),
    ]  # fmt: skip
    command += [word for preset in presets for word in ("--preset", preset)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if not results.is_file():
        sys.exit(f"{machine}: {done.stderr[-2000:]}")
    found = json.loads(results.read_text())
    processor = this_processor()
    kept = {
        "machine": machine,
        "processor": {"model": processor.model, "flags": list(processor.flags)},
        "ms": {
            path.parts[-4]: window_ms(path)
            for path in sorted(work.glob("work/auscult_*/*/seed_0/bundle-*"))
            if path.is_dir() and not path.name.endswith(".inputs")
        },
        "systems": {
            name: {
                key: own["machines"][machine][key]
                for key in ("auc_source", "auc_target", "pauc", "hmean", "interval", "at_threshold")
            }
            for name, own in found["presets"].items()
            if machine in own["machines"]
        },
        "failures": found["failures"],
    }
    place.write_text(json.dumps(kept, indent=1))
    return kept


def window_ms(bundle: Path) -> float:
    """Processor time of a window through a bundle's whole graph, one thread, milliseconds."""
    opened = open_bundle(bundle)
    encoder = opened.manifest.encoder
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(bundle / "encoder.onnx", options)
    sound = np.random.default_rng(0).normal(0, 0.05, (1, encoder.window_samples))
    feed = {session.get_inputs()[0].name: sound.astype(np.float32)}
    session.run(None, feed)
    start = time.process_time()
    for _ in range(_WINDOWS):
        session.run(None, feed)
    return round(1000 * (time.process_time() - start) / _WINDOWS, 2)


def cell(found: dict[str, Any], name: str) -> str:
    """Harmonic mean and interval, %, and what the threshold does."""
    own = found["systems"].get(name) or found["systems"].get(name.partition(" ")[0])
    if own is None:
        return "-"
    low, high = own["interval"]
    return f"{100 * own['hmean']:.1f} [{100 * low:.0f}, {100 * high:.0f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("machines", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--machine", action="append", help="only these; repeat it")
    parser.add_argument("--preset", action="append", help="only these; repeat it")
    parser.add_argument("--print", action="store_true", help="only what is there already")
    parser.add_argument("--markdown", action="store_true")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    console = Console(width=200)
    names = in_order(sorted(place.name for place in args.machines.iterdir() if place.is_dir()))
    presets = tuple(args.preset or PRESETS)
    found = []
    for name in names if args.machine is None else args.machine:
        if args.print and not (args.out / f"{name}.json").is_file():
            continue
        started = time.monotonic()
        found.append(evaluated(args.machines, name, args.weights, args.out, presets))
        if time.monotonic() - started > 1.0:
            shown = ", ".join(f"{column} {cell(found[-1], column)}" for column in COLUMNS)
            console.print(f"{name}: {shown}", style="dim")
    rows = [[one["machine"], *(cell(one, column) for column in COLUMNS)] for one in found]
    flags = sorted({" ".join(one["processor"]["flags"]) for one in found})
    if args.markdown:
        for row in (["machine", *COLUMNS], ["---"] * (1 + len(COLUMNS)), *rows):
            print("| " + " | ".join(row) + " |")
    else:
        table = Table("machine", *COLUMNS, title="harmonic mean of the areas, %, [95 % interval]")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    for name in sorted({name for one in found for name in one["ms"]}):
        times = [one["ms"][name] for one in found if name in one["ms"]]
        console.print(f"{name}: {np.median(times):.1f} ms a window (one thread, median)")
    console.print(f"processor: {'; '.join(flags)}")


if __name__ == "__main__":
    main()
