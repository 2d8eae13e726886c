"""The spectrum that is always there, and the one of loud moments; nothing to train, any gain."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainer.encoders.base import Encoder
from trainer.encoders.spectrum import Spectrogram

_RATE = 16000
_FRAME = 256  # samples, 16 ms: short enough to tell a knock from what is between two of them
_HOP = 256
_BINS = _FRAME // 2 + 1
# Share of the frames that lie above: the median, and what only one frame in twenty reaches.
_SHARES = (0.5, 0.05)
# As in `encoders.shape`: relative to the window's mean, below lies rounding and not sound.
_FLOOR = 1e-8
_NOTHING = 1e-20


class SpectralQuantiles(Encoder):
    """Median and 95th percentile over time of the log power in each bin, each less its own mean.

    The median is deaf to whatever passes by in less than half of a window (a voice, a lorry, a
    knock next door) where a mean follows it; the upper percentile hears what knocks, rubs or
    squeals at moments. Each is a vector of its own, to be judged by itself: their cosines to
    healthy ones are correlations of spectra in dB, which a gain or a moved microphone leaves alone.

    Args:
        window_seconds: Length of the waveform, seconds.
    """

    def __init__(self, *, window_seconds: float) -> None:
        super().__init__()
        self.kind = "spectral_quantiles"
        self.sample_rate = _RATE
        self.window_samples = round(window_seconds * _RATE)
        self.dim = len(_SHARES) * _BINS
        self.front_end = _Quantiles(self.window_samples)

    def forward(self, waveform: Tensor) -> Tensor:
        """Turn `(batch, window_samples)` into `(batch, 258)`."""
        found: Tensor = self.front_end(waveform)
        return found

    def quantization_excludes(self) -> tuple[type[nn.Module], ...]:
        """Everything: it is all front end."""
        return (_Quantiles,)


class _Quantiles(nn.Module):
    def __init__(self, window_samples: int) -> None:
        super().__init__()
        self.spectrogram = Spectrogram(_FRAME, _HOP, power=True)
        frames = 1 + (window_samples - _FRAME) // _HOP
        # Places from the loudest frame down; order statistics, not interpolated.
        self.places = tuple(max(0, min(frames - 1, int(share * frames))) for share in _SHARES)

    def forward(self, waveform: Tensor) -> Tensor:
        power = self.spectrogram(waveform)
        mean = power.mean(dim=(1, 2), keepdim=True) + _NOTHING
        # The logarithm keeps the order: only what is chosen goes through it.
        loudest = torch.topk(power, max(self.places) + 1, dim=1, sorted=True).values
        chosen = torch.stack([loudest[:, place] for place in self.places], dim=1)
        level = torch.log(chosen / mean + _FLOOR)
        return (level - level.mean(dim=2, keepdim=True)).flatten(1)
