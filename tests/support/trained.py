"""A bundle of a made machine, trained and exported from recordings as a user does it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from agent.hygiene.stage import inspect_machine
from agent.recordings.load import load_machines
from export.bundle import export_run
from trainer.learn import train_machine
from trainer.preset_file import load_preset

RATE = 16000


def sound(random: np.random.Generator, seconds: int = 10) -> np.ndarray:
    """A hum of the mains in noise whose strength wanders, float32 `(n,)`."""
    t = np.arange(seconds * RATE) / RATE
    noise = 0.05 * random.normal(size=len(t)) * (1 + 0.2 * np.sin(13 * t))
    return (noise + 0.05 * np.sin(2 * np.pi * random.uniform(49, 51) * t)).astype(np.float32)


def bundle_of(root: Path, recordings: Sequence[np.ndarray], channel: int | None = None) -> Path:
    """Inspect, train and export a machine `pump`; gives the bundle's folder.

    Args:
        root: An empty folder.
        recordings: Healthy, float32 `(n,)` or `(n, channels)` each.
        channel: Channel that is learnt; None for the average.
    """
    (root / "pump/normal").mkdir(parents=True)
    for n, one in enumerate(recordings):
        soundfile.write(root / f"pump/normal/{n:02}.wav", one, RATE, subtype="FLOAT")
    (machine,) = load_machines(root / "pump", channel=channel)
    found = inspect_machine(machine, channel=channel)
    train_machine(
        found.machine, load_preset("auscult_scratch"), root / "run",
        channel=channel, hygiene=found.record,
    )  # fmt: skip
    export_run(root / "run", root / "bundle", test=False)
    return root / "bundle"
