"""Recordings of three machines: made sound, or some of those that a plant has."""

from __future__ import annotations

import wave
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from plant.learn.task import PlantError

_RATE = 16_000
_SECONDS = 12
_RECORDINGS = 12
_AUDIO = frozenset({".wav", ".flac", ".ogg", ".aiff", ".aif", ".mp3", ".m4a", ".opus"})
#: By machine, the frequency that it turns at, Hz.
MACHINES = {"fan": 24.0, "gearbox": 41.0, "pump": 49.0}


def write_machines(folder: Path) -> dict[str, Path]:
    """A folder with `normal/` for each machine.

    Args:
        folder: Where to.

    Returns:
        By machine, its folder.
    """
    found = {}
    for seed, (name, hertz) in enumerate(MACHINES.items()):
        found[name] = folder / name
        place = found[name] / "normal"
        place.mkdir(parents=True)
        for n in range(_RECORDINGS):
            _write(place / f"{n:02}.wav", _machine(hertz, 100 * seed + n))
    return found


def gather(folder: Path, machines: Mapping[str, Path], most: int) -> dict[str, Path]:
    """Some recordings of each machine in a folder with `normal/`, linked: a demo learns in seconds.

    Args:
        folder: Where to.
        machines: By name, a folder with `normal/`, or with the recordings of the healthy machine.
        most: So many of each, spread over all of them.

    Returns:
        By machine, its folder.

    Raises:
        PlantError: One has no recordings.
    """
    found = {}
    for name, place in machines.items():
        normal = place / "normal" if (place / "normal").is_dir() else place
        files = sorted(path for path in normal.rglob("*") if path.suffix.lower() in _AUDIO)
        if not files:
            raise PlantError("has no recordings", where=normal, remedy="Name another folder.")
        found[name] = folder / name
        (found[name] / "normal").mkdir(parents=True)
        for n in range(min(most, len(files))):
            path = files[n * len(files) // min(most, len(files))]
            (found[name] / "normal" / f"{n:03}-{path.name}").symlink_to(path.absolute())
    return found


def _machine(hertz: float, seed: int) -> npt.NDArray[np.float64]:
    """Harmonics in noise; each recording a little different in speed and level."""
    random = np.random.default_rng(seed)
    t = np.arange(_SECONDS * _RATE) / _RATE
    turning = hertz * (1 + 0.004 * random.standard_normal())
    sound = 0.02 * random.standard_normal(len(t))
    for k in range(1, 12):
        phase = random.uniform(0, 2 * np.pi)
        sound += 0.08 / k * np.sin(2 * np.pi * k * turning * t + phase)
    loudness: float = 10 ** (random.normal(0, 0.5) / 20)
    return sound * loudness


def _write(path: Path, sound: npt.NDArray[np.float64]) -> None:
    samples = (np.clip(sound, -1, 1) * 32767).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(_RATE)
        file.writeframes(samples.tobytes())
