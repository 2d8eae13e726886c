"""Defaults and floors on every machine of `machines.py`, float32, without writing a bundle.

Recordings are embedded once and kept; each preset's scorer is then checked, fitted and asked by the
code that export and agent use, so that the figures are those of its float32 bundle (motor 1 of 30
and both floors were compared: equal to the last digit shown). Minutes where `development.py`, which
exports, takes hours. Printed: harmonic mean of the areas with its bootstrap interval, and what lies
further below the better floor than is allowed.

    python benchmarks/machines.py --shared ../shared --out MACHINES
    python benchmarks/preset_figures.py MACHINES --weights ../shared/weights --cache FOLDER
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from view_choice import ALLOWED, SECONDS, embedded, family, figure

from agent.bundle.manifest import Row
from agent.calibrate.check import trusted
from agent.recordings.load import load_machines
from agent.recordings.model import Machine
from agent.score.build import build_scorer, fit_state
from agent.score.scorer import HealthySet
from trainer.encoders.base import Encoder, placed
from trainer.encoders.registry import build_encoder
from trainer.metrics.bootstrap import bootstrap, interval
from trainer.preset import Preset
from trainer.preset_file import load_preset

PRESETS = ("auscult_scratch", "auscult_small")
FLOORS = ("log_mel", "loudness")


def clip_scores(
    kept: dict[str, np.ndarray], machine: Machine, preset: Preset, encoder: Encoder
) -> np.ndarray:
    """Scores of the test recordings, shape `(n,)`, as the preset's float32 bundle gives them."""
    recordings = machine.of("normal")
    rows = [
        Row(source=str(i), start=0.0, group=str(i), domain=recordings[i].domain)
        for i in kept["normal_of"]
    ]
    healthy = HealthySet(kept["normal"], rows)
    used, _ = trusted(healthy, placed(preset.scorer, encoder))
    scorer = build_scorer(used, healthy, fit_state(healthy, used))
    scorer.start()
    scores, _ = scorer.score(kept["test"])
    owner = kept["test_of"]
    return np.bincount(owner, scores) / np.bincount(owner)


def told(machine: Machine, scores: np.ndarray) -> tuple[float, str]:
    """Harmonic mean of the areas, %, and it with its interval in words."""
    tests = machine.of("test")
    drawn = bootstrap([t.label for t in tests], [t.domain for t in tests], scores).hmean()
    low, high = interval(drawn)
    value = figure(machine, scores)
    return value, f"{value:.1f} [{100 * low:.0f}, {100 * high:.0f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("machines", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--machine", action="append", help="only these; repeat it")
    args = parser.parse_args()
    args.cache.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    console = Console(width=160)
    presets = {name: load_preset(name) for name in (*PRESETS, *FLOORS)}
    encoders = {
        name: build_encoder(preset.encoder, window_seconds=SECONDS, weights=args.weights, seed=0)
        for name, preset in presets.items()
    }
    table = Table("machine", *presets, title="harmonic mean of the areas, %, [95 % interval]")
    values: dict[str, list[float]] = {}
    for machine in load_machines(args.machines, tuple(args.machine or ())):
        row = []
        for name, preset in presets.items():
            kept = embedded(encoders[name], machine, args.cache, name)
            row.append(told(machine, clip_scores(kept, machine, preset, encoders[name])))
        values[machine.name] = [value for value, _ in row]
        table.add_row(machine.name, *(text for _, text in row))
        console.print(f"{machine.name}: {', '.join(text for _, text in row)}", style="dim")
    console.print(table)
    means = Table("family", *presets, title="mean over the sets of a family, %")
    for name in dict.fromkeys(map(family, values)):
        own = np.mean([row for place, row in values.items() if family(place) == name], axis=0)
        means.add_row(name, *(f"{value:.1f}" for value in own))
    console.print(means)
    for place, row in values.items():
        floor = max(row[len(PRESETS) :])
        for name, value in zip(PRESETS, row, strict=False):
            if value < floor - ALLOWED:
                console.print(f"{place}: {name} is {floor - value:.1f} below the better floor")


if __name__ == "__main__":
    main()
