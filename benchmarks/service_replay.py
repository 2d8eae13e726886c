"""Two machines in service, through `auscult run` itself: hours without an alarm, and what is told.

    .venv/bin/python benchmarks/service_replay.py --out FOLDER [--machines fan gearbox] [--hours 2]
        [--hop auto]

Each machine is trained and exported by defaults (no checkpoint) from 30 recordings of 10 s and 8
of its hall at rest, then heard through a replay as fast as it goes, at the agent's defaults
(windows of 10 s at a hop of 1 s):

- healthy: hours, at changing loads; alarms are false ones;
- a fault of severity 1, from ten minutes on: seconds from its onset to the alarm;
- doubled gain (6 dB) from ten minutes on: a change of level has to be told, and no alarm;
- restarts: three runs of the agent on the same state, each beginning in the quiet hall (a minute,
  35 dB below the machine), then running for five minutes: no alarm.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from service_recorded import write_clips
from service_sounds import RATE, joined

from trainer.synth.design import Fault, design_machine
from trainer.synth.families import FAMILIES, render_family
from trainer.synth.render import render, steady, varying

AUSCULT = Path(sys.executable).with_name("auscult")
RECORDINGS, ONSET, FAULTY, FILE = 30, 600.0, 300.0, 600.0
HALL_DB = -35.0


@dataclass(frozen=True)
class Machine:
    """A synthetic machine: a fan of `trainer.synth`, or one of the other families."""

    kind: str
    seed: int

    @property
    def faults(self) -> tuple[str, ...]:
        """What can fail."""
        return (
            ("imbalance", "bearing", "belt") if self.kind == "fan" else FAMILIES[self.kind].faults
        )

    def sound(self, seconds: float, rng: np.random.Generator, fault: str = "") -> np.ndarray:
        """So many seconds of it, with a fault of severity 1 if one is named."""
        if self.kind != "fan":
            return render_family(
                self.kind, self.seed, rng, seconds=seconds, rate=RATE, fault=fault or None,
                severity=1.0,
            )  # fmt: skip
        design = design_machine(self.seed)
        if rng.uniform() < 0.3:
            operation = varying(design, seconds, rng)
        else:
            operation = steady(design, design.points[int(rng.integers(len(design.points)))].name)
        faults = (Fault(fault, 1.0),) if fault else ()
        return render(design, operation, seconds, rng, rate=RATE, faults=faults)

    def hours(self, seconds: float, rng: np.random.Generator) -> np.ndarray:
        """Healthy sound at loads that change every few minutes."""
        parts, held = [], 0.0
        while held < seconds:
            parts.append(self.sound(float(rng.uniform(60, 400)), rng))
            held += len(parts[-1]) / RATE
        return joined(parts)[: int(seconds * RATE)]


def hall(like: np.ndarray, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """A hall in which nothing runs."""
    level = float(np.sqrt(np.mean(np.square(like)))) * 10 ** (HALL_DB / 20)
    return (rng.standard_normal(int(seconds * RATE)) * level).astype(np.float32)


def auscult(*words: str | Path) -> None:
    """Run a command; its own words explain a failure."""
    done = subprocess.run([AUSCULT, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"auscult {' '.join(map(str, words))}\n{done.stdout}{done.stderr}")


def bundle_of(machine: Machine, folder: Path) -> Path:
    """Its bundle, trained once."""
    bundle = folder / "bundle"
    if not (bundle / "manifest.json").exists():
        rngs = [np.random.default_rng([machine.seed, 1, number]) for number in range(RECORDINGS)]
        clips = [machine.sound(10.0, rng) for rng in rngs]
        root = write_clips(folder / "data", clips)
        (root / "idle").mkdir()
        for number in range(8):
            rest = hall(clips[0], 10.0, np.random.default_rng([machine.seed, 2, number]))
            soundfile.write(root / "idle" / f"{number:04d}.flac", rest, RATE)
        auscult("train", root, "--preset", "auscult_scratch", "--out", folder / "run", "--force")
        auscult("export", folder / "run", "--out", bundle)
    return bundle


def streams(machine: Machine, hours: float) -> Iterator[tuple[str, list[np.ndarray]]]:
    """Name, and the sound of each run of the agent."""
    rng = np.random.default_rng([machine.seed, 3])
    healthy = machine.hours(3600 * hours, rng)
    yield "healthy", [healthy]
    first = healthy[: int(ONSET * RATE)]
    for fault in machine.faults:
        yield f"fault {fault}", [joined([first, machine.sound(FAULTY, rng, fault)])]
    louder = np.clip(2.0 * machine.hours(FAULTY, rng), -1, 1).astype(np.float32)
    yield "doubled gain", [np.concatenate([first, louder])]
    yield (
        "restarts",
        [joined([hall(first, 60.0, rng), machine.hours(300.0, rng)]) for _ in range(3)],
    )


def hear(folder: Path, bundle: Path, sounds: list[np.ndarray], hop: str) -> list[dict[str, Any]]:
    """What the agent tells of a stream, over its runs on one state."""
    folder.mkdir(parents=True, exist_ok=True)
    told = folder / "told.jsonl"
    told.unlink(missing_ok=True)
    for number, sound in enumerate(sounds):
        source, config = folder / f"sound-{number}", folder / "agent.yaml"
        source.mkdir(exist_ok=True)
        for at in range(0, len(sound), int(FILE * RATE)):
            part = sound[at : at + int(FILE * RATE)]
            soundfile.write(source / f"{at:09d}.wav", part, RATE, subtype="PCM_24")
        config.write_text(
            f"state_dir: {folder}/state\njsonl: {told}\nmachines:\n"
            f"  - {{name: bench, bundle: {bundle}, hop: {hop}, "
            f"source: {{kind: replay, paths: [{source}], speed: max}}}}\n"
        )
        auscult("run", "--config", config)
        for path in source.iterdir():
            path.unlink()
    return [json.loads(line) for line in told.read_text().splitlines()]


def summary(name: str, told: list[dict[str, Any]]) -> str:
    """One line of a stream."""
    windows = [one for one in told if one["kind"] == "score"]
    begin = datetime.fromisoformat(windows[0]["start"])
    events = [
        (one["type"].removeprefix("auscult."), datetime.fromisoformat(one["time"]))
        for one in told
        if one["kind"] == "event"
    ]
    times = [(word, (time - begin).total_seconds()) for word, time in events]
    raised = [at for word, at in times if word == "alarm.raised"]
    states = Counter(one["state"] for one in windows)
    known = f"{len(windows)} windows ({', '.join(f'{n} {s}' for s, n in states.items())})"
    others = Counter(word for word, _ in times if word != "alarm.raised")
    text = f"{known}; alarms {len(raised)}"
    if name.startswith("fault"):
        after = [at - ONSET for at in raised if at >= ONSET]
        text += f", before the onset {len(raised) - len(after)}"
        text += f", raised {after[0]:.0f} s after it" if after else ", MISSED"
    return f"{text}; other events {dict(others)}"


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--machines", nargs="+", default=["fan", "gearbox"])
    parser.add_argument("--seed", type=int, default=41)
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--hop", default="null", help="seconds, `auto`, or `null`: the bundle's")
    options = parser.parse_args()
    for kind in options.machines:
        machine = Machine(kind, options.seed)
        folder = options.out / f"{kind}-{options.seed}"
        bundle = bundle_of(machine, folder)
        for name, sounds in streams(machine, options.hours):
            told = hear(folder / name.replace(" ", "-"), bundle, sounds, options.hop)
            print(
                f"{kind} {options.seed}, hop {options.hop}, {name}: {summary(name, told)}",
                flush=True,
            )


if __name__ == "__main__":
    main()
