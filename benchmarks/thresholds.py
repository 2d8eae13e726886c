# ruff: noqa: ANN001, ANN201 - a script
"""Promised against realised false-alarm rate of each threshold rule, on healthy windows alone.

Healthy recordings are split at random in two, again and again: one half makes the bank and, with
its leave-one-recording-out scores, the threshold by each rule; of the other half, which neither has
heard, the share above the threshold is counted. Embeddings are the spectral shape, scored by
the cosine distance to the nearest healthy window.

    python benchmarks/thresholds.py [--splits 20] [--json F] [--png F] [--shared ../shared]

Machines: ToyCar (DCASE 2023, training recordings), a drone's healthy flights, the first half of
life of two bearings (FEMTO, a second of ten snapshots at a time, five such a recording), two
synthetic machines. The bearings also `in time`: the first half of that half calibrates, the rest is
held out, which asks for what no rule promises, that tomorrow is as yesterday.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import soxr
import torch
from rich.console import Console
from rich.table import Table

from agent.bundle.manifest import Row
from agent.calibrate.limits import calibrate
from agent.config.scorer_knn import KnnConfig
from agent.config.threshold import ThresholdRule
from agent.core.errors import AuscultError
from agent.recordings.load import load_machines
from agent.recordings.windows import healthy_windows
from agent.score.build import build_scorer, fit_state, healthy_scores
from agent.score.scorer import HealthySet
from trainer.encoders.shape import SpectralShape
from trainer.synth.dataset import Counts, write_dataset
from trainer.synth.design import design_machine

RATES = (0.1, 0.05, 0.01)
RULES = {
    "tail": {"kind": "tail"},
    "gamma": {"kind": "gamma"},
    "mean + k sigma": {"kind": "mean_sigma"},
    "conformal": {"kind": "conformal"},
    "conformal, pooled": {"kind": "conformal", "domains": "pooled"},
    "gamma, pooled": {"kind": "gamma", "domains": "pooled"},
}
SECONDS = 10.0
# Distances as they are: a normalised one may be negative, of which there is no gamma law.
SCORER = KnnConfig(normalization="none")


def embedded(waveforms, seconds: float = SECONDS):
    encoder = SpectralShape(window_seconds=seconds).eval()
    with torch.inference_mode():
        parts = [encoder(torch.from_numpy(w[None]))[0].numpy() for w in waveforms]
    return np.stack(parts).astype(np.float32)


def of_recordings(root: Path, name: str | None = None) -> HealthySet:
    (machine,) = load_machines(root, () if name is None else (name,))
    windows = healthy_windows(machine, rate=16000, window_samples=160_000, hop_samples=80_000)
    return HealthySet(embedded(windows.waveforms), windows.rows)


def synthetic(seed: int) -> HealthySet:
    with tempfile.TemporaryDirectory() as folder:
        counts = Counts(train_source=72, train_target=16, test_normal=0, test_anomaly=0)
        write_dataset(Path(folder), design_machine(seed), seed=seed, counts=counts)
        return of_recordings(Path(folder))


def bearing(path: Path) -> HealthySet:
    with np.load(path) as file:
        x = file["x"][: len(file["x"]) // 2, :, 0].astype(np.float32)
    pieces = [x[i : i + 10].reshape(-1) for i in range(0, len(x) - 9, 10)]
    sounds = [soxr.resample(p / 50.0, 25_600, 16_000)[:16_000] for p in pieces]
    rows = [
        Row(source=f"{i // 5:03d}", start=float(i % 5), group=f"{i // 5:03d}")
        for i in range(len(sounds))
    ]
    return HealthySet(embedded(sounds, 1.0), rows)


def halves(healthy: HealthySet, rng) -> np.ndarray:
    """Windows of a random half of the recordings of each domain."""
    chosen: set[str] = set()
    for domain in sorted(set(healthy.domains)):
        names = sorted({r.group for r in healthy.rows if r.domain == domain})
        chosen |= set(rng.permutation(names)[: (len(names) + 1) // 2].tolist())
    return np.array([row.group in chosen for row in healthy.rows])


def realised(healthy: HealthySet, inside) -> dict[tuple[str, float], tuple[int, int]]:
    """Windows above the threshold and windows held out, by rule and rate."""
    known, held_out = healthy.among(inside), healthy.among(~inside)
    judge = build_scorer(SCORER, known, fit_state(known, SCORER))
    judge.start()
    scores, _ = judge.score(held_out.vectors)
    (healthy_own,) = healthy_scores(known, SCORER)
    found = {}
    for name, options in RULES.items():
        for rate in RATES:
            rule = ThresholdRule(false_alarm_rate=rate, **options)
            limit = calibrate(healthy_own, known.groups, rule, domains=known.domains).value
            found[name, rate] = (int((scores > limit).sum()), len(held_out))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--png", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    console = Console(width=130)
    data = options.shared / "data"
    sources = {
        "ToyCar": lambda: of_recordings(data / "dcase2023", "ToyCar"),
        "drone flights": lambda: of_recordings(_drone(data)),
        "Bearing1_2": lambda: bearing(data / "femto" / "Bearing1_2.npz"),
        "Bearing3_1": lambda: bearing(data / "femto" / "Bearing3_1.npz"),
        "synthetic 1": lambda: synthetic(1),
        "synthetic 2": lambda: synthetic(2),
    }
    results: dict[str, dict] = {}
    for machine, read in sources.items():
        try:
            healthy = read()
        except (OSError, AuscultError) as fault:
            console.print(f"{machine}: left out: {fault}")
            continue
        rng = np.random.default_rng(0)
        runs = [realised(healthy, halves(healthy, rng)) for _ in range(options.splits)]
        results[machine] = _record(healthy, runs)
        if machine.startswith("Bearing"):
            order = sorted({row.group for row in healthy.rows})
            early = set(order[: len(order) // 2])
            inside = np.array([row.group in early for row in healthy.rows])
            results[f"{machine} in time"] = _record(healthy, [realised(healthy, inside)])
        console.print(_table(machine, results))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if options.png:
        draw(results, options.png)


def _drone(data: Path) -> Path:
    """The healthy flights in the layout that the trainer reads."""
    root = Path(tempfile.mkdtemp(prefix="drone-"))
    (root / "drone" / "normal").mkdir(parents=True)
    flights = sorted((data / "upaad" / "normal").glob("*.flac"))
    if not flights:
        raise FileNotFoundError(data / "upaad")
    for path in flights:
        (root / "drone" / "normal" / path.name).symlink_to(path.resolve())
    return root


def _record(healthy: HealthySet, runs) -> dict:
    table = {}
    for name in RULES:
        table[name] = {}
        for rate in RATES:
            shares = [above / total for above, total in (run[name, rate] for run in runs)]
            table[name][str(rate)] = {
                "mean": float(np.mean(shares)),
                "low": float(np.quantile(shares, 0.05)),
                "high": float(np.quantile(shares, 0.95)),
            }
    recordings = {d: len({r.group for r in healthy.rows if r.domain == d}) for d in healthy.domains}
    return {
        "windows": len(healthy), "recordings": recordings, "splits": len(runs), "rules": table
    }  # fmt: skip


def _table(machine: str, results) -> Table:
    shown = Table(title=f"{machine}: share of held-out healthy windows above the threshold")
    shown.add_column("rule")
    for rate in RATES:
        shown.add_column(f"promised {rate:g}", justify="right")
    for key in (machine, f"{machine} in time"):
        for name in RULES if key in results else ():
            cells = [results[key]["rules"][name][str(rate)] for rate in RATES]
            shown.add_row(
                name + (" (in time)" if key != machine else ""),
                *(f"{c['mean']:.3f} ({c['low']:.3f} to {c['high']:.3f})" for c in cells),
            )
    return shown


def draw(results, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.4 * ((len(results) + 2) // 3)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots((len(results) + 2) // 3, 3, squeeze=False).ravel()
    colours = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
    for panel, (machine, found) in zip(panels, results.items(), strict=False):
        panel.plot(RATES, RATES, color="black", lw=0.8, ls="--")
        for place, (name, colour) in enumerate(zip(RULES, colours, strict=True)):
            cells = [found["rules"][name][str(rate)] for rate in RATES]
            x = np.array(RATES) * (1 + 0.05 * (place - 2.5))
            mean = np.array([c["mean"] for c in cells])
            ends = [mean - [c["low"] for c in cells], [c["high"] for c in cells] - mean]
            panel.errorbar(
                x, mean, yerr=np.maximum(ends, 0), fmt="o", ms=4, color=colour, label=name
            )
        panel.set(xscale="log", yscale="symlog", title=machine, xlim=(0.006, 0.18))
        panel.set_yscale("symlog", linthresh=0.005)
        panel.set_ylim(-0.0005, 1)
        panel.set_xticks(RATES, [f"{rate:g}" for rate in RATES])
        panel.set_yticks([0, 0.01, 0.05, 0.1, 0.5], ["0", "0.01", "0.05", "0.1", "0.5"])
        panel.minorticks_off()
    for panel in panels[len(results) :]:
        panel.axis("off")
    panels[0].legend(fontsize=7, frameon=False)
    figure.supxlabel("promised")
    figure.supylabel("realised: mean of splits, and 5 to 95 % of them")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
