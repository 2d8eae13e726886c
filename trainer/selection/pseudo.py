"""Faults made up from healthy sound, each kind at three strengths.

None is a real fault. They stand for ways in which sound can change: another sound beside it, a band
that grows or fades, knocks, another speed, a swinging level, a whine. Loudness is restored, so that
a method that only hears loudness hears none of them. Strengths were set once, by what a technician
would call barely audible, audible and obvious, and not by what any method finds.

Everything is drawn in seconds and hertz from one seed, so encoders of different rates hear the same
change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
import torch

from agent.core.records import Matrix, Samples
from agent.score.scorer import Floats
from trainer.fit.perturb import resample

Change: TypeAlias = Callable[[Floats, float, int, np.random.Generator], Floats]

# The highest frequency that anything is drawn at: below half of every encoder's rate.
_HIGHEST_HZ = 6000.0
# Of each kind, weakest first. Levels are of what is added, against the healthy window, dB.
STRENGTHS: Mapping[str, tuple[float, float, float]] = {
    "mixture": (-18.0, -12.0, -6.0),
    "band": (2.0, 4.0, 8.0),  # dB, up or down
    "knocks": (-24.0, -18.0, -12.0),
    "speed": (0.01, 0.025, 0.06),  # share, faster or slower
    "swing": (0.1, 0.25, 0.6),  # modulation depth
    "whine": (-30.0, -24.0, -18.0),
}


def change_windows(
    windows: Matrix,
    kind: str,
    level: int,
    rate: int,
    *,
    others: Matrix | None = None,
    seed: int = 0,
) -> Matrix:
    """Change healthy windows.

    Args:
        windows: float32 `(n, samples)`.
        kind: One of `STRENGTHS`.
        level: Which of its strengths, from 0.
        rate: Samples a second.
        others: Other machines' windows, float32 `(m, samples)`; `mixture` needs them.
        seed: Of everything drawn; the same for every encoder.

    Returns:
        float32 `(n, samples)`, each window at the RMS level it had.
    """
    strength = STRENGTHS[kind][level]
    changed = np.empty_like(windows)
    for place, window in enumerate(windows):
        rng = np.random.default_rng([seed, list(STRENGTHS).index(kind), level, place])
        sound = window.astype(np.float64)
        if kind == "mixture":
            assert others is not None
            other = others[int(rng.integers(len(others)))].astype(np.float64)
            made = _added(sound, other, strength)
        else:
            made = _CHANGES[kind](sound, strength, rate, rng)
        changed[place] = made * (_rms(sound) / max(_rms(made), 1e-12))
    return changed


def _band(sound: Floats, strength: float, rate: int, rng: np.random.Generator) -> Floats:
    """A third to one octave, louder or quieter."""
    centre = _hertz(rng, 125.0, _HIGHEST_HZ / 1.5)
    width = rng.uniform(1 / 3, 1.0)
    gain = strength if rng.integers(2) else -strength
    octaves = np.log2(np.maximum(np.fft.rfftfreq(len(sound), 1 / rate), 1.0) / centre)
    shape = np.where(np.abs(octaves) < width / 2, gain, 0.0)
    changed: Floats = np.fft.irfft(np.fft.rfft(sound) * 10 ** (shape / 20), n=len(sound))
    return changed


def _knocks(sound: Floats, strength: float, rate: int, rng: np.random.Generator) -> Floats:
    """A ringing that is struck 4 to 40 times a second, with the slip of a bearing's cage."""
    spacing, pitch = 1 / rng.uniform(4.0, 40.0), _hertz(rng, 800.0, _HIGHEST_HZ)
    decay = rng.uniform(0.001, 0.004)
    seconds = len(sound) / rate
    count = int(seconds / spacing) + 1
    at = np.cumsum(spacing * (1 + 0.02 * rng.standard_normal(count)))
    time = np.arange(int(8 * decay * rate) + 1) / rate
    ringing = np.exp(-time / decay) * np.sin(2 * np.pi * pitch * time)
    struck = np.zeros(len(sound) + len(ringing))
    for start in (at[at < seconds] * rate).astype(int):
        struck[start : start + len(ringing)] += ringing
    return _added(sound, struck[: len(sound)], strength)


def _speed(sound: Floats, strength: float, _rate: int, rng: np.random.Generator) -> Floats:
    factor = 1 + strength if rng.integers(2) else 1 / (1 + strength)
    changed: Floats = resample(torch.from_numpy(sound), factor).numpy()
    return changed


def _swing(sound: Floats, strength: float, rate: int, rng: np.random.Generator) -> Floats:
    """Level that swings 2 to 20 times a second."""
    cycles = rng.uniform(2.0, 20.0) * np.arange(len(sound)) / rate + rng.uniform()
    return sound * (1 + strength * np.sin(2 * np.pi * cycles))


def _whine(sound: Floats, strength: float, rate: int, rng: np.random.Generator) -> Floats:
    """A tone with up to three harmonics, each weaker by half."""
    pitch = _hertz(rng, 150.0, 2500.0)
    time = np.arange(len(sound)) / rate
    tone = np.zeros(len(sound))
    for harmonic in range(1, int(rng.integers(1, 5)) + 1):
        phase = rng.uniform(0, 2 * np.pi)
        if pitch * harmonic <= _HIGHEST_HZ:
            tone += np.sin(2 * np.pi * pitch * harmonic * time + phase) / 2 ** (harmonic - 1)
    return _added(sound, tone, strength)


_CHANGES: Mapping[str, Change] = {
    "band": _band,
    "knocks": _knocks,
    "speed": _speed,
    "swing": _swing,
    "whine": _whine,
}


def _added(sound: Floats, other: Floats, decibels: float) -> Floats:
    level = _rms(sound) * 10 ** (decibels / 20)
    return sound + other * (level / max(_rms(other), 1e-12))


def _rms(sound: Floats | Samples) -> float:
    return float(np.sqrt(np.mean(np.square(sound, dtype=np.float64))))


def _hertz(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
