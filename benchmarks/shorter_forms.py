"""Trains a small BEATs on real recordings, and measures its shorter forms on three machines.

    .venv/bin/python benchmarks/shorter_forms.py ../shared --work FOLDER [--epochs 10] [--json FILE]

No published weights are needed, and none are measured: BEATs of six layers of 96 values and six
heads, from random values, told to tell apart (ArcFace) ToyCar's conditions, a fan, three states of
a compressor and five kinds of sound. Faults are never in it, and motors not at all. Then
`auscult shorten` for ToyCar, the fan and one kind of motor, each with the bank of its own healthy
recordings. Windows of 5 s. It says how forms compare on these; what the published encoders lose is
measured by the same command with their weights.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from agent.core.progress import progress_bar
from agent.encode.embedding_cache import EmbeddingCache
from agent.recordings.load import load_machines
from export.commands.shorten import forms_table
from export.form_loss import Bounds
from export.shorten import shorten_run
from trainer.graph.graph_cache import GraphCache
from trainer.learn import rescored, train_machine
from trainer.preset import Preset
from trainer.preset_file import load_preset

JUDGED = ("ToyCar", "fan", "motor")
_COMPRESSOR = 30
_MOTOR = 30
_OTHERS = 12


def recipe(epochs: int) -> Preset:
    """A preset of the small BEATs."""
    base = load_preset("fbeats").model_dump(mode="json")
    base |= {
        "name": "beats_tiny_deep", "published": {}, "report": None,
        "summary": "BEATs of six small layers, trained here.", "source": "benchmarks",
        "encoder": {"kind": "beats", "size": "tiny_deep", "pooling": "mean"},
        "window": {"seconds": 5, "train_hop_seconds": 5},
        "scorer": {"kind": "knn", "metric": "cosine", "k": 1, "normalization": "none"},
    }  # fmt: skip
    base["training"] |= {"epochs": epochs, "learning_rate": 1e-3, "warmup_steps": 30,
                         "accumulate": 1, "learn_from": "embedding"}  # fmt: skip
    return Preset.model_validate(base)


def lay(folder: Path, **parts: Sequence[Path]) -> None:
    """A machine in the plain layout."""
    for part, files in parts.items():
        place = folder / part.replace("_", "/")
        place.mkdir(parents=True, exist_ok=True)
        for number, file in enumerate(files):
            shutil.copy(file, place / f"{number:03d}_{file.parent.name}_{file.name}")


def recordings(shared: Path, learnt: Path, apart: Path) -> None:
    """Lay out what is learnt from, and the motor, which is not."""
    data = shared / "data"
    shutil.copytree(data / "dcase2023" / "ToyCar", learnt / "ToyCar", dirs_exist_ok=True)
    fan = data / "mimii_fan00"
    lay(
        learnt / "fan",
        normal=sorted((fan / "normal").iterdir()),
        test_normal=sorted((fan / "test" / "normal").iterdir()),
        test_anomaly=sorted((fan / "test" / "anomaly").iterdir()),
    )
    for state in ("off", "rest", "run"):
        clips = sorted((data / "compressor" / state).glob("20260302*"))[:_COMPRESSOR]
        lay(learnt / f"compressor_{state}", normal=clips)
    for kind in sorted((data / "esc10").iterdir()):
        lay(learnt / kind.name, normal=sorted(kind.iterdir()))
    kinds = [sorted((data / "motors" / f"class{number}").iterdir()) for number in range(3)]
    lay(
        apart / "motor",
        normal=kinds[0][:_MOTOR],
        test_normal=kinds[0][_MOTOR:],
        test_anomaly=kinds[1][:_OTHERS] + kinds[2][:_OTHERS],
    )


def main() -> None:
    """Train, shorten, tell."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("shared", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--machines", nargs="+", choices=JUDGED, default=JUDGED)
    parser.add_argument("--loss", type=float, default=1.0)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    learnt, apart, run = (chosen.work / name for name in ("learnt", "apart", "run"))
    if not apart.is_dir():
        recordings(chosen.shared, learnt, apart)
    console, preset = Console(width=140), recipe(chosen.epochs)
    machines = {machine.name: machine for machine in load_machines(learnt)}
    machines |= {machine.name: machine for machine in load_machines(apart / "motor")}
    if not (run / "run.json").is_file():
        others = [one for name, one in machines.items() if name not in {"ToyCar", "motor"}]
        with progress_bar(Console(stderr=True)) as progress:
            record = train_machine(
                machines["ToyCar"], preset, run, others=others, progress=progress
            )
        console.print(f"{record.classes} classes, {record.seconds:.0f} s, losses {record.losses}")
    told = {}
    for name in chosen.machines:
        place = chosen.work / "runs" / name
        rescored(run, preset, place, machines[name])
        found = shorten_run(
            place, chosen.work / "forms" / name, bounds=Bounds(chosen.loss),
            cache=EmbeddingCache.of_user(), graphs=GraphCache.of_user(),
            told=console.print,
        )  # fmt: skip
        told[name] = found.model_dump(mode="json")
        console.print(forms_table(found))
        console.print(f"chosen: {found.chosen}")
        if chosen.json:
            chosen.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
