"""Machines in service: what they are trained on, hours of healthy sound, what passes, what fails.

Synthetic machines run at changing loads for hours; real ones are healthy clips that training never
heard, joined. Over copies of it come sounds from elsewhere, and a gain that changes; faults begin
at a known moment. Everything is 16 kHz, float32.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from scipy import signal

from agent.capture.files import read_audio
from trainer.synth.dataset import Counts, write_dataset
from trainer.synth.design import Fault, MachineDesign, design_machine
from trainer.synth.render import render, steady, varying

RATE = 16_000
JOIN = 800  # samples of the cross-fade where clips meet
SENTENCES = (
    "Could somebody please bring the other ladder and check the second valve",
    "I told them yesterday that the delivery would come before noon today",
    "Please switch the light on over there and close the door behind you",
)
EVENTS = ("sentence", "slam", "compressed air", "truck")
SEVERITIES = (0.1, 0.25, 0.5, 1.0)
LEAD = 60.0  # healthy seconds before a fault
FAULTY = 120.0  # seconds of a synthetic fault


@dataclass(frozen=True)
class Event:
    """Something that happens in a stream, seconds from its start."""

    what: str
    start: float
    end: float
    strength: str = ""


@dataclass(frozen=True)
class Stream:
    """A stretch of sound and what happens in it."""

    name: str
    kind: str  # healthy, cycles, disturbed, changed, fault
    sound: np.ndarray
    events: tuple[Event, ...] = ()
    restarts: tuple[float, ...] = ()


@dataclass(frozen=True)
class Place:
    """A machine: writes its training folder, gives its streams."""

    name: str
    write: Callable[[Path], Path]
    streams: Callable[[], Iterator[Stream]]


def joined(clips: Sequence[np.ndarray]) -> np.ndarray:
    """Clips one after the other, each faded into the next."""
    ramp = np.sqrt(np.linspace(0.0, 1.0, JOIN, dtype=np.float32))
    out = np.zeros(sum(map(len, clips)) - JOIN * (len(clips) - 1), np.float32)
    at = 0
    for number, clip in enumerate(clips):
        part = clip.copy()
        if number:
            part[:JOIN] *= ramp
        if number < len(clips) - 1:
            part[-JOIN:] *= ramp[::-1]
        out[at : at + len(part)] += part
        at += len(part) - JOIN
    return out


def spoken(text: str, folder: Path) -> np.ndarray:
    """A sentence by espeak-ng, about 6 s, RMS 1 where somebody speaks."""
    path = folder / "sentence.wav"
    subprocess.run(
        [shutil.which("espeak-ng") or "espeak-ng", "-s", "115", "-w", path, text], check=True
    )
    sound = read_audio(path, rate=RATE)
    loud = np.abs(sound) > 0.05 * np.abs(sound).max()
    return (sound / np.sqrt(np.mean(sound[loud] ** 2))).astype(np.float32)


def passing(what: str, number: int, rng: np.random.Generator) -> np.ndarray:
    """A sound from elsewhere, about RMS 1 where it is loudest."""
    if what == "sentence":
        with tempfile.TemporaryDirectory() as folder:
            return spoken(SENTENCES[number % len(SENTENCES)], Path(folder))
    if what == "slam":
        t = np.arange(int(0.8 * RATE)) / RATE
        boom = np.sin(2 * np.pi * rng.uniform(60, 120) * t) * np.exp(-t / 0.12)
        crack = rng.standard_normal(len(t)) * np.exp(-t / 0.03)
        return (4.0 * boom + 3.0 * crack).astype(np.float32)
    if what == "compressed air":
        n = int(rng.uniform(1.5, 3.0) * RATE)
        sos = signal.butter(2, 2500, "highpass", fs=RATE, output="sos")
        hiss = signal.sosfilt(sos, rng.standard_normal(n))
        edge = np.minimum(1.0, np.minimum(np.arange(n), np.arange(n)[::-1]) / (0.05 * RATE))
        return (hiss / hiss.std() * edge).astype(np.float32)
    n = 20 * RATE  # it comes, passes, goes
    t = np.arange(n) / RATE
    sos = signal.butter(2, 400, "lowpass", fs=RATE, output="sos")
    rumble = signal.sosfilt(sos, rng.standard_normal(n))
    engine = sum(np.sin(2 * np.pi * 28.0 * k * t + k) / k for k in range(1, 9))
    distance = 1.0 + ((t - 10.0) / 3.5) ** 2
    return ((rumble / rumble.std() + 0.5 * engine) / distance).astype(np.float32)


def with_events(
    healthy: np.ndarray, name: str, rng: np.random.Generator, each: int = 3, apart: float = 100.0
) -> Stream:
    """Each kind of passing sound, at -3 to 6 dB over the machine, in turn."""
    sound, events, at = healthy.copy(), [], 0.6 * apart
    rms = float(np.sqrt(np.mean(healthy**2)))
    for number in range(each):
        for what in EVENTS:
            extra = passing(what, number, rng) * rms * 10 ** (rng.uniform(-3, 6) / 20)
            first = int(at * RATE)
            if first + len(extra) > len(sound):
                break
            sound[first : first + len(extra)] += extra
            events.append(Event(what, at, at + len(extra) / RATE))
            at += apart
    return Stream(name, "disturbed", np.clip(sound, -1, 1), tuple(events))


def changed(healthy: np.ndarray, name: str, what: str, seconds: float = 300.0) -> Stream:
    """The gain, or the whole microphone, is another half-way."""
    sound = healthy[: int(2 * seconds * RATE)].copy()
    half = len(sound) // 2
    if what == "another microphone":  # 2 dB more, and a gentle slope of 4 dB less from 3 kHz on
        sos = signal.butter(1, 3000, "highpass", fs=RATE, output="sos")
        high = signal.sosfilt(sos, sound[half:])
        sound[half:] = 1.26 * (sound[half:] - 0.37 * high)
    else:
        sound[half:] *= 10.0 ** (float(what.split()[1]) / 20.0)
    event = Event(what, half / RATE, len(sound) / RATE)
    return Stream(name, "changed", np.clip(sound, -1, 1), (event,))


CHANGES = ("gain +6 dB", "gain -6 dB", "gain +2 dB", "another microphone")


def cycled(
    sound: np.ndarray, rng: np.random.Generator, on: float, off: float, seconds: float
) -> np.ndarray:
    """A machine's sound in runs, faded in and out in half a second; between them a quiet hall."""
    out = rng.standard_normal(int(seconds * RATE)).astype(np.float32)
    out *= 10 ** (-35 / 20) * np.sqrt(np.mean(sound**2))
    at, taken, ramp = 0, 0, RATE // 2
    fade = np.linspace(0.0, 1.0, ramp, dtype=np.float32)
    while at < len(out):
        length = min(int(on * rng.uniform(0.8, 1.2) * RATE), len(out) - at, len(sound))
        if taken + length > len(sound):
            taken = 0
        run = sound[taken : taken + length].copy()
        if length > 2 * ramp:
            run[:ramp] *= fade
            run[-ramp:] *= fade[::-1]
        out[at : at + length] += run
        taken += length
        at += length + int(off * rng.uniform(0.8, 1.2) * RATE)
    return out


# --- synthetic


def synthetic(seed: int, hours: float, recordings: int) -> Place:
    """A synthetic fan: trained on some recordings of 10 s, in service for hours."""
    design = design_machine(seed)

    def write(folder: Path) -> Path:
        counts = Counts(recordings, 0, 0, 0, 0, 0)
        return write_dataset(folder, design, seed=seed, layout="plain", counts=counts)

    return Place(
        f"synthetic {seed}, {recordings} x 10 s", write, lambda: _service(design, seed, hours)
    )


def _service(design: MachineDesign, seed: int, hours: float) -> Iterator[Stream]:
    rng = np.random.default_rng([seed, 0x5E])
    gain = float(rng.uniform(-1.5, 1.5))
    parts, held = [], 0.0
    while held < 3600 * hours:
        seconds = float(rng.uniform(60, 400))
        parts.append(_stretch(design, seconds, rng, gain))
        held += seconds
    healthy = joined(parts)
    yield Stream("healthy", "healthy", healthy, restarts=_restarts(healthy, rng))
    cycles = cycled(healthy, rng, 20.0, 40.0, 4500.0)
    yield Stream("cycles", "cycles", cycles, restarts=_restarts(cycles, rng))
    yield with_events(healthy[: 1300 * RATE], "disturbed", rng)
    for number, what in enumerate(CHANGES):
        yield changed(healthy[(1300 + 300 * number) * RATE :], what, what, 150.0)
    for number, kind in enumerate(("imbalance", "bearing", "belt")):
        for severity in SEVERITIES:
            load = design.points[(number + int(severity * 8)) % len(design.points)].name
            sound = render(
                design, steady(design, load), LEAD + FAULTY, rng, rate=RATE,
                faults=(Fault(kind, severity),), onset=LEAD, gain_db=gain,
            )  # fmt: skip
            event = Event(kind, LEAD, LEAD + FAULTY, f"{severity:g}")
            yield Stream(f"{kind} {severity:g}", "fault", sound, (event,))
    for severity in SEVERITIES[2:]:
        sick = render(
            design, steady(design, design.points[0].name), 600.0, rng, rate=RATE,
            faults=(Fault("bearing", severity),), gain_db=gain,
        )  # fmt: skip
        yield _sick_cycles(healthy[: 600 * RATE], sick, rng, f"{severity:g} in cycles")


def _sick_cycles(
    healthy: np.ndarray, sick: np.ndarray, rng: np.random.Generator, strength: str
) -> Stream:
    """Ten minutes of healthy runs of 20 s in each minute, then ten of faulty ones."""
    sound = np.concatenate([cycled(part, rng, 20.0, 40.0, 600.0) for part in (healthy, sick)])
    event = Event("fault", 600.0, len(sound) / RATE, strength)
    return Stream(f"fault {strength}", "fault", sound, (event,))


def _restarts(
    sound: np.ndarray, rng: np.random.Generator, each: float = 1800.0
) -> tuple[float, ...]:
    """Moments at which the agent begins anew, every half hour about."""
    last = len(sound) / RATE - 60.0
    return tuple(float(at + rng.uniform(-300, 300)) for at in np.arange(each, last, each))


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


def _folder(folder: Path, clips: Sequence[np.ndarray]) -> Path:
    (folder / "normal").mkdir(parents=True)
    for number, clip in enumerate(clips):
        soundfile.write(folder / "normal" / f"{number:04d}.flac", clip, RATE)
    return folder


def _real(
    name: str,
    train: Sequence[np.ndarray],
    healthy: Sequence[np.ndarray],
    faults: Sequence[tuple[str, Sequence[np.ndarray]]],
    seed: int,
    *,
    extra: Sequence[tuple[str, Sequence[np.ndarray]]] = (),
) -> Place:
    """A machine of clips: healthy ones in service, then faulty ones after `LEAD` s of healthy."""

    def streams() -> Iterator[Stream]:
        rng = np.random.default_rng(seed)
        stream = joined(healthy)
        yield Stream("healthy", "healthy", stream, restarts=_restarts(stream, rng))
        if len(stream) > 60 * RATE:
            yield Stream("cycles", "cycles", cycled(stream, rng, 20.0, 40.0, 4500.0))
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
            yield _sick_cycles(stream, joined(faults[0][1]), rng, "real in cycles")

    return Place(name, lambda folder: _folder(folder, train), streams)


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
        "fan 00, 10 x 10 s", healthy[::2], healthy[1::2],
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
    for state, first in (("off", "20260302"), ("rest", "20260302")):
        days = sorted((data / "compressor" / state).glob("*.flac"))
        by_day: dict[str, list[Path]] = {}
        for path in days:
            by_day.setdefault(path.name[:8], []).append(path)
        tens = {
            day: [np.concatenate(_clips(paths[i : i + 5])) for i in range(0, len(paths), 5)]
            for day, paths in by_day.items()
        }
        later = [day for day in tens if day != first]
        yield _real(
            f"compressor {state}, 20 x 10 s of one day", tens[first], tens[later[0]],
            [("running", [np.concatenate(running)])],
            7, extra=[(day, tens[day]) for day in later[1:]],
        )  # fmt: skip
