"""Drift monitors on synthetic machines: false warnings while healthy, delay when not.

    python benchmarks/drift_synthetic.py [--seeds 2] [--stationary 5000] [--json F]

Snapshots are 0.1 s of two channels at 25.6 kHz: four resonances excited by noise, a rotating tone,
a noise floor. The same default settings as `auscult drift` judge band statistics of them, with the
first tenth as baseline. Healthy cases never count as detected; faulty ones begin at 60 % (97 % for
the sudden one) of the sequence.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from scipy.signal import lfilter

from agent.drift_fit.bands import band_statistics, plan_bands
from agent.drift_fit.settings import (
    BAND_SETTINGS,
    EMBEDDING_SETTINGS,
    band_tolerance,
    embedding_tolerance,
)
from trainer.drift.replay import replay
from trainer.drift.sequence import Sequence, Step

RATE, LENGTH = 25600, 2560
HEALTHY = {
    "stationary": {},
    "autocorrelated, 0.8": {"memory": 0.8},
    "random walk, 3 dB at the end": {"walk": 3.0},
    "random walk, 6 dB at the end": {"walk": 6.0},
    "slow wander, 2 dB, 100 snapshots": {"wander": 2.0},
    "running-in, 6 dB": {"run_in": 6.0},
    "load step, 4 dB, at 40 %": {"load": 4.0},
    "load step, 8 dB, at 40 %": {"load": 8.0},
}
FAULTY = {
    "impacts grow": {"fault": "impact"},
    "impacts grow, after running-in": {"fault": "impact", "run_in": 6.0},
    "impacts grow, 2 dB wander": {"fault": "impact", "wander": 2.0},
    "all levels grow to 20 dB": {"fault": "broad"},
    "sudden 15 dB at 97 %": {"fault": "sudden"},
}


def resonance(hertz: float, width: float) -> tuple[list[float], list[float]]:
    radius = np.exp(-np.pi * width / RATE)
    return [1 - radius], [1, -2 * radius * np.cos(2 * np.pi * hertz / RATE), radius**2]


def machine(
    count: int,
    seed: int,
    *,
    walk: float = 0.0,
    wander: float = 0.0,
    memory: float = 0.0,
    run_in: float = 0.0,
    load: float = 0.0,
    fault: str = "",
) -> np.ndarray:
    """Band statistics of `count` snapshots, shape `(count, D)`."""
    rng = np.random.default_rng(seed)
    hertz = rng.uniform([150, 800, 3000, 7000], [400, 2000, 5500, 11000])
    widths, sizes = rng.uniform(50, 600, 4), rng.uniform(0.2, 1, (4, 2))
    levels = np.cumsum(rng.normal(0, walk / np.sqrt(count), (count, 4)), axis=0)
    levels += autoregressive(rng, count, np.exp(-1 / 100), wander)
    levels += autoregressive(rng, count, memory, 0.5)
    levels += run_in * np.exp(-np.arange(count) / (0.03 * count))[:, None]
    levels[int(0.4 * count) :] += load
    start = int((0.97 if fault == "sudden" else 0.6) * count)
    turn, time = rng.uniform(20, 40), np.arange(LENGTH) / RATE
    plan = plan_bands(RATE, LENGTH, 2)
    rows = []
    for index in range(count):
        x = 0.05 * rng.standard_normal((LENGTH, 2))
        for k in range(4):
            sound = lfilter(*resonance(hertz[k], widths[k]), rng.standard_normal(LENGTH))
            x += 10 ** (levels[index, k] / 20) * sizes[k] * (sound / sound.std())[:, None]
        x += 0.3 * np.sin(2 * np.pi * turn * time + rng.uniform(0, 2 * np.pi))[:, None]
        if fault and index >= start:
            grown = (index - start) / (count - start)
            if fault == "impact":
                hits = np.zeros(LENGTH)
                hits[rng.integers(0, 200) :: RATE // 110] = 1
                ring = lfilter(*resonance(4500, 400), hits)
                x += 8 * grown * (ring / np.abs(ring).max())[:, None] * [1, 0.7]
            else:
                x *= 10 ** (20 * grown / 20) if fault == "broad" else 6
        rows.append(band_statistics(x.astype(np.float32), plan))
    return np.stack(rows)


def autoregressive(rng: np.random.Generator, count: int, memory: float, size: float) -> np.ndarray:
    steps = rng.normal(0, size, (count, 4))
    steps[1:] *= np.sqrt(1 - memory**2)
    return lfilter([1], [1, -memory], steps, axis=0)


def judged(features: np.ndarray, *, bands: bool, baseline: float) -> dict[str, list[int]]:
    plan, wide = plan_bands(RATE, LENGTH, 2), features.shape[1]
    sequence = Sequence(
        features,
        tuple(Step("synthetic", float(row)) for row in range(len(features))),
        plan.names if bands else tuple(f"feature {i}" for i in range(wide)),
        "dB" if bands else "",
        "synthetic",
        band_tolerance(plan) if bands else embedding_tolerance(wide),
    )
    settings = BAND_SETTINGS if bands else EMBEDDING_SETTINGS
    done = replay(sequence, baseline=baseline, settings=settings)
    same = {f"{name} (same allowance)": made.warnings for name, made in done.tolerant.items()}
    return {name: made.warnings for name, made in done.charts.items()} | same


def hidden_causes(count: int, seed: int) -> np.ndarray:
    """Embedding-like stationary features: four common autocorrelated causes and noise."""
    rng = np.random.default_rng(seed)
    causes = autoregressive(rng, count, 0.5, 1.0)
    return causes @ rng.standard_normal((4, 32)) + 0.5 * rng.standard_normal((count, 32))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--stationary", type=int, default=5000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found: dict[str, dict[str, list[list[int]]]] = {}
    for name, settings in {**HEALTHY, **FAULTY}.items():
        case: dict[str, list[list[int]]] = {}
        for count in (250, 600):
            for seed in range(options.seeds):
                features = machine(count, 1000 + 10 * count + seed, **settings)
                for monitor, warnings in judged(features, bands=True, baseline=0.1).items():
                    # Per mille of the sequence, so that lengths compare.
                    case.setdefault(monitor, []).append([1000 * w // count for w in warnings])
        found[name] = case
        print(name)
        for monitor, runs in case.items():
            first = [run[0] / 10 for run in runs if run]
            print(
                f"  {monitor:24s} warned {len(first)}/{len(runs)}, first at % {first}", flush=True
            )
    case = {}
    for seed in range(3 * options.seeds):
        features = hidden_causes(options.stationary, seed)
        for monitor, warnings in judged(
            features, bands=False, baseline=200 / options.stationary
        ).items():
            case.setdefault(monitor, []).append(warnings)
    found["long stationary"] = case
    print(f"stationary, {options.stationary} windows, 200 of them baseline, 32 features")
    for monitor, runs in case.items():
        total = sum(len(run) for run in runs)
        watched = len(runs) * (options.stationary - 200)
        print(f"  {monitor:24s} {total} warnings in {watched} windows", flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
