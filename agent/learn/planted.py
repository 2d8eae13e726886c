"""Faults planted in healthy windows, and recorded ones: what a threshold is held against."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from rich.progress import Progress

from agent.bundle.facts import PlantedFault
from agent.config.decide import DecideConfig
from agent.core.errors import AudioError
from agent.recordings.model import ANOMALY, Machine
from agent.recordings.windows import Cutting, WindowSet

# Levels of planted faults, relative to the window's own.
LEVELS_DB = (-20.0, -10.0, 0.0)
_PLANTED_IN = 12  # healthy windows
_MOST_RECORDED = 100  # faulty test recordings

# Butterworth band-pass of the second order from 0.15 to 0.25 of the rate, whatever that is, as two
# sections (b0, b1, b2, a1, a2); its poles lie within 0.82, so that it is over in so many samples.
_BAND = (
    (0.06745527388907191, 0.13491054777814382, 0.06745527388907191,
     -0.14489705425199334, 0.6197778933949215),
    (1.0, -2.0, 1.0, -0.8763192158992188, 0.666047631733054),
)  # fmt: skip
_RESPONSE = 256

Waveforms = npt.NDArray[np.float32]


def faulty_windows(
    machine: Machine, cutting: Cutting, progress: Progress | None
) -> WindowSet | None:
    """Windows of the faulty test recordings, of a hundred at most; None without any."""
    found = [r for r in machine.of("test") if r.label == ANOMALY]
    if not found:
        return None
    places = np.unique(np.linspace(0, len(found) - 1, _MOST_RECORDED).astype(int))
    some = replace(machine, recordings=tuple(found[i] for i in places))
    try:
        return replace(cutting, clip_seconds=None).windows(some, ("test",), progress)
    except AudioError:
        return None


def plant(
    waveforms: Waveforms, rate: int, seed: int = 0
) -> tuple[Waveforms, list[tuple[str, float]]]:
    """Healthy windows with simple faults in them.

    Args:
        waveforms: Healthy windows, float32 `(n, samples)`.
        rate: Samples a second.
        seed: Of the noise.

    Returns:
        Windows with a fault, and of each its kind and level, dB of the window's RMS.
    """
    rng = np.random.default_rng(seed)
    chosen = waveforms[np.unique(np.linspace(0, len(waveforms) - 1, _PLANTED_IN).astype(int))]
    sounds = _sounds(waveforms.shape[1], rate, rng)
    planted, what = [], []
    for kind, sound in sounds:
        for level in LEVELS_DB:
            for window in chosen:
                rms = float(np.sqrt(np.mean(np.square(window, dtype=np.float64))))
                planted.append(window + (rms * 10 ** (level / 20)) * sound)
                what.append((kind, level))
    return np.stack(planted).astype(np.float32), what


def _sounds(samples: int, rate: int, rng: np.random.Generator) -> list[tuple[str, Waveforms]]:
    """A tone, a band of noise, knocks; RMS 1."""
    t = np.arange(samples) / rate
    tone = np.sin(2 * np.pi * 0.0937 * rate * t)  # 1500 Hz at 16 kHz
    band = np.convolve(rng.standard_normal(samples), _band_response())[:samples]
    ring = np.exp(-t[: rate // 20] / 0.004) * np.sin(2 * np.pi * 0.19 * rate * t[: rate // 20])
    strikes = np.zeros(samples)
    strikes[:: max(1, rate // 9)] = 1.0
    knocks = np.convolve(strikes, ring)[:samples]
    found = (("a tone", tone), ("a band of noise", band), ("knocks", knocks))
    return [(kind, (x / np.sqrt(np.mean(x**2))).astype(np.float32)) for kind, x in found]


def _band_response() -> npt.NDArray[np.float64]:
    """Impulse response of the band's filter, as long as it is heard."""
    sound: npt.NDArray[np.float64] = np.zeros(_RESPONSE)
    sound[0] = 1.0
    for b0, b1, b2, a1, a2 in _BAND:
        passed = np.zeros(_RESPONSE + 2)  # two zeros before it
        before = np.concatenate([[0.0, 0.0], sound])
        for n in range(2, _RESPONSE + 2):
            passed[n] = (
                b0 * before[n] + b1 * before[n - 1] + b2 * before[n - 2]
                - a1 * passed[n - 1] - a2 * passed[n - 2]
            )  # fmt: skip
        sound = passed[2:]
    return sound


def _by_fault(what: Sequence[tuple[str, float]]) -> dict[tuple[str, float], list[int]]:
    """Windows of each kind and level."""
    found: dict[tuple[str, float], list[int]] = {}
    for place, key in enumerate(what):
        found.setdefault(key, []).append(place)
    return found


def median_scores(scores: Sequence[float], what: Sequence[tuple[str, float]]) -> list[PlantedFault]:
    """The median score of each kind and level."""
    values = np.array(scores, np.float64)
    return [
        PlantedFault(kind=kind, level_db=level, score=float(np.median(values[places])))
        for (kind, level), places in _by_fault(what).items()
    ]


def median_windows(scores: Sequence[float], what: Sequence[tuple[str, float]]) -> list[int]:
    """Windows that score nearest the median of their kind and level, in `median_scores`' order."""
    values = np.array(scores, np.float64)
    return [
        places[int(np.argmin(np.abs(values[places] - np.median(values[places]))))]
        for places in _by_fault(what).values()
    ]


def recorded_scores(scores: Sequence[float], groups: Sequence[str]) -> tuple[float, ...]:
    """Score of each faulty recording that enough of it reaches to raise an alarm."""
    return tuple(float(scores[place]) for place in recorded_windows(scores, groups))


def recorded_windows(scores: Sequence[float], groups: Sequence[str]) -> list[int]:
    """The window of each faulty recording whose score enough of it reaches to raise an alarm."""
    amounts = DecideConfig().amounts
    share = amounts.raise_after / amounts.within
    of = np.array(groups)
    values = np.array(scores, np.float64)
    found = []
    for group in dict.fromkeys(groups):
        own = np.flatnonzero(of == group)
        falling = own[np.argsort(-values[own], kind="stable")]
        found.append(int(falling[math.ceil(share * len(falling) - 1e-9) - 1]))
    return found
