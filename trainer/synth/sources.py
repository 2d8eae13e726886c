"""The parts of a machine's sound, each a pure function of its physics and a random generator.

Signals are float64 of shape `(n,)`; `rate` is samples a second; phases are radians.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import signal

from trainer.synth.design import Bearing

Signal: TypeAlias = npt.NDArray[np.float64]

# Speeds and loads change slowly: they are drawn at this rate and interpolated.
CONTROL_HZ = 100.0


def decibels(level: float) -> float:
    """The amplitude ratio of a level in dB: `10 ** (level / 20)`."""
    return float(10.0 ** (level / 20.0))


def scaled(sound: Signal, rms: float) -> Signal:
    """`sound` with this root mean square (unchanged when it is silent)."""
    own = float(np.sqrt(np.mean(sound**2))) if len(sound) else 0.0
    return np.asarray(sound * (rms / own)) if own > 0 else sound


def wander(n: int, rate: int, seconds: float, rng: np.random.Generator) -> Signal:
    """A slow random drift of unit variance: an Ornstein-Uhlenbeck process, interpolated.

    `x[i + 1] = r x[i] + sqrt(1 - r^2) e`, `r = exp(-1 / (CONTROL_HZ * seconds))`, started in its
    stationary distribution.
    """
    steps = int(np.ceil(n / rate * CONTROL_HZ)) + 2
    r = np.exp(-1.0 / (CONTROL_HZ * seconds))
    noise = rng.standard_normal(steps)
    drive = np.sqrt(1 - r**2) * noise
    drive[0] = noise[0]
    path = signal.lfilter([1.0], [1.0, -r], drive)
    return np.asarray(np.interp(np.arange(n) / rate, np.arange(steps) / CONTROL_HZ, path))


def phase_of(frequency: Signal, rate: int, start: float = 0.0) -> Signal:
    """Phase of a rotation of varying frequency (Hz): `2 pi` times the integral of it."""
    return np.asarray(start + 2 * np.pi * np.cumsum(frequency) / rate)


def harmonics(
    phase: Signal, levels_db: Sequence[float], top_hz: float, hz: float, rng: np.random.Generator
) -> Signal:
    """Sum over k of `sqrt(2) 10^(level_k / 20) cos(k phase + random offset)`, below `top_hz`.

    Args:
        phase: Phase of the fundamental.
        levels_db: RMS levels of harmonics 1, 2, ...
        top_hz: Harmonics above it are left out.
        hz: Highest frequency of the fundamental.
        rng: Draws the offsets.
    """
    offsets = rng.uniform(0, 2 * np.pi, len(levels_db))
    total = np.zeros_like(phase)
    # Powers of one rotating pointer: products, where cosines would take most of the time.
    pointer = np.exp(1j * phase)
    power = np.ones_like(pointer)
    for k, (level, offset) in enumerate(zip(levels_db, offsets, strict=True), start=1):
        power *= pointer
        if k * hz < top_hz:
            amplitude = np.sqrt(2) * decibels(level)
            # Re(power * exp(i offset)), without making the complex product.
            total += amplitude * np.cos(offset) * power.real
            total -= amplitude * np.sin(offset) * power.imag
    return total


def coloured_noise(
    n: int, rate: int, gain: Callable[[Signal], Signal], rng: np.random.Generator
) -> Signal:
    """White Gaussian noise shaped by an amplitude spectrum, with unit RMS.

    Args:
        n: Samples.
        rate: Samples a second.
        gain: Frequencies in Hz to amplitudes.
        rng: Draws the noise.
    """
    length = n + n % 2
    spectrum = np.fft.rfft(rng.standard_normal(length))
    spectrum *= gain(np.fft.rfftfreq(length, 1.0 / rate).astype(np.float64))
    spectrum[0] = 0.0
    return scaled(np.fft.irfft(spectrum, length)[:n], 1.0)


def sloped(corner_hz: float, slope_db: float) -> Callable[[Signal], Signal]:
    """An amplitude spectrum flat below a corner, falling by `slope_db` an octave above it."""
    power = slope_db / 20.0 / np.log10(2.0)
    return lambda hz: (1.0 + (hz / corner_hz) ** 2) ** (power / 2)


def resonate(sound: Signal, rate: int, modes: Sequence[tuple[float, float, float]]) -> Signal:
    """A casing's resonances: the sound plus each mode's band-pass (frequency, Q, gain in dB)."""
    total = sound.copy()
    for hz, quality, gain_db in modes:
        if hz < 0.45 * rate:
            b, a = signal.iirpeak(hz, quality, fs=rate)
            total += (decibels(gain_db) - 1.0) * signal.lfilter(b, a, sound)
    return total


def bearing_impacts(phase: Signal, bearing: Bearing, rate: int, rng: np.random.Generator) -> Signal:
    """Balls rolling over a dent in the outer race: decaying rings at BPFO, unscaled.

    The dent is met every `2 pi / outer_race_order` of shaft rotation, with independent jitter
    added to each spacing (cage slip accumulates, so the line spectrum smears as real ones do).
    Each impact excites `exp(-t / decay) sin(2 pi f t)`; its strength varies by a fifth at random,
    and by the shaft's rotation as the load on the dent does.
    """
    spacing = 2 * np.pi / bearing.outer_race_order()
    span = float(phase[-1] - phase[0])
    count = int(span / spacing * 1.1) + 8
    steps = spacing * (1.0 + bearing.jitter * rng.standard_normal(count))
    at = phase[0] + rng.uniform(0, spacing) + np.cumsum(steps)
    at = at[at < phase[-1]]
    places = np.interp(at, phase, np.arange(len(phase), dtype=np.float64))
    strengths = (1.0 + 0.2 * rng.standard_normal(len(at))) * (1.0 + 0.3 * np.cos(at))
    impulses = np.zeros(len(phase) + 1)
    # An impact between two samples is shared by both, or its timing would be quantized.
    whole = places.astype(np.intp)
    part = places - whole
    np.add.at(impulses, whole, strengths * (1 - part))
    np.add.at(impulses, whole + 1, strengths * part)
    t = np.arange(int(8 * bearing.decay_seconds * rate)) / rate
    hz = min(bearing.resonance_hz, 0.45 * rate)
    ring = np.exp(-t / bearing.decay_seconds) * np.sin(2 * np.pi * hz * t)
    return np.asarray(signal.fftconvolve(impulses, ring)[: len(phase)])


def belt_scrape(phase: Signal, belt_ratio: float, rate: int, rng: np.random.Generator) -> Signal:
    """A frayed belt scraping its guard once a belt revolution: pulsed broadband noise, unscaled.

    Noise of 700 Hz to 4 kHz times `sin(belt phase / 2)^16`: a burst of about a fifth of the belt's
    period, its strength differing from turn to turn.
    """
    top = min(4000.0, 0.45 * rate)
    sos = signal.butter(2, [700.0, top], btype="bandpass", fs=rate, output="sos")
    noise = signal.sosfilt(sos, rng.standard_normal(len(phase)))
    belt = belt_ratio * phase + rng.uniform(0, 2 * np.pi)
    turn = np.floor(belt / (2 * np.pi)).astype(np.intp)
    turn -= turn[0]
    strength = np.clip(1.0 + 0.3 * rng.standard_normal(turn[-1] + 1), 0.2, None)
    # Each burst is centred in its turn, so that the change of strength falls into silence.
    envelope = np.abs(np.sin(belt / 2)) ** 16
    return np.asarray(noise * envelope * strength[turn])


def reverberate(
    sound: Signal, rate: int, seconds: float, direct_db: float, rng: np.random.Generator
) -> Signal:
    """Sound in a room: the direct sound plus an exponentially decaying diffuse tail.

    The tail is Gaussian noise falling by 60 dB in `seconds`, darker as it dies; `direct_db` is the
    direct sound's energy over the tail's.
    """
    n = int(seconds * rate)
    t = np.arange(n) / rate
    tail = rng.standard_normal(n) * 10.0 ** (-3.0 * t / seconds)
    tail = signal.lfilter([0.5, 0.5], [1.0], tail)
    tail *= decibels(-direct_db) / np.sqrt(np.sum(tail**2))
    response = np.concatenate([[1.0], np.zeros(int(0.003 * rate)), tail])
    return np.asarray(signal.fftconvolve(sound, response)[: len(sound)])
