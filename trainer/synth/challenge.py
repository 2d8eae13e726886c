"""A made-up data set laid out as DCASE 2025 Task 2, to try a reproduction on without the real one.

Seven machine types, each a design of its own; source and target domain; three without attributes;
supplemental recordings of the clean machine for some and of noise alone for the others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile
from rich.progress import Progress

from trainer.synth.dataset import Counts, write_dataset
from trainer.synth.design import MachineDesign, design_machine
from trainer.synth.render import render, render_background, steady

# As in the challenge: three of the seven tell no attributes.
MACHINES = ("ToyCar", "ToyTrain", "bearing", "fan", "gearbox", "slider", "valve")
WITHOUT_ATTRIBUTES = ("fan", "gearbox", "slider")
# These bring the machine without noise; the others noise without the machine.
CLEAN = ("ToyCar", "bearing", "gearbox", "valve")
_RAW = Path("dev_data") / "raw"
_CLEAN_DB = -60.0


@dataclass(frozen=True, slots=True)
class ChallengeCounts:
    """Recordings of each machine; the challenge's own are 990, 10, 100 and 50.

    Attributes:
        source: Healthy ones to learn from, source domain.
        target: The same of the target domain.
        supplemental: Clean or noise-only ones.
        test: Test recordings of each domain and label.
    """

    source: int = 990
    target: int = 10
    supplemental: int = 100
    test: int = 50


def write_challenge(
    folder: Path,
    *,
    counts: ChallengeCounts | None = None,
    machines: tuple[str, ...] = MACHINES,
    seconds: float = 10.0,
    rate: int = 16000,
    seed: int = 0,
    progress: Progress | None = None,
) -> Path:
    """Write the data set as `<folder>/dev_data/raw/<machine>/{train,test,supplemental}`.

    Args:
        folder: Where to write; made if absent.
        counts: How many of each; the challenge's own when None.
        machines: Machine types.
        seconds: Length of a recording.
        rate: Samples a second.
        seed: Of designs and recordings.
        progress: Told of each recording but the supplemental ones.

    Returns:
        `folder`.
    """
    counts = counts or ChallengeCounts()
    for place, name in enumerate(machines):
        design = design_machine(1000 * seed + place)
        root = write_dataset(
            folder / _RAW,
            design,
            seed=seed + place,
            machine=name,
            counts=Counts(counts.source, counts.target, counts.test, counts.test),
            severity=(1.0, 1.0),
            seconds=seconds,
            rate=rate,
            progress=progress,
        )
        if name in WITHOUT_ATTRIBUTES:
            _drop_attributes(root)
        _write_supplemental(root, design, counts.supplemental, name in CLEAN, seconds, rate, seed)
    return folder


def _drop_attributes(root: Path) -> None:
    """Name the recordings as the challenge does where it tells no attributes."""
    for path in sorted(root.glob("*/section_*.wav")):
        words = path.stem.split("_")
        # section, its number, domain, split, label, running number; then attributes.
        path.rename(path.with_name("_".join([*words[:6], "noAttribute"]) + ".wav"))


def _write_supplemental(
    root: Path,
    design: MachineDesign,
    count: int,
    clean: bool,
    seconds: float,
    rate: int,
    seed: int,
) -> None:
    place = root / "supplemental"
    place.mkdir(parents=True, exist_ok=True)
    first, second = (replace(site, noise_db=_CLEAN_DB) for site in design.sites)
    quiet = replace(design, sites=(first, second))
    for index in range(count):
        rng = np.random.default_rng([seed, index, *root.name.encode()])
        if clean:
            stem = f"section_00_source_supplemental_machine_{index:04d}"
            point = design.points[index % len(design.points)].name
            sound = render(quiet, steady(quiet, point), seconds, rng, rate=rate)
        else:
            stem = f"section_00_noise_supplemental_normal_{index:04d}"
            sound = render_background(design, seconds, rng, rate=rate)
        soundfile.write(place / f"{stem}.wav", sound, rate, subtype="PCM_16")
