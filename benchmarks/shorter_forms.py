"""Trains a small BEATs on real recordings, and measures its shorter forms on four machines.

    .venv/bin/python benchmarks/shorter_forms.py ../shared --work FOLDER [--epochs 4] [--json FILE]

No published weights are needed, and none are measured: BEATs of six layers of 96 values and six
heads, from random values, told to tell apart (ArcFace) ToyCar's conditions, a fan, three states of
a compressor and five kinds of sound. Faults are never in it, and motors and gearboxes not at all.
Then `auscult shorten` for ToyCar, the fan, one kind of motor and a synthetic gearbox, each with the
bank of its own healthy recordings. Windows of 5 s, a part of the recordings; two minutes of
processor or more a machine, and training. What is trained already in --work is not trained again.
Told last: what each machine loses by the form that the others alone would choose. It says how forms
compare on these; what the published encoders lose is measured by the same command with their
weights.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from left_out_forms import left_out
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
from trainer.synth.families import write_family

JUDGED = ("ToyCar", "fan", "motor", "gearbox1")
APART = ("motor", "gearbox1")  # never learnt from
FORMS = ("layer4", "layer2", "merge2", "heads3", "layer4+merge2+heads3")
_TOYCAR = (54, 15)  # source recordings to learn from; to test, of each kind in each domain
_COMPRESSOR = 20
_MOTOR = 30
_OTHERS = 24


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


def toycar(source: Path, place: Path) -> None:
    """A part of ToyCar: of each kind a draw that is always the same."""
    draw = random.Random(0)
    for part, kind, most in (
        ("train", "_source_train_", _TOYCAR[0]), ("train", "_target_train_", 10),
        ("test", "_source_test_normal_", _TOYCAR[1]), ("test", "_source_test_anomaly_", _TOYCAR[1]),
        ("test", "_target_test_normal_", _TOYCAR[1]), ("test", "_target_test_anomaly_", _TOYCAR[1]),
    ):  # fmt: skip
        (place / part).mkdir(parents=True, exist_ok=True)
        clips = sorted(clip for clip in (source / part).iterdir() if kind in clip.name)
        for clip in draw.sample(clips, min(most, len(clips))):
            shutil.copy(clip, place / part)


def recordings(shared: Path, learnt: Path, apart: Path) -> None:
    """Lay out what is learnt from, and the machines which are not."""
    data = shared / "data"
    toycar(data / "dcase2023" / "ToyCar", learnt / "ToyCar")
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
    write_family(apart, "gearbox", 1, train=30)


def main() -> None:
    """Train, shorten, tell."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("shared", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--machines", nargs="+", choices=JUDGED, default=JUDGED)
    parser.add_argument("--forms", nargs="+", default=FORMS, help="as `auscult shorten --form`")
    parser.add_argument("--loss", type=float, default=1.0)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    learnt, apart, run = (chosen.work / name for name in ("learnt", "apart", "run"))
    if not apart.is_dir():
        recordings(chosen.shared, learnt, apart)
    console, preset = Console(width=140), recipe(chosen.epochs)
    machines = {machine.name: machine for machine in load_machines(learnt)}
    machines |= {machine.name: machine for machine in load_machines(apart)}
    if not (run / "run.json").is_file():
        others = [one for name, one in machines.items() if name not in {"ToyCar", *APART}]
        with progress_bar(Console(stderr=True)) as progress:
            record = train_machine(
                machines["ToyCar"], preset, run, others=others, progress=progress
            )
        losses = ", ".join(f"{loss:.2f}" for loss in record.losses)
        console.print(f"{record.classes} classes, {_spent():.0f} s of processor, losses {losses}")
    told = {}
    for name in chosen.machines:
        place = chosen.work / "runs" / name
        rescored(run, preset, place, machines[name])
        found = shorten_run(
            place, chosen.work / "forms" / name, bounds=Bounds(chosen.loss), forms=chosen.forms,
            cache=EmbeddingCache.of_user(), graphs=GraphCache.of_user(),
            told=console.print,
        )  # fmt: skip
        told[name] = found.model_dump(mode="json")
        console.print(forms_table(found))
        console.print(f"chosen: {found.chosen}; {_spent():.0f} s of processor so far")
        if chosen.json:
            chosen.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    measured = {name: {one["name"]: one for one in made["forms"]} for name, made in told.items()}
    # A form that could not be exported somewhere is compared nowhere.
    names = [
        form
        for form in chosen.forms
        if all(one[form]["loss"] is not None for one in measured.values())
    ]
    if len(measured) > 1 and names:
        cost = {form: np.mean([one[form]["cpu_ms"] for one in measured.values()]) for form in names}
        lost = {name: {form: one[form]["loss"] for form in names} for name, one in measured.items()}
        for one in left_out(lost, cost, chosen.loss):
            console.print(
                f"without {one.machine}: {one.form or 'none shorter'}, loses {one.loss:+.1f} on it"
            )


def _spent() -> float:
    """Seconds of processor so far, those of children that ended included."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


if __name__ == "__main__":
    main()
