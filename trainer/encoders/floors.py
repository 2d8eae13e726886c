"""Two floors: what any detector has to beat before its embedding means something."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainer.encoders.base import Encoder
from trainer.encoders.spectrum import Spectrogram, mel_filters

_MELS = 128
_FRAME = 1024  # samples, 64 ms
_HOP = 512
# Levels at or below these (about -100 dBFS) count as silence: a floor must not judge rounding.
_LEAST_POWER = 1e-10


class Loudness(Encoder):
    """Log root mean square of the window: one number, in nepers relative to full scale.

    With one dimension every cosine is 1 or -1, so it has to be scored with the euclidean metric.
    """

    def __init__(self, *, window_seconds: float) -> None:
        super().__init__()
        self.kind = "loudness"
        self.sample_rate = 16000
        self.window_samples = round(window_seconds * self.sample_rate)
        self.dim = 1
        self.front_end = _LogRms()

    def forward(self, waveform: Tensor) -> Tensor:
        """Turn `(batch, window_samples)` into `(batch, 1)`."""
        level: Tensor = self.front_end(waveform)
        return level

    def quantization_excludes(self) -> tuple[type[nn.Module], ...]:
        """Everything: a logarithm of a sum doesn't survive 8 bits."""
        return (_LogRms,)


class _LogRms(nn.Module):
    def forward(self, waveform: Tensor) -> Tensor:
        power = (waveform * waveform).mean(dim=-1, keepdim=True)
        return 0.5 * torch.log(power + _LEAST_POWER)


class LogMel(Encoder):
    """Mean and standard deviation over time of 128 log-mel bands (16 kHz, 1024/512, power).

    Distances between log spectra are meant to be euclidean (log-spectral distance); the cosine of
    two uncentred log spectra mostly measures their common level.
    """

    def __init__(self, *, window_seconds: float) -> None:
        super().__init__()
        self.kind = "log_mel"
        self.sample_rate = 16000
        self.window_samples = round(window_seconds * self.sample_rate)
        self.dim = 2 * _MELS
        self.front_end = MelStatistics(self.sample_rate)

    def forward(self, waveform: Tensor) -> Tensor:
        """Turn `(batch, window_samples)` into `(batch, 256)`: means, then standard deviations."""
        statistics: Tensor = self.front_end(waveform)
        return statistics

    def quantization_excludes(self) -> tuple[type[nn.Module], ...]:
        """Everything: it is all front end."""
        return (MelStatistics,)


class MelStatistics(nn.Module):
    """`(batch, n)` at `rate` Hz to mean and deviation of 128 log-mel bands, `(batch, 256)`."""

    def __init__(self, rate: int) -> None:
        super().__init__()
        self.spectrogram = Spectrogram(_FRAME, _HOP, power=True)
        filters = mel_filters(rate=rate, size=_FRAME, mels=_MELS, low=0.0, high=rate / 2)
        self.filters: Tensor
        self.register_buffer("filters", filters, persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        # Scaled so that a full-scale sine is about 1, whatever the frame length.
        mel = torch.matmul(self.spectrogram(waveform) * (4.0 / _FRAME) ** 2, self.filters)
        log_mel = torch.log(mel + _LEAST_POWER)
        mean = log_mel.mean(dim=1)
        centred = log_mel - mean[:, None]
        # The floor under the root keeps digital silence differentiable.
        deviation = torch.sqrt((centred * centred).mean(dim=1) + 1e-12)
        return torch.cat([mean, deviation], dim=1)
