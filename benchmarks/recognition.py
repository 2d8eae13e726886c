"""Does a bundle recognise its machine? Every bundle on every machine's sound, at three gains.

    .venv/bin/python benchmarks/recognition.py FOLDER [--windows 24]

FOLDER gets bundles and joined recordings, and keeps them. Recordings of a machine are dealt to
three hands: `auscult learn` makes a bundle of the first and of the second, and the third is heard.
Printed are how many bundles of other machines are told, and how many of the machine itself, by what
`agent.recognition` says of them alone and after another bundle of the machine.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import soundfile

from agent.config.agent import MachineConfig
from agent.deploy.load import Bundle, open_bundle
from agent.machine.settings import settings_of
from agent.recognition.reference import Reference
from agent.recognition.watch import FAR, ODD
from plant.rollout.config import GateConfig

SHARED = Path(os.environ.get("AUSCULT_SHARED", Path(__file__).parents[2] / "shared")) / "data"
RATE, SECONDS, STEP = 16_000, 10, 2.5
GAINS = (0, 6, -6)
#: Machines of one type share the first letters of their names.
TYPES = ("motor", "toy", "fan", "rest", "drone")
OTHERS = ("bearing", "fan", "gearbox", "slider", "valve", "ToyTrain")
_MOST = 16


def recordings(folder: Path) -> dict[str, list[Path]]:
    """Healthy recordings by machine; short ones are joined, flights are cut."""
    toy = sorted((SHARED / "dcase2023/ToyCar/train").glob("*.flac"))
    fan = SHARED / "mimii_fan00"
    rest = sorted((SHARED / "compressor/rest").glob("*.flac"))[:100]
    found = {f"motor{n}": sorted((SHARED / f"motors/class{n}").glob("*.flac")) for n in range(3)}
    found["fan"] = sorted([*fan.glob("normal/*.flac"), *fan.glob("test/normal/*.flac")])
    for car in ("B1", "B2", "C1", "C2", "D1", "D2"):
        found[f"toy{car}"] = [path for path in toy if f"car_{car}_" in path.name]
    joined = [np.concatenate([_read(one) for one in rest[n : n + 5]]) for n in range(0, 100, 5)]
    found["rest"] = _written(folder / "rest_joined", joined)
    cut = []
    for path in sorted((SHARED / "upaad/normal").glob("*.flac")):
        sound, size = _read(path), SECONDS * RATE
        cut += [sound[at : at + size] for at in range(0, len(sound) - size, size)]
    found["drone"] = _written(folder / "drone_cut", cut)
    return found


def hands(paths: list[Path]) -> list[list[Path]]:
    """Recordings dealt to three."""
    return [paths[n::3][:_MOST] for n in range(3)]


def learnt(folder: Path, name: str, hand: int, paths: list[Path]) -> Bundle:
    """A bundle of one hand; made when it is not there."""
    place = folder / name / f"T{hand}" / "normal"
    bundle = folder / name / f"b{hand}.bundle"
    if not bundle.is_dir():
        place.mkdir(parents=True, exist_ok=True)
        for path in paths:
            (place / path.name).unlink(missing_ok=True)
            (place / path.name).symlink_to(path.resolve())
        words = ["learn", place.parent, "--untypical", "keep", "--out", bundle]
        subprocess.run([sys.executable, "-m", "agent.cli", *map(str, words)], check=True)
    return open_bundle(bundle, threads=1)


@dataclass(frozen=True)
class Found:
    """What a bundle makes of some sound: is it told, how far it lies, share above the threshold."""

    told: bool
    distance: float
    above: float


def look(bundle: Bundle, reference: Reference, vectors: np.ndarray) -> Found:
    """Judge embeddings of one machine's windows by one bundle."""
    scores = bundle.scorer.score(vectors)[0]
    distance = reference.distance(vectors.astype(np.float64).mean(axis=0))
    outside = not reference.lowest <= float(np.median(scores)) <= reference.highest
    alarm = settings_of(MachineConfig(name="x", hop_seconds=1.0), bundle).thresholds.alarm
    told = distance >= FAR or (distance >= ODD and outside)
    return Found(told, distance, float((scores > alarm).mean()))


def main() -> None:
    """Print the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--windows", type=int, default=24)
    args = parser.parse_args()
    machines = {name: hands(paths) for name, paths in recordings(args.folder).items()}
    bundles = {
        (name, hand): learnt(args.folder, name, hand, dealt[hand])
        for name, dealt in machines.items()
        for hand in (0, 1)
    }
    first = next(iter(bundles.values()))
    heard = {}
    for name, dealt in machines.items():
        windows = _windows(dealt[2], args.windows)
        for gain in GAINS:
            louder = windows * np.float32(10 ** (gain / 20))
            heard[name, gain] = _embedded(first, louder)
    for name in OTHERS:
        paths = sorted((SHARED / f"dcase2023_samples/{name}").rglob("*normal*.flac"))
        heard[f"sample {name}", 0] = _embedded(first, _windows(paths, args.windows))
    result = {}
    for place, bundle in bundles.items():
        reference = Reference.of(bundle)
        assert reference is not None
        for sound, vectors in heard.items():
            result[place, sound] = look(bundle, reference, vectors)
    _report(list(machines), result)


def _report(names: list[str], result: dict) -> None:
    alone: dict[str, list[Found]] = {"itself": [], "same type": [], "another type": []}
    for ((name, _), (sound, gain)), found in result.items():
        kind = _kind(name, sound)
        if kind == "itself" or gain == 0:
            alone[kind].append(found)
    for kind, found in alone.items():
        told = sum(one.told for one in found)
        above = sum(one.above > 0.5 for one in found)
        either = sum(one.told or one.above > 0.5 for one in found)
        far = max(one.distance for one in found), min(one.distance for one in found)
        print(
            f"{kind}: {len(found)} bundles on a sound; told {told}, half of the windows above the "
            f"threshold {above}, either {either}; distance {far[1]:.2f} to {far[0]:.2f}"
        )
    gate = GateConfig()
    after: dict[str, list[bool]] = {kind: [] for kind in alone}
    for name, new, gain, (old, other) in product(names, names, GAINS, ((0, 1), (1, 0))):
        kind = _kind(new, name)
        if kind != "itself" and gain:
            continue
        was = result[(name, old), (name, gain)].distance
        now = result[(new, other), (name, gain)].distance
        after[kind].append(now >= max(1.0, gate.most_farther * was))
    for kind, held in after.items():
        print(f"{kind}, after a bundle of the machine: {len(held)} updates; held back {sum(held)}")


def _kind(name: str, sound: str) -> str:
    if name == sound:
        return "itself"
    types = [next((one for one in TYPES if text.startswith(one)), text) for text in (name, sound)]
    return "same type" if types[0] == types[1] else "another type"


def _read(path: Path) -> np.ndarray:
    sound, rate = soundfile.read(path, dtype="float32", always_2d=True)
    if rate != RATE:
        raise SystemExit(f"{path}: {rate} Hz, not {RATE}")
    return sound.mean(axis=1)


def _written(folder: Path, sounds: list[np.ndarray]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{n:03}.flac" for n in range(len(sounds))]
    for path, sound in zip(paths, sounds, strict=True):
        soundfile.write(path, sound, RATE)
    return paths


def _windows(paths: list[Path], most: int) -> np.ndarray:
    sound, size, step = np.concatenate([_read(one) for one in paths]), SECONDS * RATE, STEP * RATE
    starts = [round(n * step) for n in range(most) if n * step + size <= len(sound)]
    return np.stack([sound[at : at + size] for at in starts]).astype(np.float32)


def _embedded(bundle: Bundle, windows: np.ndarray) -> np.ndarray:
    parts = [bundle.encoder.encode(windows[at : at + 4]) for at in range(0, len(windows), 4)]
    return np.concatenate(parts)


if __name__ == "__main__":
    main()
