"""Changes to a healthy sound that a machine's ageing could make: classes for lack of others.

Where nothing says which operating condition a recording shows, the encoder learns to tell a sound
from its own distortions, as in Inoue et al. ("Detection of anomalous sounds for machine condition
monitoring using classification confidence", DCASE 2020) and Giri et al. ("Self-supervised
classification for detecting anomalous sounds", DCASE 2020). What it has to notice for that (pitch,
balance of low and high, single bands, modulation) is what faults change. Strengths are drawn anew
each time, so that no one artefact gives a class away.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

NONE = "none"
NAMES = (NONE, "faster", "slower", "brighter", "duller", "band", "modulated")


def perturb(window: Tensor, name: str, rate: int, generator: torch.Generator) -> Tensor:
    """Distort one window.

    Args:
        window: Shape `(n,)`.
        name: One of `NAMES`: `faster` and `slower` change speed and pitch by 4 to 12 %,
            `brighter` and `duller` tilt the spectrum by 2 to 4 dB an octave about 1 kHz, `band`
            takes 12 to 24 dB off a third to one octave, `modulated` swings the level by 20 to
            60 % at 2 to 20 Hz.
        rate: Samples a second.
        generator: Source of the strengths.

    Returns:
        Shape `(n,)`, with the RMS level of the original.
    """
    if name == NONE:
        return window

    def draw(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=generator))

    samples = window.shape[0]
    if name in {"faster", "slower"}:
        factor = 1 + draw(0.04, 0.12)
        changed = resample(window, factor if name == "faster" else 1 / factor)
    elif name == "modulated":
        time = torch.arange(samples, dtype=window.dtype) / rate
        phase = 2 * math.pi * (draw(2, 20) * time + draw(0, 1))
        changed = window * (1 + draw(0.2, 0.6) * torch.sin(phase))
    else:
        octaves = torch.log2(
            torch.fft.rfftfreq(samples, 1 / rate).clamp(min=20.0).to(window.dtype) / 1000.0
        )
        if name == "band":
            centre, width = draw(-3.0, math.log2(rate / 2000) - 0.5), draw(1 / 3, 1.0)
            decibels = -draw(12, 24) * ((octaves - centre).abs() < width / 2).to(window.dtype)
        else:
            decibels = draw(2, 4) * octaves * (1 if name == "brighter" else -1)
        changed = torch.fft.irfft(torch.fft.rfft(window) * 10 ** (decibels / 20), n=samples)
    level = torch.sqrt((window * window).mean())
    gain = level / torch.sqrt((changed * changed).mean()).clamp_min(1e-12)
    restored: Tensor = changed * gain
    return restored


def resample(window: Tensor, factor: float) -> Tensor:
    """Play `factor` times as fast, cutting what is left over or going round what is missing.

    Args:
        window: Shape `(n,)`.
        factor: Speed and pitch; above 1 for faster.

    Returns:
        Shape `(n,)`.
    """
    samples = window.shape[0]
    count = round(samples / factor)
    # Cutting or zero-padding the spectrum is the ideal (anti-aliased) resampler of a loop.
    changed = torch.fft.irfft(torch.fft.rfft(window), n=count) * (count / samples)
    looped: Tensor = changed.repeat(math.ceil(samples / count))[:samples]
    return looped
