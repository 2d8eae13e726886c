"""What happens to a machine in service: sounds from elsewhere, another gain, short runs, restarts.

Everything is 16 kHz, float32.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import signal

from agent.capture.files import read_audio

RATE = 16_000
JOIN = 800  # samples of the cross-fade where clips meet
SENTENCES = (
    "Could somebody please bring the other ladder and check the second valve",
    "I told them yesterday that the delivery would come before noon today",
    "Please switch the light on over there and close the door behind you",
)
EVENTS = ("sentence", "slam", "compressed air", "truck")
LEAD = 60.0  # healthy seconds before a fault


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
    # Seconds of it that are no repetition; None where all of it is new.
    distinct: float | None = None


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
    """A machine's sound in runs, faded in and out in half a second; between them a quiet hall.

    The hall's noise fades out as a run fades in: the recording of a run holds its own hall.
    """
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
            out[at : at + ramp] *= fade[::-1]
            out[at + length - ramp : at + length] *= fade
            out[at + ramp : at + length - ramp] = 0.0
        out[at : at + length] += run
        taken += length
        at += length + int(off * rng.uniform(0.8, 1.2) * RATE)
    return out


def sick_cycles(
    healthy: np.ndarray, sick: np.ndarray, rng: np.random.Generator, strength: str
) -> Stream:
    """Ten minutes of healthy runs of 15 s in each minute, then ten of faulty ones."""
    sound = np.concatenate([cycled(part, rng, 15.0, 45.0, 600.0) for part in (healthy, sick)])
    event = Event("fault", 600.0, len(sound) / RATE, strength)
    return Stream(f"fault {strength}", "fault", sound, (event,))


def restarts_of(
    sound: np.ndarray, rng: np.random.Generator, each: float = 1800.0
) -> tuple[float, ...]:
    """Moments at which the agent begins anew, every half hour about."""
    last = len(sound) / RATE - 60.0
    return tuple(float(at + rng.uniform(-300, 300)) for at in np.arange(each, last, each))
