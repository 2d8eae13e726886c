"""The shape of the average spectrum: nothing to train, nothing to download, any gain."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainer.encoders.base import Encoder
from trainer.encoders.spectrum import Spectrogram

_RATE = 16000
_FRAME = 1024  # samples, 64 ms: bins of 15.6 Hz
_HOP = 512
# A bin's floor, about -120 dBFS: below it lies rounding, not sound.
_LEAST_POWER = 1e-12


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
        # Scaled so that a full-scale sine is about 1, whatever the frame length.
        power = self.spectrogram(waveform) * (4.0 / _FRAME) ** 2
        spectrum = torch.log(power + _LEAST_POWER).mean(dim=1)
        return spectrum - spectrum.mean(dim=1, keepdim=True)
