"""Machines in service: what they are trained on, hours of healthy sound, and what fails.

Synthetic machines run at changing loads for hours; recorded ones are in `service_recorded`. Faults
begin at a known moment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import soundfile
from service_recorded import place, recorded, write_clips
from service_sounds import (
    CHANGES,
    LEAD,
    RATE,
    Event,
    Place,
    Stream,
    changed,
    cycled,
    joined,
    restarts_of,
    sick_cycles,
    with_events,
)

from trainer.synth.dataset import Counts, write_dataset
from trainer.synth.design import Fault, MachineDesign, design_machine
from trainer.synth.families import FAMILIES, FamilyKind, render_family
from trainer.synth.render import render, steady, varying

SEVERITIES = (0.1, 0.25, 0.5, 1.0)
FAULTY = 120.0  # seconds of a synthetic fault
HALL_DB = -35.0  # of a hall in which nothing runs, over the machine

# Seconds, generator -> healthy sound; seconds, fault, severity, generator -> sound with that fault.
Healthy = Callable[[float, np.random.Generator], np.ndarray]
Faulty = Callable[[float, str, float, np.random.Generator], np.ndarray]


def machines(shared: Path, synthetic: int, hours: float) -> Iterator[Place]:
    """Fans and the other families in turn, then every recorded machine there is."""
    kinds: list[FamilyKind | None] = [None, "valve", "gearbox", "piston", "pump", "slide"]
    for number in range(synthetic):
        kind, seed = kinds[number % len(kinds)], 11 + number
        recordings = (24, 60, 30)[number % 3]
        if kind is None:
            yield fan(seed, hours, recordings)
        else:
            yield family(kind, seed, hours, recordings)
    if (shared / "data").is_dir():
        for machine in recorded(shared):
            yield place(machine, hours)


# --- synthetic


def fan(seed: int, hours: float, recordings: int) -> Place:
    """A synthetic fan: trained on some recordings of 10 s, in service for hours."""
    design = design_machine(seed)
    gain = float(np.random.default_rng([seed, 0x5E]).uniform(-1.5, 1.5))

    def write(folder: Path) -> Path:
        counts = Counts(recordings, 0, 0, 0, 0, 0)
        return write_dataset(folder, design, seed=seed, layout="plain", counts=counts)

    def healthy(seconds: float, rng: np.random.Generator) -> np.ndarray:
        return _stretch(design, seconds, rng, gain)

    def faulty(seconds: float, kind: str, severity: float, rng: np.random.Generator) -> np.ndarray:
        load = design.points[int(rng.integers(len(design.points)))].name
        return render(
            design, steady(design, load), LEAD + seconds, rng, rate=RATE,
            faults=(Fault(kind, severity),), onset=LEAD, gain_db=gain,
        )  # fmt: skip

    return Place(
        f"fan {seed}, {recordings} x 10 s", write,
        lambda: _service(healthy, faulty, ("imbalance", "bearing", "belt"), seed, hours),
    )  # fmt: skip


def family(kind: FamilyKind, seed: int, hours: float, recordings: int) -> Place:
    """A machine of another family; where its seed is odd, with recordings of the resting hall."""

    def healthy(seconds: float, rng: np.random.Generator) -> np.ndarray:
        return render_family(kind, seed, rng, seconds=seconds, rate=RATE)

    def faulty(seconds: float, fault: str, severity: float, rng: np.random.Generator) -> np.ndarray:
        sick = render_family(
            kind, seed, rng, seconds=seconds, rate=RATE, fault=fault, severity=severity
        )
        return joined([healthy(LEAD + 0.05, rng), sick])

    def write(folder: Path) -> Path:
        clips = [
            render_family(kind, seed, np.random.default_rng([seed, 0, i]))
            for i in range(recordings)
        ]
        root = write_clips(folder, clips)
        if seed % 2:
            (root / "idle").mkdir()
            rng = np.random.default_rng([seed, 1])
            level = np.sqrt(np.mean(np.square(clips[0]))) * 10 ** (HALL_DB / 20)
            for i in range(8):
                hall = (rng.standard_normal(10 * RATE) * level).astype(np.float32)
                soundfile.write(root / "idle" / f"{i:04d}.flac", hall, RATE)
        return root

    return Place(
        f"{kind} {seed}, {recordings} x 10 s", write,
        lambda: _service(healthy, faulty, FAMILIES[kind].faults, seed, hours),
    )  # fmt: skip


def _service(
    render_healthy: Healthy, render_faulty: Faulty, faults: Sequence[str], seed: int, hours: float
) -> Iterator[Stream]:
    rng = np.random.default_rng([seed, 0x5F])
    parts, held = [], 0.0
    while held < 3600 * hours:
        # Whole stretches of 5 s: the transform of a length with large prime factors takes ten times
        # as long.
        seconds = 5.0 * round(float(rng.uniform(12, 80)))
        parts.append(render_healthy(seconds, rng))
        held += seconds
    healthy = joined(parts)
    yield Stream("healthy", "healthy", healthy, restarts=restarts_of(healthy, rng))
    cycles = cycled(healthy, rng, 15.0, 45.0, 3600.0)
    yield Stream("cycles", "cycles", cycles, restarts=restarts_of(cycles, rng))
    yield with_events(healthy[: 1300 * RATE], "disturbed", rng)
    for number, what in enumerate(CHANGES):
        yield changed(healthy[(1300 + 300 * number) * RATE :], what, what, 150.0)
    for kind in faults:
        for severity in SEVERITIES:
            sound = render_faulty(FAULTY, kind, severity, rng)
            event = Event(kind, LEAD, len(sound) / RATE, f"{severity:g}")
            yield Stream(f"{kind} {severity:g}", "fault", sound, (event,))
    for kind, severity in zip(faults, SEVERITIES[2:], strict=False):
        sick = render_faulty(300.0, kind, severity, rng)[int(LEAD * RATE) :]
        yield sick_cycles(healthy[: 300 * RATE], sick, rng, f"{severity:g} in cycles")


def _stretch(
    design: MachineDesign, seconds: float, rng: np.random.Generator, gain: float
) -> np.ndarray:
    valve = ("open", "half")[int(rng.integers(2))]
    if rng.uniform() < 0.3:
        operation = varying(design, seconds, rng, valve=valve)
    else:
        point = design.points[int(rng.integers(len(design.points)))].name
        operation = steady(design, point, valve)
    return render(design, operation, seconds, rng, rate=RATE, gain_db=gain)
