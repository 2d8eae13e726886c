"""Drift monitors on made bearings run to failure, beside recorded ones.

    python benchmarks/drift_failures.py [--counts 300 600 1200] [--seeds 1] [--cache DIR]
        [--bearings DIR] [--only KIND ...] [--json F]

A sequence is judged as `auscult drift` judges it, by defaults: the first tenth of life is the
baseline. Counted are sequences warned of between 20 and 90 % of life and those silent between 10
and 20 %; of healthy machines, those warned of at all. Bands of made sequences are kept in --cache.
"""

from __future__ import annotations

import argparse
import json
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from agent.drift_fit.bands import band_statistics, plan_bands
from agent.drift_fit.settings import BAND_SETTINGS, band_tolerance
from trainer.drift.replay import replay
from trainer.drift.sequence import Sequence, Step
from trainer.synth.run_to_failure import AXES, HEALTHY, KINDS, LENGTH, RATE, run_to_failure

EARLY, LATE, YOUNG = 0.2, 0.9, 0.1
PLAN = plan_bands(RATE, LENGTH, AXES)


def bands(snapshots: np.ndarray) -> np.ndarray:
    return np.stack([band_statistics(one, PLAN) for one in snapshots])


def made(kind: str, count: int, seed: int, cache: Path | None) -> np.ndarray:
    """Band statistics of a made life."""
    decay = {**KINDS, **HEALTHY}[kind]
    # The name, not its place in the table, so that further kinds leave the others as they were.
    number = zlib.crc32(f"{kind} {count} {seed}".encode())
    path = None if cache is None else cache / f"{number:08x}-{zlib.crc32(str(decay).encode())}.npz"
    if path is not None and path.exists():
        return np.load(path)["bands"]
    found = bands(run_to_failure(decay, count, number))
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, bands=found)
    return found


def judged(features: np.ndarray) -> dict[str, list[float]]:
    """Where each monitor warned, shares of the life."""
    sequence = Sequence(
        features,
        tuple(Step("made", float(row)) for row in range(len(features))),
        PLAN.names, "dB", "band statistics", band_tolerance(PLAN),
    )  # fmt: skip
    done = replay(sequence, baseline=YOUNG, settings=BAND_SETTINGS)
    # The agent's limit of the median has DtMM's allowance too.
    settings = replace(BAND_SETTINGS, chart_allowance=True)
    agent = replay(sequence, baseline=YOUNG, settings=settings).charts["verdict"]
    traces = {**done.charts, "agent": agent}
    return {name: [at / len(features) for at in trace.warnings] for name, trace in traces.items()}


def warned(at: list[float]) -> bool:
    return any(EARLY <= one <= LATE for one in at)


def silent(at: list[float]) -> bool:
    return not any(YOUNG <= one < EARLY for one in at)


def tell(title: str, lives: dict[str, dict[str, list[float]]]) -> None:
    """Print how many lives were warned of in time, silent early, and where DtMM first warned."""
    names = list(next(iter(lives.values())))
    cells = [
        f"{name} {sum(warned(life[name]) for life in lives.values())}"
        f"/{sum(silent(life[name]) for life in lives.values())}"
        for name in names
    ]
    print(f"{title:24s} of {len(lives)}: {', '.join(cells)}")
    first = [f"{100 * life['dtmm'][0]:.0f}" if life["dtmm"] else "-" for life in lives.values()]
    print(f"{'':24s} first DtMM warning at % {' '.join(first)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=[300, 600, 1200])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--bearings", type=Path, help="Folder of npz in FEMTO's layout.")
    parser.add_argument("--only", nargs="+", default=[*KINDS, *HEALTHY])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found: dict[str, Any] = {}
    print("monitor warned between 20 and 90 % / silent between 10 and 20 % of life")
    if options.bearings is not None:
        found["bearings"] = {
            path.stem: judged(bands(np.load(path)["x"]))
            for path in sorted(options.bearings.glob("*.npz"))
        }
        tell("bearings", found["bearings"])
    for kind in options.only:
        found[kind] = {
            f"{count} {seed}": judged(made(kind, count, seed, options.cache))
            for count in options.counts
            for seed in range(options.seeds)
        }
        tell(kind, found[kind])
    for title, kinds in (("all decays", KINDS), ("all healthy", HEALTHY)):
        lives = {f"{kind} {name}": life for kind in kinds if kind in found
                 for name, life in found[kind].items()}  # fmt: skip
        if lives:
            tell(title, lives)
            told = {
                name: sum(bool(life[name]) for life in lives.values())
                for name in next(iter(lives.values()))
            }
            print(f"{'':24s} warned of at all: {told}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
