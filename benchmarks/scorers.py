"""Every scorer on every embedding, over several data sets: harmonic means with their intervals.

    .venv/bin/python benchmarks/scorers.py DATA [DATA ...] --preset spectral_shape --preset mn04 \
        [--bundle MACHINE=FOLDER] [--weights FOLDER] [--json FILE]

Each preset is trained and exported once for each machine (float32, since the scorers are compared
and not the arithmetic); `--bundle` takes an exported one in its place, for encoders that are
trained. Scorers are fitted to the embeddings as export fits them, the power check included: a
normalisation that it drops is marked with *. No scorer sees the test recordings.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from agent.bundle.manifest import BANK
from agent.calibrate.fit import fit_scorer
from agent.capture.files import read_audio
from agent.config.scorer import ScorerConfig
from agent.config.threshold import ThresholdRule
from agent.deploy.load import open_bundle
from agent.recordings.load import load_machines
from agent.recordings.model import Machine
from agent.score.build import build_scorer
from agent.score.scorer import HealthySet
from agent.window.clip import clip_windows
from export.builder import BundleBuilder
from export.clips import clip_name
from export.results import System
from trainer.fit.densities import ScikitFitter
from trainer.metrics.files import SectionScores
from trainer.metrics.summary import summarize
from trainer.preset_file import load_preset

KNN: dict[str, Any] = {"kind": "knn", "normalization": "none"}
SCORERS: dict[str, dict[str, Any]] = {
    "nearest": KNN,
    "mean of 4": KNN | {"k": 4},
    "4th nearest": KNN | {"k": 4, "reduce": "kth"},
    "euclidean": KNN | {"metric": "euclidean"},
    "LDN ratio, K 1": KNN | {"normalization": "ldn_ratio", "density_k": 1},
    "LDN ratio, K 8": KNN | {"normalization": "ldn_ratio", "density_k": 8},
    "LDN difference, K 8": KNN | {"normalization": "ldn_difference", "density_k": 8},
    "domain-wise LDN 16/9": KNN
    | {"normalization": "ldn_ratio", "banks": "domains", "density_k": 16},
    "varmin, K 8": KNN | {"normalization": "varmin", "density_k": 8},
    "domains, scaled": KNN | {"domain_scale": "median"},
    "SMOTE": KNN | {"oversample": "smote"},
    "16 means": KNN | {"prototypes": {"method": "kmeans", "count": 16}},
    "coreset 64": KNN | {"prototypes": {"method": "coreset", "count": 64}},
    "Mahalanobis, selective": {"kind": "mahalanobis", "covariance": "domains"},
    "Mahalanobis, pooled": {"kind": "mahalanobis", "covariance": "pooled"},
    "DensitySoftmax": {"kind": "density_softmax"},
    "Gaussian mixture": {"kind": "gmm"},
    "one-class SVM": {"kind": "ocsvm"},
    "covering volume": {"kind": "mcv"},
}


class Embedded:
    """A machine through one encoder: healthy windows, and the windows of its test recordings."""

    def __init__(self, folder: Path, machine: Machine, progress: Progress) -> None:
        bundle = open_bundle(folder, threads=2)
        try:
            self.healthy = HealthySet(np.load(folder / BANK, allow_pickle=False), bundle.rows)
            info, manifest = bundle.encoder.info, bundle.manifest
            self.window_seconds = manifest.window_seconds
            self.clips, parts, self.owner = [], [], []
            tests = sorted((r for r in machine.of("test") if r.label), key=lambda r: r.path)
            task = progress.add_task(
                f"embedding {machine.name}, {folder.parent.parent.parent.name}"
            )
            progress.update(task, total=len(tests))
            for recording in tests:
                sound = read_audio(recording.path, rate=info.sample_rate)
                cut = clip_windows(
                    sound,
                    window_samples=info.window_samples,
                    hop_samples=round(manifest.clip_hop_seconds * info.sample_rate),
                )
                parts.append(bundle.encoder.encode(np.stack([window for _, window in cut])))
                self.owner += [len(self.clips)] * len(cut)
                self.clips.append((clip_name(machine, recording), recording))
                progress.advance(task)
            self.vectors = np.concatenate(parts)
            progress.remove_task(task)
        finally:
            bundle.close()

    def judge(self, data: dict[str, Any], name: str) -> dict[str, Any]:
        """Figures of one scorer; empty where it cannot be fitted."""
        config: ScorerConfig = TypeAdapter(ScorerConfig).validate_python(data)
        fitted = fit_scorer(
            self.healthy,
            config,
            ThresholdRule(false_alarm_rate=0.05),
            window_seconds=self.window_seconds,
            fitter=ScikitFitter(),
        )
        scorer = build_scorer(fitted.config, self.healthy, fitted.state)
        scorer.start()
        scores, _ = scorer.score(self.vectors)
        owner = np.array(self.owner)
        clips = np.array([scores[owner == i].mean() for i in range(len(self.clips))])
        section = SectionScores(
            machine=name,
            section="00",
            names=tuple(clip for clip, _ in self.clips),
            labels=tuple(str(r.label) for _, r in self.clips),
            domains=tuple(r.domain for _, r in self.clips),
            scores=clips.astype(np.float64),
            decisions=clips > fitted.threshold.clip_value,
        )
        (figures,) = summarize([section], resamples=500)
        low, high = figures.intervals["hmean"]
        return {
            "hmean": figures.hmean,
            "interval": [low, high],
            "auc_source": figures.auc_source,
            "auc_target": figures.auc_target,
            "pauc": figures.pauc,
            "dropped": fitted.config != config,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--preset", action="append", default=[])
    parser.add_argument("--bundle", action="append", default=[], metavar="MACHINE=FOLDER")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    console, found = Console(width=160), {}
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(prefix="auscult-") as work, Progress(console=console) as bar:
        for root in chosen.data:
            for machine in load_machines(root, progress=bar):
                for label, folder in _bundles(machine, root, chosen, Path(work), bar):
                    embedded = Embedded(folder, machine, bar)
                    for name, config in SCORERS.items():
                        found.setdefault(name, {})[label] = embedded.judge(config, label)
                    if chosen.json:
                        chosen.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    console.print(_table(found))


def _bundles(
    machine: Machine, root: Path, chosen: argparse.Namespace, work: Path, progress: Progress
) -> list[tuple[str, Path]]:
    shop = BundleBuilder(work / root.name, weights=chosen.weights)
    made = []
    for name in chosen.preset:
        system = System(name, load_preset(name), "float32", (0,))
        title = machine.name if machine.name != "data" else root.parent.name
        made.append((f"{title}, {name}", shop.bundle(machine, system, 0, progress)))
    for given in chosen.bundle:
        name, _, folder = given.partition("=")
        if name == machine.name:
            made.append((f"{name}, {Path(folder).parent.parent.parent.name}", Path(folder)))
    return made


def _table(found: dict[str, dict[str, Any]]) -> Table:
    columns = list(next(iter(found.values())))
    table = Table(title="Harmonic mean of AUC source, AUC target, pAUC, in per cent")
    table.add_column("scorer")
    for column in columns:
        table.add_column(column.replace(", ", "\n"), justify="right")
    table.add_column("mean", justify="right")
    for name, row in found.items():
        cells = []
        for column in columns:
            one = row.get(column)
            if one is None:
                cells.append("-")
                continue
            low, high = (100 * edge for edge in one["interval"])
            mark = "*" if one["dropped"] else ""
            cells.append(f"{100 * one['hmean']:.1f}{mark}\n[{low:.0f}, {high:.0f}]")
        values = [row[c]["hmean"] for c in columns if c in row]
        mean = f"{100 * float(np.mean(values)):.1f}" if len(values) == len(columns) else "-"
        table.add_row(name, *cells, mean)
    return table


if __name__ == "__main__":
    main()
