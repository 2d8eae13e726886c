"""Made bearings that run to failure, in the layout of the FEMTO (PRONOSTIA) bearings.

A snapshot is 0.1 s of acceleration on two axes at 25.6 kHz, one each 10 s. The healthy machine is
resonances excited by noise, tones of the shaft, and a noise floor; it warms up for the first
minutes, its bands wander and settle slowly (both ways, by a few dB, as real ones do), and single
snapshots scatter. A decay adds impacts of a bearing's fault and louder resonances, by its kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter

Array: TypeAlias = npt.NDArray[np.float64]

RATE, LENGTH, AXES, STEP_SECONDS = 25600, 2560, 2, 10.0
_RESONANCES = 9
_FAULT_HZ = (
    80.0,
    260.0,
)  # ball passing frequencies of small bearings at 1500 to 1800 turns a minute
_SPEEDS = (0.88, 1.0, 1.12)


@dataclass(frozen=True, slots=True)
class Decay:
    """How one machine lives and dies.

    Attributes:
        course: How the fault grows from its onset: `none`, `linear`, `exponential`, `steps`,
            `intermittent`, or `late` (a slight sign, then all at once).
        onset: Where it begins, range of shares of the life to draw from.
        wander: Standard deviation of the bands' random walk at the end of life, dB.
        settling: Standard deviation of the bands' slow one-way change over the life, dB; most of it
            early, as logarithms go.
        warm_up: Standard deviation of the bands' change while warming up, dB.
        running_in: Standard deviation of a change that dies away over a tenth of life, dB.
        running_in_life: How fast it does, range of time constants as shares of the life.
        scatter: Standard deviation of a band from snapshot to snapshot, range in dB.
        speeds: Whether the machine runs at three speeds in turn.
        bursts: Share of snapshots with a passing sound.
        crackle: Share of the life in which the highest band has spells of sparse impacts that mean
            nothing (dirt in the grease, a loose sensor cable).
    """

    course: str
    onset: tuple[float, float] = (0.3, 0.6)
    wander: float = 0.7
    settling: float = 1.0
    warm_up: float = 2.5
    running_in: float = 0.0
    running_in_life: tuple[float, float] = (0.04, 0.12)
    scatter: tuple[float, float] = (0.4, 1.5)
    speeds: bool = False
    bursts: float = 0.0
    crackle: float = 0.0


KINDS: dict[str, Decay] = {
    "linear": Decay("linear"),
    "exponential": Decay("exponential", onset=(0.2, 0.4)),
    "steps": Decay("steps"),
    "intermittent": Decay("intermittent"),
    "speeds": Decay("linear", speeds=True),
    "running-in": Decay("exponential", onset=(0.2, 0.4), running_in=3.0),
    "slow running-in": Decay("linear", running_in=4.0, running_in_life=(0.08, 0.2)),
    "crackle": Decay("linear", crackle=0.25),
    "noisy": Decay("linear", scatter=(1.5, 3.5), bursts=0.02),
    "late": Decay("late", onset=(0.2, 0.4)),
    "settling, late": Decay("late", onset=(0.2, 0.4), settling=2.0, wander=1.0, warm_up=3.5),
}
HEALTHY: dict[str, Decay] = {
    "healthy": Decay("none", wander=0.4, settling=0.4),
    "healthy, speeds": Decay("none", wander=0.4, settling=0.4, speeds=True),
    "healthy, running-in": Decay("none", wander=0.4, settling=0.4, running_in=3.0),
    "healthy, crackle": Decay("none", wander=0.4, settling=0.4, crackle=0.25),
    "healthy, noisy": Decay("none", wander=0.4, settling=0.4, scatter=(1.5, 3.5), bursts=0.02),
}


def run_to_failure(decay: Decay, count: int, seed: int) -> npt.NDArray[np.float32]:
    """Snapshots of one life, shape `(count, LENGTH, AXES)`, arbitrary unit.

    Args:
        decay: Of which kind.
        count: Snapshots.
        seed: Of the machine and of its chance.
    """
    rng = np.random.default_rng(seed)
    low, high = np.log(150.0), np.log(11500.0)
    places = np.linspace(low, high, _RESONANCES) + rng.normal(0, 0.15, _RESONANCES)
    centres = np.exp(np.clip(places, low, high))
    widths = centres * rng.uniform(0.03, 0.3, _RESONANCES)
    sizes = 10 ** (rng.normal(-3, 5, (_RESONANCES, AXES)) / 20)
    hertz = np.fft.rfftfreq(LENGTH, 1 / RATE)
    shapes = 1 / (1 + ((hertz - centres[:, None]) / widths[:, None]) ** 2)
    shapes /= np.sqrt((shapes**2).sum(axis=1, keepdims=True))
    levels = _healthy_levels(decay, count, rng)
    speed = _speeds(count, rng) if decay.speeds else np.ones(count)
    size = fault_size(decay, count, rng)
    grown, reach = _grown(decay, rng)
    levels += size[:, None] * grown
    ring = _ring(centres[rng.integers(4, _RESONANCES - 1)], rng)
    impacts = reach * size * 10 ** (rng.normal(0, 1.5, count) / 20)
    turn, passing = rng.uniform(22, 32), rng.uniform(*_FAULT_HZ)
    tones, gains = rng.uniform(0.02, 0.3, (3, AXES)), rng.uniform(0.6, 1.0, AXES)
    time = np.arange(LENGTH) / RATE
    burst = rng.random(count) < decay.bursts
    crackles = _spells(count, decay.crackle, rng) * (rng.random(count) < 0.6)
    lives = np.empty((count, LENGTH, AXES), dtype=np.float32)
    for row in range(count):
        # Forces rise with the square of speed.
        load = speed[row] ** 2
        gain = (10 ** (levels[row] / 20))[:, None] * sizes * load
        power = np.sqrt(np.einsum("ka,kf->fa", gain**2, shapes**2) + 1e-5)
        noise = rng.standard_normal((2, *power.shape))
        x = np.fft.irfft(power * (noise[0] + 1j * noise[1]), n=LENGTH, axis=0)
        x *= np.sqrt(LENGTH * LENGTH / 4)
        for order in range(3):
            angle = 2 * np.pi * turn * speed[row] * (order + 1) * time + rng.uniform(0, 2 * np.pi)
            x += load * tones[order] * np.sin(angle)[:, None]
        if impacts[row] > 0:
            x += impacts[row] * load * gains * _impacts(passing * speed[row], ring, rng)[:, None]
        if crackles[row]:
            x += _crackle(rng)[:, None] * gains
        if burst[row]:
            x *= rng.uniform(2, 8)
        lives[row] = x
    return lives


def fault_size(decay: Decay, count: int, rng: np.random.Generator) -> Array:
    """How far the fault is grown at each snapshot, from 0 to 1, shape `(count,)`."""
    if decay.course == "none":
        return np.zeros(count)
    onset = rng.uniform(*decay.onset)
    grown = np.clip((np.arange(count) / count - onset) / (1 - onset), 0, 1)
    if decay.course == "exponential":
        return np.asarray(np.expm1(4 * grown) / np.expm1(4))
    if decay.course == "steps":
        edges = np.sort(rng.uniform(0.05, 0.95, 4))
        return np.asarray(0.2 * (grown[:, None] > np.concatenate([[0], edges])).sum(axis=1))
    if decay.course == "intermittent":
        present = np.zeros(count, dtype=bool)
        row = 0
        while row < count:
            on = int(rng.integers(10, 50))
            present[row : row + on] = rng.random() < 0.3 + 0.6 * grown[row]
            row += on
        return np.where(present, grown, 0.3 * grown)
    if decay.course == "late":
        end = rng.uniform(0.965, 0.985)
        return np.where(np.arange(count) > end * count, 1.0, 0.15 * grown)
    return grown


def _grown(decay: Decay, rng: np.random.Generator) -> tuple[Array, float]:
    """Decibels that each resonance gains in all, shape `(K,)`, and the impacts' final size."""
    chosen = rng.permutation(_RESONANCES)[: rng.integers(3, 6)]
    grown = np.zeros(_RESONANCES)
    grown[chosen] = rng.uniform(10, 20, len(chosen))
    if decay.course == "late":
        grown[chosen] *= rng.choice([-1.0, 1.0], len(chosen), p=[0.3, 0.7])
    return grown, float(rng.uniform(3, 10))


def _healthy_levels(decay: Decay, count: int, rng: np.random.Generator) -> Array:
    """Decibels by which the resonances differ from their mean, shape `(count, K)`."""
    wide = _RESONANCES
    steps = rng.normal(0, 1, (count, wide)) / np.sqrt(count)
    levels = decay.wander * np.cumsum(steps, axis=0)
    life = np.arange(count)[:, None] / count
    levels += rng.normal(0, decay.settling, wide) * np.log1p(20 * life) / np.log(21)
    # Warming up takes minutes, however long the life will be.
    minutes = rng.uniform(6, 30, wide) * 6 / 2.5
    levels += rng.normal(0, decay.warm_up, wide) * np.exp(-np.arange(count)[:, None] / minutes)
    tenths = rng.uniform(*decay.running_in_life, wide)
    levels += rng.normal(0, decay.running_in, wide) * np.exp(-life / tenths)
    memory = rng.uniform(0, 0.7, wide)
    size = rng.uniform(*decay.scatter, wide)
    for band in range(wide):
        chance = rng.normal(0, size[band] * np.sqrt(1 - memory[band] ** 2), count)
        levels[:, band] += lfilter([1], [1, -memory[band]], chance)
    return np.asarray(levels)


def _spells(count: int, share: float, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Snapshots within spells that cover a share of the life, shape `(count,)`."""
    within = np.zeros(count, dtype=bool)
    row = 0
    while row < count:
        stay = max(4, int(rng.uniform(0.01, 0.04) * count))
        within[row : row + stay] = rng.random() < share
        row += stay
    return within


def _crackle(rng: np.random.Generator) -> Array:
    """One to four short high clicks anywhere in a snapshot, shape `(LENGTH,)`."""
    hits = np.zeros(LENGTH)
    places = rng.integers(0, LENGTH, rng.integers(1, 5))
    hits[places] = rng.uniform(2, 12, len(places))
    time = np.arange(48) / RATE
    click = np.exp(-4000 * time) * np.sin(2 * np.pi * 9500 * time)
    return np.asarray(np.convolve(hits, click)[:LENGTH], dtype=np.float64)


def _speeds(count: int, rng: np.random.Generator) -> Array:
    """Speed of each snapshot as a share of the usual one, in stretches."""
    speed = np.empty(count)
    row = 0
    while row < count:
        stay = int(rng.integers(5, 25))
        speed[row : row + stay] = rng.choice(_SPEEDS)
        row += stay
    return speed


def _ring(hertz: float, rng: np.random.Generator) -> Array:
    time = np.arange(128) / RATE
    return np.asarray(np.exp(-rng.uniform(600, 2500) * time) * np.sin(2 * np.pi * hertz * time))


def _impacts(passing: float, ring: Array, rng: np.random.Generator) -> Array:
    """A train of rings with 1 % of slip, shape `(LENGTH,)`."""
    gap = RATE / passing
    places = rng.uniform(0, gap) + gap * np.arange(int(LENGTH / gap) + 1)
    places = (places + rng.normal(0, 0.01 * gap, len(places))).astype(int)
    hits = np.zeros(LENGTH)
    hits[places[(places >= 0) & (places < LENGTH)]] = 1
    return np.asarray(np.convolve(hits, ring)[:LENGTH], dtype=np.float64)
