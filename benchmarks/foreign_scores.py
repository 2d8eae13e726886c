"""Slots of a machine's day, judged once as the agent does; what else is heard is told apart.

Kept on disk, so that another way of deciding is tried in seconds.
"""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import foreign_slots as elsewhere
import numpy as np
from foreign_slots import RATE, Slot

from agent.config.agent import MachineConfig
from agent.core.foreign import ForeignSound
from agent.core.records import AudioBlock, MachineState, Score
from agent.deploy.load import Bundle
from agent.foreign.ear import ForeignEar
from agent.level.check import LevelCheck
from agent.machine.scoring import WindowScorer
from agent.machine.settings import MachineSettings, settings_of
from agent.window.rolling import RollingWindow

AUSCULT = Path(sys.executable).with_name("auscult")


class _Long:
    """Zeros in place of samples, for stages that look at scores alone."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count


@dataclass(frozen=True)
class Heard:
    """A window as it was judged: its score without samples, what the machine does in it."""

    score: Score
    state: MachineState


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


def prepare(
    root: Path, work: Path, shared: Path, seed: int, training: Sequence[str | Path]
) -> tuple[Path, list[Slot]]:
    """The machine's bundle, and its slots, which are kept."""
    folder = work / root.name
    bundle, kept = folder / "bundle", folder / "slots"
    if not (bundle / "manifest.json").exists():
        auscult("train", root, *training, "--out", folder / "run", "--force", "--untypical", "keep")
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


def settings(bundle: Bundle, hop: float) -> MachineSettings:
    """By what a machine with all defaults is judged."""
    return settings_of(MachineConfig(name="bench", hop_seconds=hop), bundle)


def judged(bundle: Bundle, hop: float, slots: Sequence[Slot], kept: Path) -> list[list[Heard]]:
    """Every slot's windows, judged as the agent does, or as they were kept."""
    if kept.exists():
        return list(pickle.loads(kept.read_bytes()))
    encoder, terms = bundle.manifest.encoder, settings(bundle, hop)
    found = []
    for slot in slots:
        judge = WindowScorer("bench", bundle)
        judge.levels = terms.levels
        judge.level = LevelCheck(bundle, terms.thresholds.alarm, weak=terms.thresholds.each[1:])
        rolling = RollingWindow(encoder.window_samples, terms.hop_samples, encoder.sample_rate)
        row = []
        for at in range(0, len(slot.sound), RATE):
            block = AudioBlock(slot.sound[at : at + RATE], RATE, at / RATE, at / RATE)
            for window in rolling.push(block):
                one = judge.judge(window)
                # Its length is all that the decider asks of it.
                short = replace(one.score.window, samples=_Long(encoder.window_samples))
                row.append(Heard(replace(one.score, window=short), one.state))
        found.append(row)
    kept.write_bytes(pickle.dumps(found))
    return found


Said = tuple[bool, tuple[ForeignSound, ...]]


def told(
    bundle: Bundle, hop: float, slots: Sequence[Slot], heard: list[list[Heard]], ear: ForeignEar
) -> list[list[Said]]:
    """What an ear says of every window that exceeds the lowest threshold."""
    terms = settings(bundle, hop)
    lowest = min(one for one in terms.thresholds.each if one is not None)
    found = []
    for slot, windows in zip(slots, heard, strict=True):
        row: list[Said] = []
        for one in windows:
            said: Said = (False, ())
            if one.score.counted is not None and one.score.counted > lowest:
                first = round(one.score.window.monotonic * RATE)
                samples = slot.sound[first : first + len(one.score.window.samples)]
                said = ear.hear(bundle, samples)
            row.append(said)
        found.append(row)
    return found
