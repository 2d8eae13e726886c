"""Lays out the development machines that defaults are chosen on, for `auscult evaluate`.

The list is frozen: a default is chosen on all of them at once, leaving one family out at a time,
and the floors (loudness, log-mel) stand beside it. Families: ToyCar (DCASE 2023), one MIMII fan,
three kinds of motor, a compressor's two resting states on later days, drone flights in noise,
synthetic fans, valves, gearboxes, piston compressors, slides and pumps; full sets, and draws of 10,
16 and 35 recordings.

    python benchmarks/machines.py --shared ../shared --out FOLDER            # lays them out
    auscult evaluate FOLDER --preset auscult_scratch --preset auscult_small --weights WEIGHTS
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from drone_data import write as write_drones
from rich.console import Console

from trainer.synth.dataset import Counts, write_dataset
from trainer.synth.design import design_machine
from trainer.synth.families import FAMILIES, write_family

FANS = (11, 12, 13)
SEEDS = (1, 2)
DRAWS = (10, 16, 35)


def lay(root: Path, name: str, **parts: Sequence[Path]) -> None:
    """A machine in the plain layout: `normal`, `test_normal`, `test_anomaly`."""
    for part, files in parts.items():
        place = root / name / part.replace("_", "/")
        place.mkdir(parents=True, exist_ok=True)
        for i, file in enumerate(files):
            shutil.copy(file, place / f"{i:03d}_{file.parent.name}_{file.name}")


def toycar(shared: Path, out: Path) -> None:
    """The whole subset, and three draws of 35 (32 source, 3 target)."""
    root = shared / "data" / "dcase2023" / "ToyCar"
    shutil.copytree(root, out / "ToyCar", dirs_exist_ok=True)
    clips = sorted((root / "train").iterdir())
    source = [clip for clip in clips if "_source_" in clip.name]
    target = [clip for clip in clips if "_target_" in clip.name]
    rng = np.random.default_rng(5)
    for draw in range(3):
        chosen = [source[i] for i in rng.permutation(len(source))[:32]] + target[:3]
        shutil.copytree(root / "test", out / f"ToyCar-35{'abc'[draw]}" / "test", dirs_exist_ok=True)
        place = out / f"ToyCar-35{'abc'[draw]}" / "train"
        place.mkdir(parents=True, exist_ok=True)
        for clip in chosen:
            shutil.copy(clip, place)


def mimii_fan(shared: Path, out: Path) -> None:
    """The published split, and five draws of the twenty healthy recordings."""
    root = shared / "data" / "mimii_fan00"
    healthy = sorted((root / "normal").iterdir()) + sorted((root / "test" / "normal").iterdir())
    faulty = sorted((root / "test" / "anomaly").iterdir())
    for draw in range(6):
        order = np.arange(20) if draw == 0 else np.random.default_rng(draw).permutation(20)
        lay(
            out,
            f"mimii_fan-10{'abcdef'[draw]}",
            normal=[healthy[i] for i in order[:10]],
            test_normal=[healthy[i] for i in order[10:]],
            test_anomaly=faulty,
        )


def motors(shared: Path, out: Path) -> None:
    """Each kind in turn healthy; 30 recordings to learn, and draws of 10 and 16."""
    kinds = [sorted((shared / "data" / "motors" / f"class{k}").iterdir()) for k in range(3)]
    for kind, own in enumerate(kinds):
        others = [clip for other, clips in enumerate(kinds) if other != kind for clip in clips]
        for count, draws in ((30, 1), (10, 2), (16, 2)):
            for draw in range(draws):
                order = (
                    np.arange(42)
                    if count == 30
                    else np.random.default_rng(kind * 10 + draw).permutation(42)
                )
                lay(
                    out,
                    f"motor{kind}-{count}{'ab'[draw] if count != 30 else ''}",
                    normal=[own[i] for i in order[:count]],
                    test_normal=[own[i] for i in order[30:]],
                    test_anomaly=others,
                )


def compressor(shared: Path, out: Path) -> None:
    """`off` and `rest` of the first day against those of later days and the other states."""
    states = {
        name: sorted((shared / "data" / "compressor" / name).iterdir())
        for name in ("off", "rest", "run")
    }
    rng = np.random.default_rng(3)
    for state in ("off", "rest"):
        first = [clip for clip in states[state] if clip.name.startswith("20260302")]
        later = [clip for clip in states[state] if not clip.name.startswith("20260302")]
        others = [clip for name, clips in states.items() if name != state for clip in clips]
        others = [others[i] for i in sorted(rng.permutation(len(others))[:150])]
        later = [later[i] for i in sorted(rng.permutation(len(later))[:100])]
        for count in (100, 16):
            order = np.arange(100) if count == 100 else rng.permutation(100)[:count]
            lay(
                out,
                f"compressor_{state}-{count}",
                normal=[first[i] for i in order],
                test_normal=later,
                test_anomaly=others,
            )


def drones(shared: Path, out: Path) -> None:
    """Three draws of flights in noise at 0 dB."""
    for draw in range(3):
        made = write_drones(shared, out.with_name(f"{out.name}-drones{draw}"), seed=draw)
        shutil.copytree(made.data, out / f"drone{draw}", dirs_exist_ok=True)


def synthetic(out: Path) -> None:
    """Fans with two domains, and two machines of each other family with draws of few recordings."""
    for seed in FANS:
        counts = Counts(train_source=60, train_target=8, test_normal=16, test_anomaly=18)
        write_dataset(
            out, design_machine(seed), seed=seed, machine=f"fan{seed}", counts=counts,
            severity=(0.1, 0.5),
        )  # fmt: skip
    for kind in FAMILIES:
        for seed in SEEDS:
            root = write_family(out, kind, seed)
            clips = sorted((root / "normal").iterdir())
            for count in DRAWS[seed - 1 : seed + 1]:
                order = np.random.default_rng(count + seed).permutation(len(clips))[:count]
                place = out / f"{root.name}-{count}"
                shutil.copytree(root / "test", place / "test", dirs_exist_ok=True)
                (place / "normal").mkdir(parents=True, exist_ok=True)
                for i in order:
                    shutil.copy(clips[i], place / "normal")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    console = Console()
    for real in (toycar, mimii_fan, motors, compressor, drones):
        real(args.shared, args.out)
        console.print(real.__name__, style="dim")
    synthetic(args.out)
    names = sorted(place.name for place in args.out.iterdir() if place.is_dir())
    console.print(f"{len(names)} machines in {args.out}: {', '.join(names)}")


if __name__ == "__main__":
    main()
