"""Front ends of the pre-trained encoders, as operators that stay inside the exported graph.

Two kinds: Kaldi's filter bank (BEATs, EAT), and mel spectrograms of centred frames (M2D, Dasheng,
MuQ). Spectra come from `trainer.encoders.spectrum`, so no graph needs a DFT or STFT operator.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from agent.explain.grid import PatchGrid
from trainer.encoders.spectrum import Spectrogram, Spectrum, frame, mel_edges, mel_filters

KALDI_FRAME = 400  # 25 ms at 16 kHz
KALDI_HOP = 160  # 10 ms
KALDI_SIZE = 512
PRE_EMPHASIS = 0.97
# Kaldi floors energies at the smallest step of a float32 near one.
FLOOR = float(np.finfo(np.float32).eps)


def kaldi_frames(samples: int) -> int:
    """Frames of a waveform at 16 kHz; the tail that fills no frame is dropped (snip_edges)."""
    return 1 + (samples - KALDI_FRAME) // KALDI_HOP


def kaldi_grid(patch: int) -> PatchGrid:
    """Where square patches of so many frames and filters lie."""
    edges = mel_edges(mels=128, rows=128 // patch, low=20.0, high=8000.0, scale="kaldi")
    return PatchGrid(edges, patch * KALDI_HOP / 16000)


class KaldiFbank(nn.Module):
    """Kaldi's log-mel filter bank at 16 kHz: 128 filters from 20 Hz to 8 kHz, no dither, no energy.

    Each frame loses its mean, is pre-emphasised (its first sample against itself), windowed, and
    transformed with 512 points. The mean is subtracted rather than folded into the transform's
    tables: on a constant signal the difference must be exactly zero, or silence behind a DC offset
    would not reach the floor.

    Args:
        window: `povey` is a symmetric Hann window to the power 0.85; `hanning` the window itself.
        scale: Factor on the waveform: 2**15 where the encoder was trained on 16-bit integers.
    """

    frames_last = False  # it gives `(batch, frames, bands)`; SpecAugment asks

    def __init__(self, *, window: Literal["povey", "hanning"], scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        hann = torch.hann_window(KALDI_FRAME, periodic=False, dtype=torch.float64)
        shape = hann.pow(0.85) if window == "povey" else hann
        self.window: Tensor
        self.filters: Tensor
        self.register_buffer("window", shape.float(), persistent=False)
        filters = mel_filters(
            rate=16000, size=KALDI_SIZE, mels=128, low=20.0, high=8000.0, scale="kaldi"
        )
        self.register_buffer("filters", filters, persistent=False)
        self.spectrum = Spectrum(KALDI_SIZE, power=True)

    def forward(self, waveform: Tensor) -> Tensor:
        """Turn `(batch, samples)` into `(batch, frames, 128)`, natural logarithm of power."""
        frames = frame(waveform * self.scale, KALDI_FRAME, KALDI_HOP)
        frames = frames - frames.mean(dim=-1, keepdim=True)
        before = torch.cat([frames[..., :1], frames[..., :-1]], dim=-1)
        frames = (frames - PRE_EMPHASIS * before) * self.window
        power = self.spectrum(functional.pad(frames, (0, KALDI_SIZE - KALDI_FRAME)))
        return torch.matmul(power, self.filters).clamp(min=FLOOR).log()


class MelPower(nn.Module):
    """Mel power spectrogram of centred frames (reflected at both ends), periodic Hann window.

    Args:
        rate: Sample rate, Hz.
        size: Samples a transform and a window.
        hop: Samples between frames.
        mels: Filters.
        low: Lower edge of the first filter, Hz.
        high: Upper edge of the last, Hz.
        scale: `htk` (2595 log10(1 + f / 700), unit height) or `slaney` (linear below 1 kHz, unit
            area).
    """

    def __init__(
        self,
        *,
        rate: int,
        size: int,
        hop: int,
        mels: int,
        low: float,
        high: float,
        scale: Literal["htk", "slaney"],
    ) -> None:
        super().__init__()
        self.size = size
        self.spectrogram = Spectrogram(size, hop, power=True)
        self.filters: Tensor
        filters = _triangles(rate=rate, size=size, mels=mels, low=low, high=high, scale=scale)
        self.register_buffer("filters", filters, persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """Turn `(batch, samples)` into `(batch, 1 + samples // hop, mels)`, power."""
        margin = self.size // 2
        padded = functional.pad(waveform.unsqueeze(1), (margin, margin), mode="reflect").squeeze(1)
        return torch.matmul(self.spectrogram(padded), self.filters)


def decibels(power: Tensor, *, top_db: float | None = None) -> Tensor:
    """10 log10 of power, floored at 1e-10.

    Args:
        power: Shape `(batch, frames, mels)`.
        top_db: Nothing falls further below its own clip's maximum than this, dB. The clip's own:
            with the maximum of a batch, a clip's embedding would depend on its neighbours.
    """
    level = 10.0 * power.clamp(min=1e-10).log10()
    if top_db is None:
        return level
    return torch.maximum(level, level.amax(dim=(1, 2), keepdim=True) - top_db)


def _triangles(*, rate: int, size: int, mels: int, low: float, high: float, scale: str) -> Tensor:
    """Triangular filters linear in Hz, float32 `(size / 2 + 1, mels)`."""
    hertz = np.arange(size // 2 + 1) * rate / size
    to_mel, to_hertz = (_htk, _htk_inverse) if scale == "htk" else (_slaney, _slaney_inverse)
    ends = to_mel(np.array([low, high], dtype=np.float64))
    points = to_hertz(np.linspace(ends[0], ends[1], mels + 2))
    left, centre, right = points[:-2], points[1:-1], points[2:]
    rise = (hertz[:, None] - left) / (centre - left)
    fall = (right - hertz[:, None]) / (right - centre)
    filters = np.maximum(0.0, np.minimum(rise, fall))
    if scale == "slaney":
        filters = filters * (2.0 / (right - left))
    return torch.tensor(filters, dtype=torch.float32)


_KNEE = 1000.0  # Hz, where Slaney's scale turns from linear (200/3 Hz a mel) to logarithmic
_STEP = math.log(6.4) / 27.0
Doubles = npt.NDArray[np.float64]


def _htk(hertz: Doubles) -> Doubles:
    return 2595.0 * np.log10(1.0 + hertz / 700.0)


def _htk_inverse(mel: Doubles) -> Doubles:
    return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)


def _slaney(hertz: Doubles) -> Doubles:
    above = 15.0 + np.log(np.maximum(hertz, _KNEE) / _KNEE) / _STEP
    return np.where(hertz < _KNEE, hertz * 3.0 / 200.0, above)


def _slaney_inverse(mel: Doubles) -> Doubles:
    return np.where(mel < 15.0, mel * 200.0 / 3.0, _KNEE * np.exp(_STEP * (mel - 15.0)))
