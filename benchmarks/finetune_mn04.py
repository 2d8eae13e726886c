"""Does fine-tuning mn04 help on ToyCar? Frozen, every weight, and adapters, over several seeds.

    python benchmarks/finetune_mn04.py DATA --weights FOLDER [--seeds 3] [--epochs 2] [--out FILE]

DATA is the DCASE 2023 ToyCar folder. Each system is trained, exported in float32 and scored
through the bundle, as `auscult evaluate --float` would (without its floors). Windows are whole
clips (12 s). Everything but what is tuned, and the step size that goes with it, is the same.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch
from rich.console import Console

from agent.deploy.load import open_bundle
from agent.recordings.load import load_machines
from export.bundle import export_run
from export.clips import score_tests
from trainer.learn import train_machine
from trainer.metrics.summary import summarize
from trainer.preset import Preset

SECONDS = 12.0
CLASSIFY = {
    "kind": "classify",
    "batch": 16,
    "optimizer": "adamw",
    "weight_decay": 0.01,
    "warmup_steps": 5,
    "head_rate": 20.0,
    "schedule": "cosine",
    "clip_norm": 5.0,
    "head": "arcface",
    "subcentres": 4,
    "margin": 0.5,
    "scale": 30.0,
    "mixup": 0.5,
    "augment": {"spec_time": 80, "spec_frequency": 24},
}
TRAININGS = {
    "frozen": {"kind": "frozen"},
    "full": {**CLASSIFY, "tune": "full", "learning_rate": 5e-4},
    "lora": {**CLASSIFY, "tune": "lora", "lora": {"rank": 16}, "learning_rate": 2e-3},
}


def preset(name: str, epochs: int) -> Preset:
    training = TRAININGS[name]
    return Preset.model_validate(
        {
            "name": f"mn04_{name}",
            "summary": f"mn04, {name}",
            "encoder": {
                "kind": "mn04",
                "features": "block12_balanced",
                "weights": "mn04_as_mAP_432.pt",
            },
            "window": {"seconds": SECONDS, "train_hop_seconds": SECONDS},
            "training": training if name == "frozen" else {**training, "epochs": epochs},
            "scorer": {"kind": "knn", "normalization": "varmin", "density_k": 8},
            "drift": {"enabled": False},
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    (machine,) = load_machines(given.data)
    # A frozen encoder is the same with every seed.
    runs = [("frozen", 0), *((name, s) for s in range(given.seeds) for name in ("full", "lora"))]
    found = []
    for name, seed in runs:
        began = time.perf_counter()
        recipe = preset(name, given.epochs)
        with tempfile.TemporaryDirectory() as work:
            run, bundle = Path(work) / "run", Path(work) / "bundle"
            record = train_machine(machine, recipe, run, seed=seed, weights=given.weights)
            export_run(
                run, bundle, precision="float32", test=False, console=Console(file=io.StringIO())
            )
            opened = open_bundle(bundle)
            try:
                sections = score_tests(
                    opened, machine, hop_seconds=SECONDS, channel=None, advance=lambda: None
                ).sections
            finally:
                opened.close()
        (figures,) = summarize(list(sections), resamples=200)
        told = {
            "system": name,
            "seed": seed,
            "auc_source": figures.auc_source,
            "auc_target": figures.auc_target,
            "pauc": figures.pauc,
            "hmean": figures.hmean,
            "losses": list(record.losses),
            "seconds": round(time.perf_counter() - began, 1),
        }
        found.append(told)
        print(json.dumps(told), flush=True)
        if given.out:
            given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    for name in TRAININGS:
        values = [100 * r["hmean"] for r in found if r["system"] == name]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        print(f"{name:6} hmean {statistics.mean(values):.1f} +- {spread:.1f} ({len(values)} seeds)")


if __name__ == "__main__":
    main()
