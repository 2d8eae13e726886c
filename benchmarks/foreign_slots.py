"""Nineteen sounds from elsewhere, and slots of a machine's day that they are laid over."""

from __future__ import annotations

import functools
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from foreign_faults import FAULTS
from scipy import signal
from service_sounds import RATE, SENTENCES, joined

from agent.capture.files import read_audio

SECONDS = 90.0
FAULTY_SECONDS = 115.0
FAULT_AT = 20.0  # a faulty slot is healthy before
FAULT_DB = (4.0,)  # of faults that resemble sounds from elsewhere, over the machine
EVENT_AT = 30.0
SNR_DB = (-6.0, 10.0)


@dataclass(frozen=True)
class Kind:
    """A sound from elsewhere.

    `make(rng, esc10)` gives it, about RMS 1 where it is loud; `label` is what `ignore` calls it.
    """

    name: str
    label: str
    make: Callable[[np.random.Generator, Path], np.ndarray]


def _level(sound: np.ndarray) -> np.ndarray:
    """RMS 1 over what is loud of it."""
    loud = np.abs(sound) > 0.05 * np.abs(sound).max()
    return (sound / np.sqrt(np.mean(sound[loud] ** 2))).astype(np.float32)


def _faded(sound: np.ndarray, seconds: float = 0.05) -> np.ndarray:
    n = min(len(sound) // 2, int(seconds * RATE))
    edge = np.ones(len(sound), np.float32)
    edge[:n] = np.linspace(0, 1, n)
    edge[-n:] = edge[:n][::-1]
    return sound * edge


@functools.cache
def _spoken(text: str, voice: str, speed: int) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sentence.wav"
        program = shutil.which("espeak-ng") or "espeak-ng"
        subprocess.run([program, "-v", voice, "-s", str(speed), "-w", path, text], check=True)
        return read_audio(path, rate=RATE)


def speech(rng: np.random.Generator, seconds: float) -> np.ndarray:
    """Sentences with pauses between them, by several voices."""
    parts: list[np.ndarray] = []
    while sum(map(len, parts)) < seconds * RATE:
        voice = str(rng.choice(["en", "en-us", "en+f3", "en+m3", "de", "de+f2", "fr"]))
        text = SENTENCES[int(rng.integers(len(SENTENCES)))]
        parts += [_spoken(text, voice, int(rng.integers(115, 170)))]
        parts += [np.zeros(int(rng.uniform(0.2, 1.0) * RATE), np.float32)]
    return _level(np.concatenate(parts)[: int(seconds * RATE)])


def music(rng: np.random.Generator, seconds: float) -> np.ndarray:
    """Chords, a melody, bass and a beat, as a radio's loudspeaker gives them."""
    n = int(seconds * RATE)
    out = np.zeros(n)
    beat = 60.0 / rng.uniform(85, 130)
    root = rng.uniform(110, 180)
    scale = np.array([0, 2, 4, 5, 7, 9, 11])
    for step in range(int(seconds / beat) + 1):
        chord = int(rng.choice([0, 3, 4, 5]))
        notes = [(root, chord + k, beat * 2, 0.25) for k in (0, 2, 4)] if step % 2 == 0 else []
        notes += [
            (root / 2, chord, beat, 0.5),
            (root * 2, int(rng.integers(0, 7)), beat * 0.9, 0.5),
        ]
        for base, degree, length, gain in notes:
            pitch = base * 2 ** ((scale[degree % 7] + 12 * (degree // 7)) / 12)
            t = np.arange(int(length * RATE)) / RATE
            tone = sum(np.sin(2 * np.pi * pitch * k * t) / k**1.3 for k in range(1, 7))
            tone *= gain * np.minimum(1, t / 0.01) * np.exp(-t / (0.5 * length))
            at = int(step * beat * RATE)
            stop = min(n, at + len(tone))
            out[at:stop] += tone[: stop - at]
        hit = rng.standard_normal(int(0.08 * RATE)) * np.exp(-np.arange(int(0.08 * RATE)) / 250)
        at = int(step * beat * RATE)
        out[at : at + len(hit)] += 0.6 * hit[: max(0, n - at)]
    sos = signal.butter(2, [120, 6000], "bandpass", fs=RATE, output="sos")
    return _level(_faded(signal.sosfilt(sos, out)))


def slam(rng: np.random.Generator) -> np.ndarray:
    """A door."""
    t = np.arange(int(0.8 * RATE)) / RATE
    boom = np.sin(2 * np.pi * rng.uniform(60, 120) * t) * np.exp(-t / 0.12)
    crack = rng.standard_normal(len(t)) * np.exp(-t / 0.03)
    return (4.0 * boom + 3.0 * crack).astype(np.float32)


def clang(rng: np.random.Generator) -> np.ndarray:
    """A steel pipe that falls."""
    t = np.arange(int(1.5 * RATE)) / RATE
    base = rng.uniform(400, 900)
    rings = sum(
        np.sin(2 * np.pi * base * k * t + k) * np.exp(-t * (2 + k)) for k in (1, 2.76, 5.4, 8.9)
    )
    return (3.0 * rings + 3.0 * rng.standard_normal(len(t)) * np.exp(-t / 0.01)).astype(np.float32)


def hits(
    rng: np.random.Generator,
    make: Callable[[np.random.Generator], np.ndarray],
    seconds: float,
    apart: tuple[float, float],
) -> np.ndarray:
    """Several of a kind, some time apart."""
    out = np.zeros(int(seconds * RATE), np.float32)
    at = 0.0
    while at < seconds - 0.3:
        one = make(rng) * rng.uniform(0.6, 1.4)
        first = int(at * RATE)
        stop = min(len(out), first + len(one))
        out[first:stop] += one[: stop - first]
        at += rng.uniform(*apart)
    return out


def hammer(rng: np.random.Generator) -> np.ndarray:
    """One blow on sheet metal."""
    t = np.arange(int(0.3 * RATE)) / RATE
    ring = sum(np.sin(2 * np.pi * f * t) * np.exp(-t * 25) for f in rng.uniform(300, 3500, 6))
    return (2.5 * ring + 4.0 * rng.standard_normal(len(t)) * np.exp(-t / 0.006)).astype(np.float32)


def air(rng: np.random.Generator, seconds: float) -> np.ndarray:
    """Compressed air."""
    sos = signal.butter(2, rng.uniform(1500, 3000), "highpass", fs=RATE, output="sos")
    return _level(_faded(signal.sosfilt(sos, rng.standard_normal(int(seconds * RATE)))))


def truck(rng: np.random.Generator, *, beeps: bool = False) -> np.ndarray:
    """It comes, passes, goes; a forklift's reversing beeps too."""
    n = 20 * RATE
    t = np.arange(n) / RATE
    sos = signal.butter(2, 400, "lowpass", fs=RATE, output="sos")
    rumble = signal.sosfilt(sos, rng.standard_normal(n))
    speed = rng.uniform(20, 45)
    engine = sum(np.sin(2 * np.pi * speed * k * t + k) / k for k in range(1, 9))
    sound = rumble / rumble.std() + 0.5 * engine
    if beeps:
        sound = sound + 0.8 * np.sin(2 * np.pi * 1250 * t) * (np.mod(t, 1.0) < 0.5)
    return (sound / (1.0 + ((t - 10.0) / 3.5) ** 2)).astype(np.float32)


def drill(rng: np.random.Generator, seconds: float) -> np.ndarray:
    """A hand drill: a whine that sags under load, with noise."""
    t = np.arange(int(seconds * RATE)) / RATE
    pitch = rng.uniform(300, 500) * (1 - 0.15 * np.clip(np.sin(2 * np.pi * t / 3.0), 0, 1))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    whine = sum(np.sin(k * phase) / k for k in range(1, 10))
    return _level(_faded(whine + 0.7 * rng.standard_normal(len(t)), 0.3))


def horn(rng: np.random.Generator) -> np.ndarray:
    """A vehicle's horn, twice."""
    t = np.arange(int(0.8 * RATE)) / RATE
    one = sum(signal.square(2 * np.pi * f * t) for f in (rng.uniform(380, 440), 500.0))
    pause = np.zeros(int(0.4 * RATE))
    return _level(np.concatenate([_faded(one), pause, _faded(one)]))


def recorded(rng: np.random.Generator, esc10: Path, kind: str, seconds: float) -> np.ndarray:
    """Clips of ESC-10, joined."""
    paths = sorted((esc10 / kind).iterdir())
    count = int(np.ceil(seconds / 4.9))
    chosen = [paths[i] for i in rng.permutation(len(paths))[:count]]
    clips = [read_audio(p, rate=RATE) for p in chosen]
    clips = [_level(c) for c in clips if np.abs(c).max() > 0]
    while sum(map(len, clips)) < seconds * RATE + len(clips) * 800:
        clips.append(clips[0])
    return _faded(joined(clips)[: int(seconds * RATE)], 0.5)


KINDS: tuple[Kind, ...] = (
    Kind("a sentence, 6 s", "speech", lambda r, _: speech(r, 6)),
    Kind("a call, 3 s", "speech", lambda r, _: speech(r, 3)),
    Kind("a conversation, 20 s", "speech", lambda r, _: speech(r, 20)),
    Kind("radio: speech and music, 30 s", "music",
         lambda r, _: np.concatenate([speech(r, 10), music(r, 20)])),
    Kind("music, 30 s", "music", lambda r, _: music(r, 30)),
    Kind("door", "impulses", lambda r, _: slam(r)),
    Kind("doors, five in 15 s", "impulses", lambda r, _: hits(r, slam, 15, (2, 4))),
    Kind("steel pipe falls", "impulses", lambda r, _: clang(r)),
    Kind("hammer, 12 s", "tools", lambda r, _: hits(r, hammer, 12, (0.4, 1.0))),
    Kind("drill, 10 s", "tools", lambda r, _: drill(r, 10)),
    Kind("chainsaw, 10 s", "tools", lambda r, e: recorded(r, e, "chainsaw", 10)),
    Kind("compressed air, 3 s", "tools", lambda r, _: air(r, 3)),
    Kind("compressed air, 12 s", "tools", lambda r, _: air(r, 12)),
    Kind("truck, 20 s", "vehicle", lambda r, _: truck(r)),
    Kind("forklift that beeps, 20 s", "vehicle", lambda r, _: truck(r, beeps=True)),
    Kind("horn", "vehicle", lambda r, _: horn(r)),
    Kind("helicopter, 15 s", "vehicle", lambda r, e: recorded(r, e, "helicopter", 15)),
    Kind("rain, 30 s", "rain", lambda r, e: recorded(r, e, "rain", 30)),
    Kind("fire that crackles, 15 s", "impulses", lambda r, e: recorded(r, e, "fire_crackling", 15)),
)  # fmt: skip


@dataclass(frozen=True)
class Slot:
    """A stretch of sound.

    Attributes:
        background: healthy, faulty, or alike: with a fault that resembles a sound from elsewhere.
        kind: What is laid over it, or the fault it is alike for; empty without mixture.
        label: What `ignore` calls that.
        snr_db: So loud over the machine.
        start: When it begins, seconds.
        end: When it ends.
        sound: float32 at 16 kHz.
    """

    background: str
    kind: str
    label: str
    snr_db: float
    start: float
    end: float
    sound: np.ndarray


def read_clips(folder: Path) -> list[np.ndarray]:
    """The recordings of a folder at 16 kHz."""
    return [read_audio(p, rate=RATE) for p in sorted(folder.iterdir()) if p.is_file()]


def _stream(clips: Sequence[np.ndarray], seconds: float, rng: np.random.Generator) -> np.ndarray:
    chosen: list[np.ndarray] = []
    held = 0
    while held < seconds * RATE:
        for i in rng.permutation(len(clips)):
            chosen.append(clips[i])
            held += len(clips[i]) - 800
    return joined(chosen)[: int(seconds * RATE)]


def slots(
    healthy: Sequence[np.ndarray], faulty: Sequence[np.ndarray], esc10: Path, seed: int
) -> list[Slot]:
    """All slots of a machine: each kind over healthy and over faulty sound, and faults like them.

    Without mixture there are three of healthy sound, and all of faulty.
    """
    found = []
    for number, kind in enumerate(KINDS):
        rng = np.random.default_rng([seed, number])
        snr = float(rng.uniform(*SNR_DB))
        extra = kind.make(rng, esc10)
        start, end = EVENT_AT, EVENT_AT + len(extra) / RATE
        well = _stream(healthy, SECONDS, rng)
        sick = _stream(faulty, FAULTY_SECONDS - FAULT_AT, rng)
        ill = joined([_stream(healthy, FAULT_AT, rng), sick])
        rms = float(np.sqrt(np.mean(well**2)))
        for background, sound in (("healthy", well), ("faulty", ill)):
            if background == "faulty" or number < 3:
                found.append(Slot(background, "", "", snr, start, end, sound))
            mixed = _laid(sound, extra, EVENT_AT, rms, snr)
            found.append(Slot(background, kind.name, kind.label, snr, start, end, mixed))
    for number, (name, make) in enumerate(FAULTS.items()):
        for snr in FAULT_DB:
            rng = np.random.default_rng([seed, 100 + number, int(snr)])
            well = _stream(healthy, FAULTY_SECONDS, rng)
            rms = float(np.sqrt(np.mean(well**2)))
            sound = _laid(well, make(rng, FAULTY_SECONDS - FAULT_AT), FAULT_AT, rms, snr)
            found.append(Slot("alike", name, "", snr, FAULT_AT, FAULTY_SECONDS, sound))
    return found


def _laid(sound: np.ndarray, extra: np.ndarray, at: float, rms: float, snr: float) -> np.ndarray:
    mixed, first = sound.copy(), int(at * RATE)
    stop = min(len(mixed), first + len(extra))
    mixed[first:stop] += extra[: stop - first] * rms * 10 ** (snr / 20)
    return np.clip(mixed, -1, 1).astype(np.float32)
