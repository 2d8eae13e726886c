"""Faults that resemble sounds from elsewhere: they come and go, knock, or beat at speech's rhythm.

What holds sounds from elsewhere back must not silence them. Each is about RMS 1 where it is loud,
at 16 kHz, and lasts as long as it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import signal
from service_sounds import RATE

Fault = Callable[[np.random.Generator, float], np.ndarray]


def _band(rng: np.random.Generator, seconds: float, low: float, high: float) -> np.ndarray:
    sos = signal.butter(2, [low, high], "bandpass", fs=RATE, output="sos")
    found = signal.sosfilt(sos, rng.standard_normal(int(seconds * RATE)))
    return found / found.std()


def _stretches(
    rng: np.random.Generator, seconds: float, on: tuple[float, float], off: tuple[float, float]
) -> np.ndarray:
    """1 where it is heard, 0 where it is not, with edges of a tenth of a second."""
    out, at = np.zeros(int(seconds * RATE)), 0.0
    while at < seconds:
        length = rng.uniform(*on)
        out[int(at * RATE) : int((at + length) * RATE)] = 1.0
        at += length + rng.uniform(*off)
    ramp = np.ones(RATE // 10) / (RATE // 10)
    return np.convolve(out, ramp, "same")


def _knocks(
    rng: np.random.Generator, seconds: float, apart: float, hertz: float, decay: float
) -> np.ndarray:
    """Blows that ring, a little uneven."""
    n = int(seconds * RATE)
    hits, at = np.zeros(n), 0.5 * apart
    while at < seconds:
        hits[min(n - 1, int(at * RATE))] = rng.uniform(0.7, 1.3)
        at += apart * rng.uniform(0.95, 1.05)
    t = np.arange(int(6 * decay * RATE)) / RATE
    ring = np.exp(-t / decay) * (
        np.sin(2 * np.pi * hertz * t) + 0.5 * np.sin(2 * np.pi * 1.7 * hertz * t)
    )
    found = signal.fftconvolve(hits, ring)[:n]
    # As loud as a steady sound of RMS 1 in the second around a blow, at most.
    busy = min(apart, 1.0)
    share = busy / apart
    return found / np.sqrt(np.mean(found**2) / share)


def grinding(rng: np.random.Generator, seconds: float) -> np.ndarray:
    """Grinds for one or two seconds, every four to eight."""
    return _band(rng, seconds, 1000, 4000) * _stretches(rng, seconds, (1.0, 2.5), (3.0, 6.0))


def rattle(rng: np.random.Generator, seconds: float) -> np.ndarray:
    """A loose cover: rattles at 25 Hz, for some seconds, then not for some."""
    t = np.arange(int(seconds * RATE)) / RATE
    pulses = np.exp(-np.mod(t, 1 / 25.0) / 0.006)
    sound = _band(rng, seconds, 500, 6000) * pulses
    return sound / sound.std() * _stretches(rng, seconds, (1.5, 5.0), (1.5, 5.0))


def rub(rng: np.random.Generator, seconds: float) -> np.ndarray:
    """Rubs for three seconds, every ten to twenty."""
    return _band(rng, seconds, 300, 2500) * _stretches(rng, seconds, (2.0, 4.0), (10.0, 18.0))


def beat(rng: np.random.Generator, seconds: float) -> np.ndarray:
    """Harmonics of 120 Hz that beat at 4 Hz."""
    t = np.arange(int(seconds * RATE)) / RATE
    tones = sum(np.sin(2 * np.pi * 120 * k * t + k) / k**0.5 for k in range(1, 20))
    sound = tones * 0.5 * (1 + np.cos(2 * np.pi * rng.uniform(3.7, 4.3) * t))
    return np.asarray(sound / sound.std())


FAULTS: dict[str, Fault] = {
    "grinds 1 to 2 s of 6": grinding,
    "rattles for some seconds": rattle,
    "rubs 3 s of 15": rub,
    "beats at 4 Hz": beat,
    "slow bearing, 3 blows a second": lambda r, s: _knocks(r, s, 0.33, 2500.0, 0.02),
    "bearing, 60 blows a second": lambda r, s: _knocks(r, s, 1 / 60, 3200.0, 0.003),
    "knocks every 2 s": lambda r, s: _knocks(r, s, 2.0, 700.0, 0.05),
    "knocks every 8 s": lambda r, s: _knocks(r, s, 8.0, 700.0, 0.05),
}
