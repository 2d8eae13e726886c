"""A folder of synthetic recordings, in either layout the trainer reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile
from rich.progress import Progress

from agent.core.cores import on_cores
from agent.core.progress import stage
from agent.core.records import Samples
from trainer.synth.design import Fault, FaultKind, MachineDesign, Valve
from trainer.synth.render import Operation, render, render_background, steady, varying

VALVES: tuple[Valve, ...] = ("open", "half")
FAULT_KINDS: tuple[FaultKind, ...] = ("imbalance", "bearing", "belt")
# Gains of recordings differ by up to this much either way, dB: microphones get moved.
GAIN_SPREAD_DB = 2.0


@dataclass(frozen=True, slots=True)
class Counts:
    """How many recordings of each sort.

    Attributes:
        train_source: Healthy, source domain, to learn from.
        train_target: Healthy, target domain, to learn from.
        test_normal: Healthy test recordings of each domain that is trained on.
        test_anomaly: Faulty test recordings of each such domain, the kinds of fault in turn.
        idle: Motor energized, machine standing (plain layout only).
        noise: The site alone (plain layout only).
    """

    train_source: int = 72
    train_target: int = 8
    test_normal: int = 16
    test_anomaly: int = 18
    idle: int = 4
    noise: int = 4


@dataclass(frozen=True, slots=True)
class _Item:
    """One recording to make."""

    path: Path
    site: str
    operation: Operation
    faults: tuple[Fault, ...] = ()


def write_dataset(
    folder: Path,
    design: MachineDesign,
    *,
    seed: int = 0,
    layout: Literal["dcase", "plain"] = "dcase",
    machine: str = "SynthFan",
    counts: Counts | None = None,
    faults: tuple[FaultKind, ...] = FAULT_KINDS,
    severity: tuple[float, float] = (0.5, 1.0),
    seconds: float = 10.0,
    rate: int = 16000,
    progress: Progress | None = None,
) -> Path:
    """Write recordings of a machine.

    Healthy recordings go through every combination of load (low, mid, high, changing) and valve
    (open, half) in turn; so do the faulty ones, whose loudness therefore tells little. A recording
    depends on `seed` and its own name alone: changing the counts changes no other recording.

    Args:
        folder: Where to write; made if absent.
        design: The machine.
        seed: Of the recordings (the machine has its own).
        layout: `dcase` writes `<folder>/<machine>/{train,test}/section_00_...` with domains and
            attributes in the names; `plain` writes `<folder>/<machine>/{normal,test/normal,
            test/anomaly,idle,noise}/` as an engineer would, source domain only.
        machine: Its name.
        counts: How many of each.
        faults: Kinds of fault in the test set.
        severity: Range severities are drawn from.
        seconds: Length of a recording.
        rate: Samples a second.
        progress: Told of each recording.

    Returns:
        The machine's folder.
    """
    counts = counts or Counts()
    root = folder / machine
    names = _dcase if layout == "dcase" else _plain
    items = list(names(root, design, counts, faults, severity, seconds, seed))
    extras = _background_items(root, counts) if layout == "plain" else []
    advance = stage(progress, "synthesizing", len(items) + len(extras))

    def make(item: _Item) -> None:
        rng = _generator(seed, item.path.relative_to(root))
        sound = render(
            design,
            item.operation,
            seconds,
            rng,
            rate=rate,
            site=item.site,
            faults=item.faults,
            gain_db=float(rng.uniform(-GAIN_SPREAD_DB, GAIN_SPREAD_DB)),
        )
        _write(item.path, sound, rate)

    def make_extra(extra: tuple[Path, bool]) -> None:
        path, motor = extra
        rng = _generator(seed, path.relative_to(root))
        _write(path, render_background(design, seconds, rng, rate=rate, motor=motor), rate)

    for _ in on_cores(make, items):
        advance()
    for _ in on_cores(make_extra, extras):
        advance()
    return root


def _dcase(
    root: Path,
    design: MachineDesign,
    counts: Counts,
    kinds: tuple[FaultKind, ...],
    severity: tuple[float, float],
    seconds: float,
    seed: int,
) -> Iterator[_Item]:
    """Names as DCASE Task 2 writes them: section, domain, split, label, index, attributes."""
    for site, train in (("source", counts.train_source), ("target", counts.train_target)):
        if not train:
            continue
        for split, label, count in (
            ("train", "normal", train),
            ("test", "normal", counts.test_normal),
            ("test", "anomaly", counts.test_anomaly),
        ):
            for i in range(count):
                stem = f"section_00_{site}_{split}_{label}_{i:04d}"
                rng = _generator(seed, Path(f"{stem}/plan"))
                operation = _operation(design, i, seconds, rng)
                stem += f"_load_{operation.name}_valve_{operation.valve}"
                broken = _faults(kinds, severity, i, rng) if label == "anomaly" else ()
                yield _Item(root / split / f"{stem}.wav", site, operation, broken)


def _plain(
    root: Path,
    design: MachineDesign,
    counts: Counts,
    kinds: tuple[FaultKind, ...],
    severity: tuple[float, float],
    seconds: float,
    seed: int,
) -> Iterator[_Item]:
    """Names an engineer would give."""
    for place, count in (
        ("normal", counts.train_source),
        ("test/normal", counts.test_normal),
        ("test/anomaly", counts.test_anomaly),
    ):
        for i in range(count):
            rng = _generator(seed, Path(f"{place}/{i:04d}/plan"))
            broken = _faults(kinds, severity, i, rng) if place == "test/anomaly" else ()
            stem = f"{broken[0].kind}_{i:04d}" if broken else f"recording_{i:04d}"
            operation = _operation(design, i, seconds, rng)
            yield _Item(root / place / f"{stem}.wav", "source", operation, broken)


def _background_items(root: Path, counts: Counts) -> list[tuple[Path, bool]]:
    """(path, whether the motor is energized)."""
    idle = [(root / "idle" / f"recording_{i:04d}.wav", True) for i in range(counts.idle)]
    noise = [(root / "noise" / f"recording_{i:04d}.wav", False) for i in range(counts.noise)]
    return idle + noise


def _operation(
    design: MachineDesign, index: int, seconds: float, rng: np.random.Generator
) -> Operation:
    """Each combination of load and valve in turn."""
    loads = [*(point.name for point in design.points), "vary"]
    load = loads[index % len(loads)]
    valve = VALVES[index // len(loads) % len(VALVES)]
    if load == "vary":
        return varying(design, seconds, rng, valve=valve)
    return steady(design, load, valve)


def _faults(
    kinds: tuple[FaultKind, ...],
    severity: tuple[float, float],
    index: int,
    rng: np.random.Generator,
) -> tuple[Fault, ...]:
    """Each kind in turn."""
    return (Fault(kinds[index % len(kinds)], float(rng.uniform(*severity))),)


def _generator(seed: int, name: Path) -> np.random.Generator:
    """A generator that belongs to one name."""
    return np.random.default_rng([seed, *name.as_posix().encode()])


def _write(path: Path, sound: Samples, rate: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound, rate, subtype="PCM_16")
