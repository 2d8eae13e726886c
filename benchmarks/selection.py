"""How well does selection from healthy sound predict what a test set then says?

Every pair of encoder and scorer is judged twice on each machine: by made-up faults, as
`auscult train --select` does, and by the test set's anomalies. Printed for each machine: the rank
correlation of the two over all pairs, over the encoders with one scorer and over the scorers of one
encoder; and what the pair that selection takes scores on the test set, beside the preset's own, the
best there is, and the pair that the other machines' test sets would have recommended.

Machines: ToyCar (the shared recordings), drone flights in noise, synthetic fans.

    python benchmarks/selection.py --shared ../shared [--weights ../shared/weights] --out FOLDER
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from drone_data import write as write_drones
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr

from agent.bundle.manifest import Row
from agent.calibrate.check import trusted
from agent.capture.files import read_audio
from agent.config.scorer import ScorerConfig
from agent.config.scorer_density import CoveringConfig, OneClassConfig
from agent.config.scorer_knn import KnnConfig
from agent.recordings.load import load_machines
from agent.recordings.model import Machine
from agent.score.build import build_scorer, fit_state
from agent.score.scorer import HealthySet
from agent.window.clip import clip_windows
from trainer.encoder_config import EncoderConfig
from trainer.encoders.base import Encoder
from trainer.encoders.registry import build_encoder
from trainer.fit.densities import ScikitFitter
from trainer.metrics.auc import auc_scores
from trainer.selection.choose import describe
from trainer.selection.judge import Heard, Listening, judge, listen
from trainer.selection.usual import SCORERS
from trainer.synth.dataset import Counts, write_dataset
from trainer.synth.design import design_machine

SECONDS = 10.0
SEED = 0
CONFIDENCE = 0.95
ENCODERS = [
    EncoderConfig(kind="spectral_shape"),
    EncoderConfig(kind="log_mel"),
]
WEIGHTED = [
    EncoderConfig(kind="mn04", features="block12_balanced", weights="mn04_as_mAP_432.pt"),
]
ALL_SCORERS = [KnnConfig(), *(s for s in SCORERS if s != KnnConfig())]
ALL_SCORERS += [OneClassConfig(), CoveringConfig(covered=0.9), KnnConfig(normalization="none", k=4)]


def machines(shared: Path, out: Path, fans: Sequence[int]) -> list[Machine]:
    """ToyCar, drones, and the fans of these seeds."""
    found = load_machines(shared / "data" / "dcase2023", ["ToyCar"])
    drones = write_drones(shared, out / "drones", snr_db=0.0, seed=SEED)
    found += [replace(machine, name="drones") for machine in load_machines(drones.data)]
    for seed in fans:
        name = f"fan{seed}"
        if not (out / "fans" / name).is_dir():
            counts = Counts(train_source=60, train_target=8, test_normal=16, test_anomaly=18)
            write_dataset(
                out / "fans",
                design_machine(seed),
                seed=seed,
                machine=name,
                counts=counts,
                severity=(0.1, 0.5),
            )
    return [*found, *load_machines(out / "fans", [f"fan{seed}" for seed in fans])]


def embedded_tests(encoder: Encoder, machine: Machine, hop: float) -> list[np.ndarray]:
    """The windows' embeddings of each test recording."""
    found = []
    for recording in machine.of("test"):
        samples = read_audio(recording.path, rate=encoder.sample_rate)
        cut = clip_windows(
            samples,
            window_samples=encoder.window_samples,
            hop_samples=round(hop * encoder.sample_rate),
        )
        with torch.inference_mode():
            found.append(encoder(torch.from_numpy(np.stack([w for _, w in cut]))).numpy())
    return found


def tested(
    healthy: HealthySet, tests: list[np.ndarray], machine: Machine, config: ScorerConfig
) -> float:
    """The official score of the test set."""
    fitter = ScikitFitter()
    used, _ = trusted(healthy, config, fitter)
    scorer = build_scorer(used, healthy, fit_state(healthy, used, fitter))
    scorer.start()
    scores = [float(scorer.score(windows)[0].mean()) for windows in tests]
    recordings = machine.of("test")
    return auc_scores([r.label for r in recordings], [r.domain for r in recordings], scores).hmean


def heard_by(
    machine: Machine,
    others: list[Machine],
    encoder_config: EncoderConfig,
    args: argparse.Namespace,
) -> tuple[Heard, list[np.ndarray]]:
    """One encoder's embeddings; kept in a file, so that a run that was cut off goes on."""
    place = args.out / f"{machine.name}-{describe(encoder_config).replace(' ', '_')}.npz"
    if not place.is_file():
        encoder = build_encoder(
            encoder_config, window_seconds=SECONDS, weights=args.weights, seed=SEED
        )
        heard = listen(encoder, Listening(machine, others, args.hop, args.windows, None, SEED))
        tests = embedded_tests(encoder, machine, args.hop)
        rows = json.dumps([row.model_dump(mode="json") for row in heard.healthy.rows])
        np.savez(
            place,
            rows=np.array(rows),
            healthy=heard.healthy.vectors,
            chosen=heard.chosen,
            ends=np.cumsum([len(windows) for windows in tests]),
            tests=np.concatenate(tests),
            **{f"changed.{kind}": np.stack(sets) for kind, sets in heard.changed.items()},
        )
    kept = np.load(place, allow_pickle=False)
    rows = [Row.model_validate(row) for row in json.loads(str(kept["rows"]))]
    changed = {
        name.partition(".")[2]: list(kept[name]) for name in kept if name.startswith("changed.")
    }
    heard = Heard(HealthySet(kept["healthy"], rows), kept["chosen"], changed)
    return heard, np.split(kept["tests"], kept["ends"][:-1])


def measure(
    machine: Machine, heard: Heard, tests: list[np.ndarray], encoder: EncoderConfig
) -> list[dict]:
    """Both judgements of one encoder's pairs on one machine."""
    found = []
    for config in ALL_SCORERS:
        judged = judge(heard, config, ScikitFitter(), seed=SEED)
        found.append(
            {
                "encoder": describe(encoder),
                "scorer": describe(config),
                "selection": judged.figure,
                "kinds": dict(judged.kinds),
                "resampled": judged.resampled,
                "test": tested(heard.healthy, tests, machine, config),
            }
        )
    return found


def rank(pairs: list[dict], *, over: str) -> float:
    """Mean Spearman correlation over the pairs that differ in one thing alone, or over all."""
    fixed = {"all": None, "encoder": "scorer", "scorer": "encoder"}[over]
    groups = {} if fixed else {"": pairs}
    if fixed:
        for pair in pairs:
            groups.setdefault(pair[fixed], []).append(pair)
    found = [
        spearmanr([p["selection"] for p in own], [p["test"] for p in own]).statistic
        for own in groups.values()
        if len(own) > 2
    ]
    return float(np.nanmean(found)) if found else float("nan")


def taken(pairs: list[dict]) -> dict:
    """What `trainer.selection.choose` would take; the first pair is the preset's own."""
    own = pairs[0]["resampled"]
    sure = [p for p in pairs if np.mean(p["resampled"] > own) >= CONFIDENCE]
    return max(sure, key=lambda p: p["selection"]) if sure else pairs[0]


def recommended(name: str, results: dict[str, list[dict]]) -> dict:
    """The pair whose mean test score is best on the other machines."""
    mean = np.mean([[p["test"] for p in own] for m, own in results.items() if m != name], axis=0)
    return results[name][int(np.argmax(mean))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--weights", type=Path, help="folder of mn04; without it, no mn04")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--windows", type=int, default=24, help="of each domain, for faults")
    parser.add_argument("--hop", type=float, default=10.0, help="between windows, seconds")
    parser.add_argument("--fans", type=int, nargs="*", default=[21, 22])
    args = parser.parse_args()
    torch.set_num_threads(1)
    console = Console(width=150)
    everyone = machines(args.shared, args.out, args.fans)
    encoders = ENCODERS + (WEIGHTED if args.weights else [])
    results: dict[str, list[dict]] = {machine.name: [] for machine in everyone}
    for config in encoders:
        for machine in everyone:
            others = [m for m in everyone if m is not machine]
            heard, tests = heard_by(machine, others, config, args)
            results[machine.name] += measure(machine, heard, tests, config)
            console.print(f"{machine.name}, {describe(config)}", style="dim")

    with (args.out / "pairs.csv").open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["machine", "encoder", "scorer", "selection", "test", "beats own"])
        for name, pairs in results.items():
            for pair in pairs:
                better = float(np.mean(pair["resampled"] > pairs[0]["resampled"]))
                figures = (f"{value:.4f}" for value in (pair["selection"], pair["test"], better))
                lines.writerow([name, pair["encoder"], pair["scorer"], *figures])

    table = Table(title="Selection from healthy sound against the test set")
    table.add_column("machine")
    for heading in ("all", "encoders", "scorers"):
        table.add_column(f"rank corr.\n{heading}", justify="right")
    for heading in ("own", "selected", "others' tests", "best", "median"):
        table.add_column(f"test %\n{heading}", justify="right")
    table.add_column("selected")
    for name, pairs in results.items():
        correlations = [rank(pairs, over=over) for over in ("all", "encoder", "scorer")]
        tests = [p["test"] for p in pairs]
        chosen = taken(pairs)
        values = (
            pairs[0]["test"],
            chosen["test"],
            recommended(name, results)["test"],
            max(tests),
            float(np.median(tests)),
        )
        table.add_row(
            name,
            *(f"{value:+.2f}" for value in correlations),
            *(f"{100 * value:.1f}" for value in values),
            f"{chosen['encoder']}, {chosen['scorer']}",
        )
    console.print(table)

    table = Table(title="The same among the scorers of one encoder; own: knn with its usual varmin")
    for heading in ("machine", "encoder"):
        table.add_column(heading)
    for heading in ("rank corr.", "own", "selected", "best", "median"):
        table.add_column(heading, justify="right")
    table.add_column("selected")
    gains, anywhere = [], []
    for name, pairs in results.items():
        for encoder in dict.fromkeys(p["encoder"] for p in pairs):
            mine = [p for p in pairs if p["encoder"] == encoder]
            tests = [p["test"] for p in mine]
            chosen = taken(mine)
            gains.append(chosen["test"] - tests[0])
            for place, start in enumerate(mine):
                rest = [p for i, p in enumerate(mine) if i != place]
                anywhere.append(taken([start, *rest])["test"] - start["test"])
            shown = (tests[0], chosen["test"], max(tests), float(np.median(tests)))
            table.add_row(
                name,
                encoder,
                f"{rank(mine, over='all'):+.2f}",
                *(f"{100 * value:.1f}" for value in shown),
                chosen["scorer"],
            )
    console.print(table)
    for own, found in (("varmin", gains), ("each scorer in turn", anywhere)):
        console.print(
            f"selected against own, own being {own}: {100 * np.mean(found):+.1f} points in the "
            f"mean, {100 * min(found):+.1f} at worst, {100 * max(found):+.1f} at best; worse in "
            f"{sum(gain < 0 for gain in found)} of {len(found)}, better in "
            f"{sum(gain > 0 for gain in found)}"
        )

    table = Table(
        title="Rank correlation of each kind of made-up fault with the test set, all pairs"
    )
    kinds = list(next(iter(results.values()))[0]["kinds"])
    table.add_column("machine")
    for kind in kinds:
        table.add_column(kind, justify="right")
    for name, pairs in results.items():
        tests = [p["test"] for p in pairs]
        found = [spearmanr([p["kinds"][k] for p in pairs], tests).statistic for k in kinds]
        table.add_row(name, *(f"{value:+.2f}" for value in found))
    console.print(table)


if __name__ == "__main__":
    main()
