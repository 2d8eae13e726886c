"""Machines unlike the fan: a valve, a gearbox, a reciprocating compressor, a slide, a pump.

Each family is a function from a seed (another machine of the kind) to a renderer of its healthy and
faulty sound. They exist so that a detector's defaults are chosen on machines that do not sound like
one another: rare impulses, tones with beats, rhythm, slow movement, flow noise with crackle.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile
from scipy import signal

from agent.core.records import Samples
from trainer.synth.sources import (
    Signal,
    coloured_noise,
    decibels,
    harmonics,
    phase_of,
    resonate,
    scaled,
    sloped,
    wander,
)

FamilyKind = Literal["valve", "gearbox", "piston", "slide", "pump"]
# Recordings of one machine differ in gain by this much, standard deviation in dB.
GAIN_DB = 0.7
_LEVEL = 0.03  # root mean square of the healthy machine, full scale 1


@dataclass(frozen=True, slots=True)
class Take:
    """What one recording is made with.

    Attributes:
        n: Samples.
        rate: Samples a second.
        rng: Everything random in this recording.
        fault: What is broken; empty for a healthy machine.
        severity: 1 is a fault that a technician hears at once.
    """

    n: int
    rate: int
    rng: np.random.Generator
    fault: str = ""
    severity: float = 1.0

    def broken(self, fault: str) -> float:
        """Severity of a fault, 0 where it is not the one that is there."""
        return self.severity if self.fault == fault else 0.0

    @property
    def seconds(self) -> Signal:
        """Time of each sample."""
        return np.arange(self.n) / self.rate


@dataclass(frozen=True, slots=True)
class Family:
    """A kind of machine.

    Attributes:
        make: From a machine's own random generator to the renderer of its recordings.
        faults: What can break.
    """

    make: Callable[[np.random.Generator], Callable[[Take], Signal]]
    faults: tuple[str, ...]


def _ring(hz: float, decay: float, rate: int) -> Signal:
    t = np.arange(int(6 * decay * rate)) / rate
    return np.asarray(np.exp(-t / decay) * np.sin(2 * np.pi * min(hz, 0.45 * rate) * t))


def _struck(take: Take, at: Signal, strengths: Signal, ring: Signal) -> Signal:
    """A ring begun at each time (seconds), as strong as told."""
    impulses = np.zeros(take.n + 1)
    places = np.asarray(at * take.rate).astype(np.intp)
    kept = (places >= 0) & (places < take.n)
    np.add.at(impulses, places[kept], strengths[kept])
    return np.asarray(signal.fftconvolve(impulses, ring)[: take.n])


def _room(take: Take, slope: float, level_db: float) -> Signal:
    """What else is heard there."""
    murmur = coloured_noise(take.n, take.rate, sloped(200.0, slope), take.rng)
    swell = np.clip(1.0 + 0.25 * wander(take.n, take.rate, 3.0, take.rng), 0.3, None)
    level = level_db + float(take.rng.normal(0.0, 1.0))
    return np.asarray(murmur * swell * decibels(level))


def _valve(own: np.random.Generator) -> Callable[[Take], Signal]:
    period, opened = float(own.uniform(0.7, 1.6)), float(own.uniform(0.25, 0.45))
    modes = [(float(own.uniform(900, 5500)), float(own.uniform(0.002, 0.01))) for _ in range(3)]
    shut = [(hz * float(own.uniform(0.7, 1.3)), decay) for hz, decay in modes]
    room_db = float(own.uniform(-22.0, -14.0))

    def render(take: Take) -> Signal:
        rng = take.rng
        beats = np.asarray(
            np.arange(rng.uniform(0, period), take.n / take.rate, period), dtype=np.float64
        )
        beats = beats + rng.normal(0, 0.01, len(beats))
        loud = 1.0 + 0.1 * rng.standard_normal(len(beats))
        if take.broken("missing"):
            loud[rng.random(len(loud)) < 0.25 + 0.35 * take.severity] = 0.0
        loud *= decibels(-9.0 * take.broken("weak"))
        total = _room(take, -4.0, room_db)
        for ringing, delay in ((modes, 0.0), (shut, opened)):
            for hz, decay in ringing:
                ring = _ring(hz, decay, take.rate)
                total = total + 2.0 * _struck(take, beats + delay, loud, ring)
                for bounce in range(1, 4):
                    weak = loud * 0.5**bounce * take.broken("bounce")
                    total += 2.0 * _struck(take, beats + delay + 0.02 * bounce, weak, ring)
        if take.broken("leak"):
            phase = np.mod(take.seconds - beats[0], period) / period
            hiss = coloured_noise(take.n, take.rate, lambda f: (f > 2500).astype(float), rng)
            total += hiss * (phase < opened / period) * decibels(-14.0 + 8.0 * take.severity)
        return np.asarray(total)

    return render


def _gearbox(own: np.random.Generator) -> Callable[[Take], Signal]:
    shaft = float(own.uniform(14.0, 28.0))
    teeth, other = int(own.integers(17, 31)), int(own.integers(35, 70))
    levels = [float(-2.0 - 4.0 * k + own.normal(0, 2.0)) for k in range(5)]
    ratio = 1.0 + float(own.uniform(0.004, 0.02))  # two like pairs side by side: a slow beat
    casing = [(float(own.uniform(400, 5000)), 15.0, float(own.uniform(4, 9))) for _ in range(4)]
    seed = int(own.integers(1 << 31))

    def render(take: Take) -> Signal:
        rng = take.rng
        load = float(rng.uniform(0.93, 1.0))
        turning = shaft * load * (1.0 + 0.002 * wander(take.n, take.rate, 2.0, rng))
        phase = phase_of(turning, take.rate, float(rng.uniform(0, 6.28)))
        built = np.random.default_rng(seed)
        wear = [level + 6.0 * take.broken("wear") * (k > 0) for k, level in enumerate(levels)]
        top, highest = 0.45 * take.rate, shaft * teeth
        depth = 0.08 + 0.35 * take.broken("eccentric")
        mesh = harmonics(teeth * phase, wear, top, highest, built) * (1 + depth * np.cos(phase))
        mesh += 0.6 * harmonics(teeth * ratio * phase, levels, top, highest, built)
        noise = coloured_noise(take.n, take.rate, sloped(800.0, -5.0), rng)
        total = resonate(mesh + 0.7 * noise, take.rate, casing)
        if take.broken("tooth"):
            turn = np.interp(
                np.arange(phase[0], phase[-1], 2 * np.pi * teeth / other), phase, take.seconds
            )
            strengths = 1.0 + 0.2 * rng.standard_normal(len(turn))
            knocks = _struck(take, turn, strengths, _ring(casing[0][0], 0.003, take.rate))
            total = total + scaled(knocks, decibels(-16.0 + 8.0 * take.severity))
        return np.asarray(total + _room(take, -5.0, -14.0))

    return render


def _piston(own: np.random.Generator) -> Callable[[Take], Signal]:
    strokes = float(own.uniform(5.0, 14.0))
    thump, clack = float(own.uniform(70, 180)), float(own.uniform(1200, 3500))
    between = float(own.uniform(0.3, 0.6)) / strokes
    hum = float(own.choice([100.0, 120.0]))

    def render(take: Take) -> Signal:
        rng = take.rng
        rate = strokes * float(rng.normal(1.0, 0.01))
        at = np.asarray(
            np.arange(rng.uniform(0, 1 / rate), take.n / take.rate, 1 / rate), dtype=np.float64
        )
        at = at + rng.normal(0, 0.002 + 0.02 * take.broken("uneven"), len(at))
        loud = 1.0 + 0.08 * rng.standard_normal(len(at))
        if take.broken("uneven"):
            loud[::2] *= 1.0 - 0.6 * take.severity
        body = scaled(_struck(take, at, loud, _ring(thump, 0.02, take.rate)), 1.0)
        valves = scaled(_struck(take, at + between, loud, _ring(clack, 0.003, take.rate)), 0.35)
        if take.broken("knock"):
            knock = _struck(take, at + 0.35 / rate, loud, _ring(0.6 * clack, 0.002, take.rate))
            valves = valves + scaled(knock, decibels(-19.0 + 8.0 * take.severity))
        breath = coloured_noise(take.n, take.rate, sloped(500.0, -4.0), rng)
        depth = 0.8 * (1.0 - 0.6 * take.broken("leak"))
        breath *= 1.0 + depth * np.cos(2 * np.pi * rate * (take.seconds - at[0]))
        line = phase_of(np.full(take.n, hum), take.rate)
        motor = harmonics(line, [-8.0, -14.0, -20.0], 0.45 * take.rate, hum, rng)
        return np.asarray(body + valves + 0.5 * breath + motor + _room(take, -5.0, -16.0))

    return render


def _slide(own: np.random.Generator) -> Callable[[Take], Signal]:
    period, low, high = (float(own.uniform(*r)) for r in ((2.2, 4.0), (150, 300), (450, 900)))
    rest = float(own.uniform(0.1, 0.3))
    spot = float(own.uniform(0.2, 0.6))
    squeal = float(own.uniform(1800, 4500))

    def render(take: Take) -> Signal:
        rng = take.rng
        pass_ = np.mod(take.seconds / (period * rng.normal(1, 0.02)) + rng.uniform(), 1.0)
        moving = np.clip((1.0 - rest - pass_) / 0.05, 0, 1) * np.clip(pass_ / 0.05, 0, 1)
        speed = np.sin(np.pi * np.clip(pass_ / (1.0 - rest), 0, 1)) ** 0.5
        tone = phase_of(low + (high - low) * speed, take.rate, float(rng.uniform(0, 6.28)))
        motor = harmonics(tone, [-3.0, -8.0, -12.0, -15.0], 0.45 * take.rate, high, rng)
        friction = coloured_noise(take.n, take.rate, sloped(900.0, -3.0), rng)
        friction *= decibels(-2.0 + 4.0 * take.broken("dry"))
        total = (motor + friction) * moving * (0.5 + 0.5 * speed)
        near = np.exp(-(((pass_ - spot) / 0.02) ** 2))
        if take.broken("squeal"):
            whistle = np.sin(phase_of(np.full(take.n, squeal * rng.normal(1, 0.01)), take.rate))
            total += whistle * near * decibels(-12.0 + 10.0 * take.severity)
        if take.broken("bump"):
            hits = np.flatnonzero(np.diff((pass_ > spot).astype(int)) == 1) / take.rate
            ring = _ring(0.3 * squeal, 0.006, take.rate)
            loud = np.full(len(hits), 2.5 * take.severity)
            total += _struck(take, hits, loud, ring)
        return np.asarray(total + _room(take, -5.0, -15.0))

    return render


def _pump(own: np.random.Generator) -> Callable[[Take], Signal]:
    shaft, vanes = float(own.uniform(22.0, 49.0)), int(own.integers(4, 8))
    corner, slope = float(own.uniform(300, 900)), float(own.uniform(-6.0, -4.0))
    bubble = float(own.uniform(3000, 6000))

    def render(take: Take) -> Signal:
        rng = take.rng
        turning = shaft * float(rng.uniform(0.95, 1.0)) * np.ones(take.n)
        turning *= 1.0 + 0.003 * wander(take.n, take.rate, 2.0, rng)
        phase = phase_of(turning, take.rate, float(rng.uniform(0, 6.28)))
        tones = harmonics(vanes * phase, [-4, -9, -13], 0.45 * take.rate, shaft * vanes, rng)
        tones += harmonics(phase, [-12.0, -16.0, -20.0], 0.45 * take.rate, shaft, rng)
        surge = 0.05 + 0.45 * take.broken("air")
        flow = coloured_noise(take.n, take.rate, sloped(corner, slope), rng)
        flow *= np.clip(1.0 + surge * wander(take.n, take.rate, 0.25, rng), 0.1, None)
        total = tones + flow
        if take.broken("cavitation"):
            pops = np.sort(rng.uniform(0, take.n / take.rate, rng.poisson(60 * take.n / take.rate)))
            ring = _ring(bubble, 0.0006, take.rate)
            crackle = _struck(take, pops, rng.exponential(1.0, len(pops)), ring)
            total = total + scaled(crackle, decibels(-24.0 + 10.0 * take.severity))
        if take.broken("bearing"):
            steps = np.cumsum(1 / (3.6 * shaft) * (1 + 0.015 * rng.standard_normal(200 * 60)))
            ring = _ring(0.6 * bubble, 0.001, take.rate)
            total = total + scaled(
                _struck(take, steps, np.ones(len(steps)), ring),
                decibels(-22.0 + 10 * take.severity),
            )
        return np.asarray(total + _room(take, -5.0, -14.0))

    return render


FAMILIES: Mapping[FamilyKind, Family] = {
    "valve": Family(_valve, ("weak", "bounce", "missing", "leak")),
    "gearbox": Family(_gearbox, ("tooth", "eccentric", "wear")),
    "piston": Family(_piston, ("leak", "knock", "uneven")),
    "slide": Family(_slide, ("squeal", "bump", "dry")),
    "pump": Family(_pump, ("cavitation", "bearing", "air")),
}


def render_family(
    kind: FamilyKind,
    seed: int,
    rng: np.random.Generator,
    *,
    seconds: float = 10.0,
    rate: int = 16000,
    fault: str = "",
    severity: float = 1.0,
) -> Samples:
    """Synthesize a recording of one machine of a family.

    Args:
        kind: The family.
        seed: Which machine of it.
        rng: Everything random in this recording.
        seconds: Length.
        rate: Samples a second.
        fault: One of the family's faults; empty for a healthy machine.
        severity: How bad it is.

    Returns:
        float32, shape `(round(seconds * rate),)`, within full scale.
    """
    family = FAMILIES[kind]
    own = np.random.default_rng([seed, sorted(FAMILIES).index(kind)])
    take = Take(round(seconds * rate), rate, rng, fault, severity)
    sound = family.make(own)(take) * _LEVEL * decibels(float(rng.normal(0.0, GAIN_DB)))
    return np.asarray(np.clip(sound, -1.0, 1.0), dtype=np.float32)


def write_family(
    folder: Path,
    kind: FamilyKind,
    seed: int,
    *,
    train: int = 60,
    test_normal: int = 20,
    test_anomaly: int = 24,
    severity: tuple[float, float] = (0.3, 1.0),
    seconds: float = 10.0,
) -> Path:
    """Write one machine's recordings in the plain layout, its faults in turn.

    Args:
        folder: Where `<kind><seed>/{normal,test/normal,test/anomaly}` is made.
        kind: The family.
        seed: Which machine of it.
        train: Healthy recordings to learn from.
        test_normal: Healthy recordings to test with.
        test_anomaly: Faulty ones.
        severity: Range severities are drawn from.
        seconds: Length of a recording.

    Returns:
        The machine's folder.
    """
    root = folder / f"{kind}{seed}"
    faults = FAMILIES[kind].faults
    for part, (place, count) in enumerate(
        (("normal", train), ("test/normal", test_normal), ("test/anomaly", test_anomaly))
    ):
        (root / place).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            rng = np.random.default_rng([seed, part, i])
            fault = faults[i % len(faults)] if place == "test/anomaly" else ""
            sound = render_family(
                kind, seed, rng,
                seconds=seconds, fault=fault, severity=float(rng.uniform(*severity)),
            )  # fmt: skip
            name = f"{fault or 'recording'}_{i:04d}.wav"
            soundfile.write(root / place / name, sound, 16000, subtype="PCM_16")
    return root
