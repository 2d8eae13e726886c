"""Machines in service: what they are trained on, hours of healthy sound, and what fails.

Synthetic machines run at changing loads for hours; real ones are healthy clips that training never
heard, joined. Faults begin at a known moment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import soundfile
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

from agent.capture.files import read_audio
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
        yield from real(shared)


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
        seconds = float(rng.uniform(60, 400))
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


# --- real


def _clips(paths: Sequence[Path]) -> list[np.ndarray]:
    return [read_audio(path, rate=RATE) for path in paths]


def write_clips(folder: Path, clips: Sequence[np.ndarray], names: Sequence[str] = ()) -> Path:
    """Write healthy clips; names may say when they were made."""
    (folder / "normal").mkdir(parents=True)
    for number, clip in enumerate(clips):
        name = names[number] if names else f"{number:04d}.flac"
        soundfile.write(folder / "normal" / name, clip, RATE)
    return folder


def _real(
    name: str,
    train: Sequence[np.ndarray],
    healthy: Sequence[np.ndarray],
    faults: Sequence[tuple[str, Sequence[np.ndarray]]],
    seed: int,
    *,
    extra: Sequence[tuple[str, Sequence[np.ndarray]]] = (),
    names: Sequence[str] = (),
) -> Place:
    """A machine of clips: healthy ones in service, then faulty ones after `LEAD` s of healthy."""

    def streams() -> Iterator[Stream]:
        rng = np.random.default_rng(seed)
        stream = joined(healthy)
        yield Stream("healthy", "healthy", stream, restarts=restarts_of(stream, rng))
        if len(stream) > 60 * RATE:
            yield Stream("cycles", "cycles", cycled(stream, rng, 15.0, 45.0, 1800.0))
        for label, clips in extra:
            yield Stream(label, "healthy", joined(clips))
        if len(stream) > 300 * RATE:
            yield with_events(stream[: 1300 * RATE], "disturbed", rng)
        if len(stream) > 120 * RATE:
            for what in CHANGES:
                yield changed(stream, what, what)
        for label, clips in faults:
            lead = stream[: int(LEAD * RATE)]
            event = Event(
                "real", len(lead) / RATE, (len(lead) + sum(map(len, clips))) / RATE, "real"
            )
            yield Stream(label, "fault", joined([lead, *clips]), (event,))
        if len(stream) > 60 * RATE:
            yield sick_cycles(stream, joined(faults[0][1]), rng, "real in cycles")

    return Place(name, lambda folder: write_clips(folder, train, names), streams)


def real(shared: Path) -> Iterator[Place]:
    """Every real machine there is."""
    data = shared / "data"
    rng = np.random.default_rng(0)
    car = data / "dcase2023" / "ToyCar"
    train = _clips(sorted((car / "train").glob("*.flac")))
    order = rng.permutation(len(train))
    normal = _clips(sorted((car / "test").glob("*_normal_*.flac")))
    odd = sorted((car / "test").glob("*_anomaly_*.flac"))
    odd = [odd[i] for i in rng.permutation(len(odd))]
    faults = [(f"faulty {i}", _clips(odd[i : i + 10])) for i in range(0, len(odd), 10)]
    yield _real(
        "ToyCar, 150 x 12 s", [train[i] for i in order[:150]],
        [*(train[i] for i in order[150:]), *normal], faults, 1,
    )  # fmt: skip
    for kind in range(3):
        clips = _clips(sorted((data / "motors" / f"class{kind}").glob("*.flac")))
        others = [
            (f"class{k}", _clips(sorted((data / "motors" / f"class{k}").glob("*.flac"))[:20]))
            for k in range(3)
            if k != kind
        ]
        yield _real(f"motor {kind}, 22 x 6 s", clips[:22], clips[22:], others, 2 + kind)
    fan = data / "mimii_fan00"
    healthy = _clips(sorted([*(fan / "normal").glob("*"), *(fan / "test" / "normal").glob("*")]))
    odd_clips = _clips(sorted((fan / "test" / "anomaly").glob("*")))
    yield _real(
        "MIMII fan 00, 10 x 10 s", healthy[::2], healthy[1::2],
        [("faulty a", odd_clips[:10]), ("faulty b", odd_clips[10:])], 5,
    )  # fmt: skip
    flights = _clips(sorted((data / "upaad" / "normal").glob("*.flac")))
    broken = _clips(sorted((data / "upaad" / "broken").glob("*.flac")))
    level = 0.05
    flights = [f * (level / np.sqrt(np.mean(f**2))) for f in flights]
    broken = [f * (level / np.sqrt(np.mean(f**2))) for f in broken]
    yield _real(
        "drone, 5 flights", flights[:5], flights[5:],
        [(f"broken {i}", [flight]) for i, flight in enumerate(broken)], 6,
    )  # fmt: skip
    running = _clips(sorted((data / "compressor" / "run").glob("*")))
    for state in ("off", "rest"):
        by_day: dict[str, list[tuple[str, np.ndarray]]] = {}
        paths = sorted((data / "compressor" / state).glob("*.flac"))
        for day in dict.fromkeys(path.name[:8] for path in paths):
            of_day = [path for path in paths if path.name.startswith(day)]
            by_day[day] = [
                (of_day[i].name, np.concatenate(_clips(of_day[i : i + 5])))
                for i in range(0, len(of_day), 5)
            ]
        first, second, third = by_day
        fault = [("running", [np.concatenate(running)])]
        for learnt, judged in (((first,), (second, third)), ((first, second), (third,))):
            known = [one for day in learnt for one in by_day[day]]
            heard = [(day, [clip for _, clip in by_day[day]]) for day in judged]
            days = "one day" if len(learnt) == 1 else "two days"
            yield _real(
                f"compressor {state}, {len(known)} x 10 s of {days}",
                [clip for _, clip in known], heard[0][1], fault, 7, extra=heard[1:],
                names=[name for name, _ in known],
            )  # fmt: skip
