"""Sounds from elsewhere over healthy and faulty machines: false alarms, and recall of faults.

    auscult convert-tagger yamnet_spectra_in.tflite --out tagger.onnx
    python benchmarks/foreign_sounds.py --shared ../shared --work FOLDER --tagger tagger.onnx

Trains and exports a machine of each family as a user would, lays nineteen kinds of sound (speech by
espeak-ng, ESC-10, made impulses, tools, vehicles, radio, rain) at -6 to 10 dB over its healthy and
its faulty sound, and lets the agent's own scorer and decider hear them: as before there was a rule
for what passes, with all defaults, and with `ignore`, by the spectrum and by the models.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import foreign_slots as elsewhere
import machines
import numpy as np
from foreign_slots import Slot
from rich.console import Console
from rich.table import Table

from agent.config.agent import MachineConfig
from agent.config.foreign import ForeignConfig
from agent.core.foreign import ForeignKind, ForeignSound
from agent.core.records import AudioBlock, Level, MachineState, Score
from agent.decide.alarm import AlarmDecider
from agent.deploy.load import Bundle, open_bundle
from agent.foreign.ear import ForeignEar
from agent.level.check import LevelCheck
from agent.machine.scoring import WindowScorer
from agent.machine.settings import MachineSettings, settings_of
from agent.window.rolling import RollingWindow

AUSCULT = Path(sys.executable).with_name("auscult")
RATE = 16_000
# One of each family; the compressor's later days raise by themselves (docs/notes/choice.md).
CHOSEN = (
    "ToyCar", "ToyCar-35a", "mimii_fan-10b", "motor0-30", "motor1-30", "drone0", "fan11", "fan12",
    "valve1", "gearbox1", "piston1", "slide1", "pump1",
)  # fmt: skip


def auscult(*words: str | Path) -> None:
    """Run a command; its own words explain a failure."""
    done = subprocess.run([AUSCULT, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"auscult {' '.join(map(str, words))}\n{done.stdout}{done.stderr}")


def parts(root: Path) -> tuple[list[Path], list[Path]]:
    """Healthy and faulty recordings to test with."""
    if (root / "train").is_dir():
        clips = sorted((root / "test").iterdir())
        return (
            [p for p in clips if "_normal_" in p.name],
            [p for p in clips if "_anomaly_" in p.name],
        )
    return (
        sorted((root / "test" / "normal").iterdir()),
        sorted((root / "test" / "anomaly").iterdir()),
    )


def prepare(root: Path, work: Path, shared: Path, seed: int) -> tuple[Path, list[Slot]]:
    """The machine's bundle, and its slots, which are kept."""
    folder = work / root.name
    bundle, kept = folder / "bundle", folder / "slots"
    if not (bundle / "manifest.json").exists():
        auscult("train", root, "--out", folder / "run", "--force", "--untypical", "keep")
        auscult("export", folder / "run", "--out", bundle, "--no-test")
    if not (kept / "done").exists():
        kept.mkdir(parents=True, exist_ok=True)
        healthy, faulty = (
            [elsewhere.read_audio(path, rate=RATE) for path in paths] for paths in parts(root)
        )
        esc10 = shared / "data" / "esc10"
        for number, slot in enumerate(elsewhere.slots(healthy, faulty, esc10, seed)):
            facts = {k: v for k, v in vars(slot).items() if k != "sound"}
            sound = np.round(slot.sound * 32767).astype(np.int16)
            np.savez(kept / f"{number:03d}.npz", facts=json.dumps(facts), sound=sound)
        (kept / "done").touch()
    return bundle, list(read(kept))


def read(folder: Path) -> Iterator[Slot]:
    """The kept slots of a machine."""
    for path in sorted(folder.glob("*.npz")):
        data = np.load(path, allow_pickle=False)
        sound = data["sound"].astype(np.float32) / 32767
        yield Slot(**json.loads(str(data["facts"])), sound=sound)


@dataclass(frozen=True)
class Heard:
    """A window as it was judged, and what each way of telling says of it: varies, foreign."""

    score: Score
    state: MachineState
    said: dict[str, tuple[bool, tuple[ForeignSound, ...]]]


def hear(bundle: Bundle, hop: float, slot: Slot, ears: dict[str, ForeignEar]) -> list[Heard]:
    """Judge a slot as the agent does."""
    encoder = bundle.manifest.encoder
    settings = settings_of(MachineConfig(name="bench", hop_seconds=hop), bundle)
    judge = WindowScorer("bench", bundle)
    judge.levels = settings.levels
    judge.level = LevelCheck(bundle, settings.thresholds.alarm, weak=settings.thresholds.alert)
    rolling = RollingWindow(encoder.window_samples, settings.hop_samples, encoder.sample_rate)
    found = []
    for at in range(0, len(slot.sound), RATE):
        block = AudioBlock(slot.sound[at : at + RATE], RATE, at / RATE, at / RATE)
        for window in rolling.push(block):
            judged = judge.judge(window)
            score, said = judged.score, {}
            if score.counted is not None and score.counted > settings.thresholds.alarm:
                said = {name: ear.hear(bundle, score.window.samples) for name, ear in ears.items()}
            # Its length is all that the decider asks of it.
            short = replace(score.window, samples=_Long(encoder.window_samples))
            found.append(Heard(replace(score, window=short), judged.state, said))
    return found


class _Long:
    """Zeros in place of samples, for stages that look at scores alone."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count


@dataclass(frozen=True)
class Rule:
    """How what is heard is decided on."""

    name: str
    ear: str
    ignore: tuple[ForeignKind, ...] = ()
    passing: bool = True


BY_SPECTRUM = (ForeignKind.SPEECH, ForeignKind.IMPULSES, ForeignKind.PASSING)
RULES = (
    Rule("as before", "spectrum", passing=False),
    Rule("defaults", "spectrum"),
    Rule("ignore speech, impulses, passing", "spectrum", BY_SPECTRUM),
    Rule("ignore all six by models", "models", tuple(k for k in ForeignKind if k != "passing")),
    Rule("ignore all seven, models", "models", tuple(ForeignKind)),
)


def first_alarm(settings: MachineSettings, rule: Rule, heard: list[Heard]) -> float | None:
    """When the alarm rises; None when it never does."""
    changes = {} if rule.passing else {"decide": {"passing_seconds": None}}
    config = MachineConfig.model_validate({"name": "bench", **changes})
    decider = AlarmDecider(
        config.decide, settings.thresholds.alarm, alert_threshold=settings.thresholds.alert,
        hop_seconds=settings.hop_seconds, overlap_seconds=settings.overlap_seconds,
        ignore=rule.ignore,
    )  # fmt: skip
    for one in heard:
        varies, foreign = one.said.get(rule.ear, (False, ()))
        score = replace(one.score, varies=varies, foreign=foreign)
        if decider.decide(score, one.state).level is Level.ALARM:
            return score.window.monotonic + settings.hop_seconds
    return None


def main() -> None:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--shared", type=Path, default=Path(os.environ.get("AUSCULT_SHARED", "")))
    parser.add_argument("--work", type=Path, required=True, help="folder for bundles and slots")
    parser.add_argument("--tagger", type=Path, help="made by auscult convert-tagger")
    parser.add_argument("--hop", type=float, default=1.0)
    parser.add_argument("--only", nargs="*", default=list(CHOSEN))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    laid = options.work / "machines"
    if not laid.exists():
        for real in (machines.toycar, machines.mimii_fan, machines.motors, machines.drones):
            real(options.shared, laid)
        machines.synthetic(laid)
    speech = options.shared / "weights" / "silero_vad.onnx"
    found: list[dict[str, object]] = []
    for name in options.only:
        path, slots = prepare(laid / name, options.work, options.shared, sum(map(ord, name)))
        bundle = open_bundle(path, threads=1)
        settings = settings_of(MachineConfig(name="bench", hop_seconds=options.hop), bundle)
        kept = options.work / name / f"heard-{options.hop:g}.pickle"
        if kept.exists():
            heard = pickle.loads(kept.read_bytes())
        else:
            ears = {"spectrum": ForeignEar(name, ForeignConfig())}
            if options.tagger:
                ears["models"] = ForeignEar(
                    name, ForeignConfig(tagger=options.tagger, speech=speech)
                )
            for ear in ears.values():
                ear.start()
            heard = [hear(bundle, options.hop, slot, ears) for slot in slots]
            kept.write_bytes(pickle.dumps(heard))
        for rule in RULES:
            for slot, windows in zip(slots, heard, strict=True):
                at = first_alarm(settings, rule, windows)
                found.append(
                    {"machine": name, "rule": rule.name, "background": slot.background,
                     "kind": slot.kind, "snr_db": slot.snr_db, "alarm": at}
                )  # fmt: skip
        bundle.close()
        print(name, flush=True)
    show(found)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


def _cell(hits: list[bool]) -> str:
    return f"{sum(hits)}/{len(hits)}" if hits else "-"


def show(found: list[dict[str, object]]) -> None:
    """Print the tables."""
    console = Console(width=120)
    backgrounds = (("healthy", ""), ("healthy", "mixed"), ("faulty", ""), ("faulty", "mixed"))
    for rule in RULES:
        rows = [row for row in found if row["rule"] == rule.name]
        table = Table(title=f"alarms, {rule.name}")
        for name in ("machine", "healthy alone", "with sounds", "faulty alone", "with sounds"):
            table.add_column(name)
        names = list(dict.fromkeys(str(row["machine"]) for row in rows))
        for machine in [*names, "all"]:
            cells = [
                _cell([
                    row["alarm"] is not None
                    for row in rows
                    if machine in {row["machine"], "all"}
                    and row["background"] == background
                    and bool(row["kind"]) == bool(mixed)
                ])
                for background, mixed in backgrounds
            ]  # fmt: skip
            table.add_row(machine, *cells)
        console.print(table)
    table = Table(title="alarms by sound, over healthy / over faulty")
    table.add_column("sound")
    for rule in RULES:
        table.add_column(rule.name)
    hits: dict[tuple[str, str, str], list[bool]] = defaultdict(list)
    for row in found:
        key = (str(row["rule"]), str(row["kind"]), str(row["background"]))
        hits[key].append(row["alarm"] is not None)
    for kind in elsewhere.KINDS:
        cells = [
            " / ".join(_cell(hits[rule.name, kind.name, side]) for side in ("healthy", "faulty"))
            for rule in RULES
        ]
        table.add_row(kind.name, *cells)
    console.print(table)


if __name__ == "__main__":
    main()
