"""Machines that cycle, in the agent: what is told of healthy and of faulty short runs.

    python benchmarks/cycles.py --out FOLDER [--seeds 1,2] [--on 15] [--off 45] [--minutes 60]
        [--kinds healthy bearing ...]

Each seed is another synthetic fan (`trainer.synth`), trained on recordings that hold neither its
starts nor its stops. It is then heard through `auscult run` (defaults, a replay as fast as it goes)
for so many minutes: healthy, and with each kind of fault from half of the time on. Its motor is off
between two runs, either in the hall of the recordings or, with --quiet, in one that is 30 dB
quieter. Told per stream: windows counted, alarms and drift warnings before and after the onset, and
the cycles from the onset to the alarm.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from agent.core.records import Samples
from trainer.synth import Counts, Fault, Operation, design_machine, render, write_dataset
from trainer.synth.design import MachineDesign, OperatingPoint

RATE = 16000
_STILL = OperatingPoint("still", 0.0, 0.0)
# Cycles rendered at a time: bounds the memory.
_CYCLES_A_FILE = 5


def cycles(
    design: MachineDesign, on: float, off: float, count: int, seed: int, fault: Fault | None = None
) -> Samples:
    """So many runs and rests, with the rotor's own time to start and to stop."""
    rng = np.random.default_rng([seed, 0xC1C])
    steps: list[tuple[float, OperatingPoint]] = []
    for n in range(count):
        point = design.points[int(rng.integers(len(design.points)))]
        steps += [(n * (on + off), _STILL), (n * (on + off) + off, point)]
    operation = Operation("cycles", tuple(steps))
    faults = () if fault is None else (fault,)
    return render(design, operation, count * (on + off), rng, rate=RATE, faults=faults)


def write_stream(folder: Path, design: MachineDesign, args: argparse.Namespace, kind: str) -> None:
    """A stream of files; the fault, if any, begins with the second half of them."""
    folder.mkdir(parents=True, exist_ok=True)
    count = round(60 * args.minutes / ((args.on + args.off) * _CYCLES_A_FILE))
    for n in range(count):
        broken = kind != "healthy" and n >= count // 2
        fault = Fault(kind, args.severity) if broken else None
        sound = cycles(design, args.on, args.off, _CYCLES_A_FILE, 1000 * design.seed + n, fault)
        soundfile.write(folder / f"{n:04d}.wav", sound, RATE, subtype="PCM_24")


def bundle_of(folder: Path, seed: int) -> Path:
    """The machine's bundle, trained once."""
    bundle = folder / "pump.bundle"
    if not bundle.is_dir():
        write_dataset(
            folder, design_machine(seed), seed=seed, layout="plain", machine="pump",
            counts=Counts(64, 0, 0, 0, 8, 8),
        )  # fmt: skip
        for command in (
            ["train", folder / "pump", "--out", folder / "run", "--force"],
            ["export", folder / "run", "--out", bundle],
        ):
            subprocess.run(["auscult", *map(str, command)], check=True, capture_output=True)
    return bundle


def hear(folder: Path, bundle: Path, stream: Path) -> list[dict[str, Any]]:
    """What the agent tells of a stream."""
    told, config = folder / f"{stream.name}.jsonl", folder / f"{stream.name}.yaml"
    told.unlink(missing_ok=True)
    config.write_text(
        f"state_dir: {folder}/state-{stream.name}\njsonl: {told}\nmachines:\n"
        f"  - {{name: pump, bundle: {bundle}, "
        f"source: {{kind: replay, paths: [{stream}], speed: max}}}}\n"
    )
    subprocess.run(["auscult", "run", "--config", str(config)], check=True, capture_output=True)
    return [json.loads(line) for line in told.read_text().splitlines()]


def summary(told: list[dict[str, Any]], args: argparse.Namespace, kind: str) -> str:
    """One line of a stream."""
    windows = [one for one in told if one["kind"] == "score"]
    begin = datetime.fromisoformat(windows[0]["start"])
    files = round(60 * args.minutes / ((args.on + args.off) * _CYCLES_A_FILE))
    onset = np.inf if kind == "healthy" else files // 2 * _CYCLES_A_FILE * (args.on + args.off)

    def times(word: str) -> list[float]:
        return [
            (datetime.fromisoformat(one["time"]) - begin).total_seconds()
            for one in told
            if one["kind"] == "event" and one["type"] == f"auscult.{word}"
        ]

    states = Counter(one["state"] for one in windows)
    alarms, drifts = times("alarm.raised"), times("drift.warned")
    early = [sum(t < onset for t in some) for some in (alarms, drifts)]
    text = (
        f"{states['running']} of {len(windows)} windows counted, before the onset "
        f"{early[0]} alarms and {early[1]} drift warnings"
    )
    after = [t - onset for t in alarms if t >= onset]
    cycle = args.on + args.off
    if kind != "healthy":
        text += f", alarm {after[0] / cycle:.1f} cycles later" if after else ", missed"
    return text


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", default="1,2")
    parser.add_argument("--on", type=float, default=15.0)
    parser.add_argument("--off", type=float, default=45.0)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--severity", type=float, default=1.0)
    parser.add_argument("--quiet", action="store_true")
    parser.add_argument("--kinds", nargs="+", default=["healthy", "bearing", "imbalance", "belt"])
    args = parser.parse_args()
    for seed in map(int, args.seeds.split(",")):
        design = design_machine(seed)
        folder = args.out / f"fan{seed}"
        bundle = bundle_of(folder, seed)
        if args.quiet:
            site = design.sites[0]
            quiet = replace(site, noise_db=site.noise_db - 30.0)
            design = replace(design, sites=(quiet, design.sites[1]))
        for kind in args.kinds:
            name = f"{kind}-{args.on:g}-{args.off:g}{'-quiet' if args.quiet else ''}"
            stream = folder / name
            if not stream.is_dir():
                write_stream(stream, design, args, kind)
            told = hear(folder, bundle, stream)
            print(f"fan {seed} {name}: {summary(told, args, kind)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
