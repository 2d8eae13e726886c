"""Healthy recordings of a made machine, as folders to learn from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import soundfile

RATE = 16000


def hum(seed: int, seconds: float = 12.0) -> np.ndarray:
    """A machine's hum in noise, each recording a little different, float32 `(n,)`."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * RATE)) / RATE
    sound = 0.02 * rng.standard_normal(len(t))
    for k in range(1, 8):
        sound += 0.05 / k * np.sin(2 * np.pi * 50 * (1 + 0.01 * rng.standard_normal()) * k * t)
    return (sound * 10 ** (rng.normal(0, 0.5) / 20)).astype(np.float32)


def idle(seed: int, seconds: float = 12.0) -> np.ndarray:
    """The same place while the machine stands still."""
    rng = np.random.default_rng(1000 + seed)
    return (0.001 * rng.standard_normal(round(seconds * RATE))).astype(np.float32)


def folder(root: Path, normal: int = 8, still: int = 2) -> Path:
    """A machine's folder in the plain layout."""
    for role, count, make in (("normal", normal, hum), ("idle", still, idle)):
        (root / role).mkdir(parents=True)
        for n in range(count):
            soundfile.write(root / role / f"{n:02}.flac", make(n), RATE)
    return root


def collected(state: Path, machine: str, count: int = 8, label: str = "healthy") -> Path:
    """A session of an agent's collected sound."""
    name = f"20260302T10{len(label):02}00Z-abcdef"
    place = state / "collected" / machine / label / name
    place.mkdir(parents=True)
    segments = []
    for n in range(count):
        soundfile.write(place / f"{n:04}.flac", (hum if label == "healthy" else idle)(n), RATE)
        segments.append(
            {"file": f"{n:04}.flac", "start": f"2026-03-02T10:{n:02}:00Z", "seconds": 12.0,
             "level_dbfs": -20.0}
        )  # fmt: skip
    record = {
        "session": name, "device": "test", "machine": machine, "label": label,
        "started": "2026-03-02T10:00:00Z", "clock": "synchronised", "rate": RATE,
        "asked_seconds": 12.0 * count, "heard_seconds": 12.0 * count,
        "kept_seconds": 12.0 * count, "complete": True, "segments": segments,
    }  # fmt: skip
    (place / "session.json").write_text(json.dumps(record))
    return place
