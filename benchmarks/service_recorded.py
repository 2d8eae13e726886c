"""Recorded machines in service: what they learn from, hours of the healthy clips held out, faults.

Healthy sound is short there (100 s to 50 min of clips that training never heard). Hours are made by
passes over them: every pass plays each held-out clip once, in an order of its own, faded into the
next over 50 ms. So no clip is in both training and service, neighbours change, and what is heard is
still only so many seconds of different sound (`Stream.distinct`), which the tables state beside the
hours: an error of one clip comes back with each pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
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

CYCLED = 1800.0  # seconds of cycles
Clips = Sequence[np.ndarray]


@dataclass(frozen=True)
class Recorded:
    """A recorded machine.

    Attributes:
        name: Of its tables.
        train: Healthy clips that it learns from.
        held: Healthy clips that training never hears, by the stretch (a day, a session).
        faults: Faulty clips by label; each label is one fault, heard after `LEAD` healthy seconds.
        seed: Of the order of clips.
        names: File names of `train`, which may say when they were made.
        running: Whether it can run in cycles at all: a machine that stands still does not.
    """

    name: str
    train: Clips
    held: Sequence[tuple[str, Clips]]
    faults: Sequence[tuple[str, Clips]]
    seed: int
    names: Sequence[str] = field(default=())
    running: bool = True


def passes(clips: Clips, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Every clip again and again, each pass in an order of its own, until so many seconds are full.

    Args:
        clips: What may be heard.
        seconds: How much at least; one whole pass is played in any case.
        rng: The order.
    """
    parts: list[np.ndarray] = []
    held = 0.0
    while not parts or held < seconds:
        for number in rng.permutation(len(clips)):
            parts.append(clips[number])
            held += len(clips[number]) / RATE
    return joined(parts)


def write_clips(folder: Path, clips: Clips, names: Sequence[str] = ()) -> Path:
    """Write healthy clips; names may say when they were made."""
    (folder / "normal").mkdir(parents=True)
    for number, clip in enumerate(clips):
        name = names[number] if names else f"{number:04d}.flac"
        soundfile.write(folder / "normal" / name, clip, RATE)
    return folder


def place(machine: Recorded, hours: float) -> Place:
    """A recorded machine in service for hours."""
    return Place(
        machine.name,
        lambda folder: write_clips(folder, machine.train, machine.names),
        lambda: _streams(machine, hours),
    )


def _streams(machine: Recorded, hours: float) -> Iterator[Stream]:
    rng = np.random.default_rng(machine.seed)
    each = 3600 * hours / len(machine.held)
    for label, clips in machine.held:
        sound = passes(clips, each, rng)
        different = sum(map(len, clips)) / RATE
        yield Stream(label, "healthy", sound, restarts=restarts_of(sound, rng), distinct=different)
    label, clips = machine.held[0]
    sound = passes(clips, 1300.0, rng)
    different = sum(map(len, clips)) / RATE
    if machine.running:
        cycles = cycled(sound, rng, 15.0, 45.0, CYCLED)
        yield Stream("cycles", "cycles", cycles, distinct=different)
    yield with_events(sound[: 1300 * RATE], "disturbed", rng)
    for what in CHANGES:
        yield changed(sound, what, what, 150.0)
    for name, sick in machine.faults:
        lead = passes(clips, LEAD, rng)[: int(LEAD * RATE)]
        end = (len(lead) + sum(map(len, sick))) / RATE
        event = Event("real", LEAD, end, "real")
        yield Stream(name, "fault", joined([lead, *sick]), (event,))
    if machine.running:
        yield sick_cycles(sound, joined(machine.faults[0][1]), rng, "real in cycles")


# --- the machines there are


def _clips(paths: Sequence[Path]) -> list[np.ndarray]:
    return [read_audio(path, rate=RATE) for path in paths]


def recorded(shared: Path) -> Iterator[Recorded]:
    """Every recorded machine there is."""
    data = shared / "data"
    yield _car(data)
    for kind in range(3):
        yield _motor(data, kind)
    for half in range(2):
        yield _fan(data, half)
    yield _drone(data)
    for state in ("off", "rest"):
        yield from _compressor(data, state)


def _car(data: Path) -> Recorded:
    rng = np.random.default_rng(0)
    car = data / "dcase2023" / "ToyCar"
    train = _clips(sorted((car / "train").glob("*.flac")))
    order = rng.permutation(len(train))
    normal = _clips(sorted((car / "test").glob("*_normal_*.flac")))
    odd = sorted((car / "test").glob("*_anomaly_*.flac"))
    odd = [odd[i] for i in rng.permutation(len(odd))]
    faults = [(f"faulty {i}", _clips(odd[i : i + 10])) for i in range(0, len(odd), 10)]
    held = [*(train[i] for i in order[150:]), *normal]
    return Recorded(
        "ToyCar, 150 x 12 s", [train[i] for i in order[:150]], [("healthy", held)], faults, 1
    )


def _motor(data: Path, kind: int) -> Recorded:
    clips = _clips(sorted((data / "motors" / f"class{kind}").glob("*.flac")))
    faults = [
        (f"class{k} {first}", _clips(paths[first : first + 20]))
        for k in range(3)
        if k != kind
        for paths in [sorted((data / "motors" / f"class{k}").glob("*.flac"))]
        for first in (0, 20)
    ]
    return Recorded(
        f"motor {kind}, 22 x 6 s", clips[:22], [("healthy", clips[22:])], faults, 2 + kind
    )


def _fan(data: Path, half: int) -> Recorded:
    fan = data / "mimii_fan00"
    healthy = _clips(sorted([*(fan / "normal").glob("*"), *(fan / "test" / "normal").glob("*")]))
    odd = _clips(sorted((fan / "test" / "anomaly").glob("*")))
    return Recorded(
        f"MIMII fan 00, 10 x 10 s, half {'ab'[half]}", healthy[half::2],
        [("healthy", healthy[1 - half :: 2])],
        [("faulty a", odd[:10]), ("faulty b", odd[10:])], 5,
    )  # fmt: skip


def _drone(data: Path) -> Recorded:
    flights, broken = (
        [flight * (0.05 / np.sqrt(np.mean(flight**2))) for flight in _clips(paths)]
        for paths in (sorted((data / "upaad" / k).glob("*.flac")) for k in ("normal", "broken"))
    )
    faults = [(f"broken {number}", [flight]) for number, flight in enumerate(broken)]
    return Recorded("drone, 5 flights", flights[:5], [("healthy", flights[5:])], faults, 6)


def _compressor(data: Path, state: str) -> Iterator[Recorded]:
    """One state, learnt from each day alone and from the first two; judged on the other days."""
    running = np.concatenate(_clips(sorted((data / "compressor" / "run").glob("*"))))
    by_day: dict[str, list[tuple[str, np.ndarray]]] = {}
    paths = sorted((data / "compressor" / state).glob("*.flac"))
    for day in dict.fromkeys(path.name[:8] for path in paths):
        of_day = [path for path in paths if path.name.startswith(day)]
        by_day[day] = [
            (of_day[i].name, np.concatenate(_clips(of_day[i : i + 5])))
            for i in range(0, len(of_day), 5)
        ]
    days = list(by_day)
    for learnt in ((days[0],), (days[1],), (days[2],), (days[0], days[1])):
        known = [one for day in learnt for one in by_day[day]]
        held = [(day, [clip for _, clip in by_day[day]]) for day in days if day not in learnt]
        told = " and ".join(f"{int(day[6:])}" for day in learnt)
        yield Recorded(
            f"compressor {state}, {len(known)} x 10 s of {told} March",
            [clip for _, clip in known], held, [("running", [running])], 7,
            names=[name for name, _ in known], running=False,
        )  # fmt: skip
