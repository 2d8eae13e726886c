"""The shape of the average spectrum: nothing to train, nothing to download, any gain."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainer.encoders.base import Encoder
from trainer.encoders.spectrum import Spectrogram

_RATE = 16000
_FRAME = 1024  # samples, 64 ms: bins of 15.6 Hz
_HOP = 512
# A bin's floor, relative to the window's mean bin: 80 dB below it lies rounding, not sound. It is
# relative so that a quiet recording has the shape of a loud one.
_FLOOR = 1e-8
_NOTHING = 1e-20  # keeps digital silence from dividing by zero


class SpectralShape(Encoder):
    """Mean over time of the log power spectrum, less its own mean over frequency.

    The logarithm is averaged, not the power, so that a bang or a passing lorry in one frame counts
    as one frame. Without its mean, the cosine of two embeddings is the correlation of two spectra
    in dB: a gain, or a microphone moved a little, adds a constant and changes nothing. Linear
    frequency, not mel: faults show as tones and resonances anywhere, not where ears look.

    Args:
        window_seconds: Length of the waveform, seconds.
    """

    def __init__(self, *, window_seconds: float) -> None:
        super().__init__()
        self.kind = "spectral_shape"
        self.sample_rate = _RATE
        self.window_samples = round(window_seconds * _RATE)
        self.dim = _FRAME // 2 + 1
        self.front_end = _MeanLogSpectrum()

    def forward(self, waveform: Tensor) -> Tensor:
        """Turn `(batch, window_samples)` into `(batch, 513)`."""
        shape: Tensor = self.front_end(waveform)
        return shape

    def quantization_excludes(self) -> tuple[type[nn.Module], ...]:
        """Everything: it is all front end."""
        return (_MeanLogSpectrum,)


class _MeanLogSpectrum(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.spectrogram = Spectrogram(_FRAME, _HOP, power=True)

    def forward(self, waveform: Tensor) -> Tensor:
        power = self.spectrogram(waveform)
        level = power.mean(dim=(1, 2), keepdim=True) + _NOTHING
        spectrum = torch.log(power / level + _FLOOR).mean(dim=1)
        return spectrum - spectrum.mean(dim=1, keepdim=True)
