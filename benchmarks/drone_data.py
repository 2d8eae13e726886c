"""Drone flights in noise: a data set and a spliced stream from the UPAAD and ESC-10 recordings.

Healthy and broken flights differ in loudness, so each is brought to one RMS level first; then
background noise (rain, chainsaw, helicopter, sea, fire) is added at a stated signal-to-noise ratio.
Training and test never share a flight or a noise clip.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from agent.capture.files import read_audio

RATE = 16_000
LEVEL = 0.05  # RMS of a flight, full scale 1
HELD_OUT = 3  # healthy flights kept for the test
CLIP_SECONDS = 10.0

Samples = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Drone:
    """Paths of what was written."""

    data: Path
    healthy: tuple[Path, ...]
    broken: tuple[Path, ...]


def mixed(
    flight: Samples, noises: list[Samples], snr_db: float, rng: np.random.Generator
) -> Samples:
    """A flight at `LEVEL` with a chain of noise clips at `snr_db` below it."""
    noise = np.concatenate([noises[i] for i in rng.integers(0, len(noises), 40)])[: len(flight)]
    flight = flight * (LEVEL / np.sqrt(np.mean(flight**2)))
    noise = noise * (LEVEL * 10 ** (-snr_db / 20) / np.sqrt(np.mean(noise**2)))
    return (flight + noise).astype(np.float32)


def write(shared: Path, out: Path, *, snr_db: float = 0.0, seed: int = 0) -> Drone:
    """Write the plain layout under `out/data`, and whole held-out flights under `out/stream`.

    Args:
        shared: Folder that holds `data/upaad` and `data/esc10`.
        out: Folder to write.
        snr_db: Signal-to-noise ratio, dB.
        seed: Chooses the held-out flights, the noise and its order.
    """
    rng = np.random.default_rng(seed)
    clips = sorted((shared / "data" / "esc10").rglob("*.ogg"))
    rng.shuffle(clips)  # type: ignore[arg-type]
    noises = [read_audio(path, rate=RATE) for path in clips]
    noises = [n / max(float(np.sqrt(np.mean(n**2))), 1e-6) for n in noises]
    half = len(noises) // 2
    for_training, for_test = noises[:half], noises[half:]
    normal = sorted((shared / "data" / "upaad" / "normal").glob("*.flac"))
    rng.shuffle(normal)  # type: ignore[arg-type]
    broken = sorted((shared / "data" / "upaad" / "broken").glob("*.flac"))
    for path in normal[HELD_OUT:]:
        _write(out / "data" / "normal" / path.name, mixed(_read(path), for_training, snr_db, rng))
    streams: dict[str, list[Path]] = {"normal": [], "anomaly": []}
    for label, paths in (("normal", normal[:HELD_OUT]), ("anomaly", broken)):
        for path in paths:
            samples = mixed(_read(path), for_test, snr_db, rng)
            stream = out / "stream" / label / path.name
            _write(stream, samples)
            streams[label].append(stream)
            length = int(CLIP_SECONDS * RATE)
            for i in range(len(samples) // length):
                clip = out / "data" / "test" / label / f"{path.stem}_{i:02d}.flac"
                _write(clip, samples[i * length : (i + 1) * length])
    return Drone(out / "data", tuple(streams["normal"]), tuple(streams["anomaly"]))


def _read(path: Path) -> Samples:
    return read_audio(path, rate=RATE)


def _write(path: Path, samples: Samples) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, RATE, subtype="PCM_16")
