"""Report 004's ACAE: an attentive convolutional autoencoder of short-time spectra averaged over
time windows, trained to restore them and to tell operating conditions apart (noisy-ArcMix).

The report gives the kinds of layers, the averaging and the losses, not sizes; those here are ours.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from agent.core.errors import ConfigError
from trainer.encoders.bigru import errors
from trainer.encoders.reconstructing import FRAME, HOP, RATE, Autoencoder, Standard, frames_of
from trainer.encoders.spectrum import Spectrogram

FEATURES = ("latent", "mse")
_BINS = FRAME // 2 + 1
_AVERAGED_SECONDS = 0.5
_CHANNELS = (16, 32, 32)
_POOL = 4
_CODE = 64
_HEADS = 4
_LEAST_POWER = 1e-8  # of a frame, about -100 dBFS: quieter is rounding


class AttentiveAutoencoder(Autoencoder):
    """Convolutions and pooling along frequency, multi-head attention along time, and back.

    The embedding is the compressed form (64 values, mean over time), for the covering-volume score,
    or `[mean squared error, mean residual of each bin (513)]` in healthy deviations.

    Args:
        window_seconds: Length of the waveform, seconds.
        features: `latent` ('' means it) or `mse`.

    Raises:
        ConfigError: The features are unknown, or the window is shorter than a second.
    """

    def __init__(self, *, window_seconds: float, features: str = "") -> None:
        super().__init__()
        self.kind = "acae"
        self.features = features or FEATURES[0]
        if self.features not in FEATURES:
            raise ConfigError(
                f"acae has no features '{features}'",
                where="encoder.features",
                remedy=f"Choose one of {', '.join(FEATURES)}.",
            )
        if window_seconds < 2 * _AVERAGED_SECONDS:
            raise ConfigError(
                f"acae needs windows of at least {2 * _AVERAGED_SECONDS:g} s, not "
                f"{window_seconds} s",
                where="window.seconds",
                remedy="Lengthen the window.",
            )
        self.sample_rate = RATE
        self.window_samples = round(window_seconds * RATE)
        self.span_seconds = window_seconds
        self.code_dim = _CODE
        self.dim = _CODE if self.features == "latent" else 1 + _BINS
        self.front_end = _AveragedSpectra(self.window_samples)
        self.standard = Standard(_BINS)
        down: list[nn.Module] = []
        before, rows = 1, _BINS
        for width in _CHANNELS:
            down += [
                nn.Conv2d(before, width, (3, 7), padding=(1, 3)),
                nn.BatchNorm2d(width),
                nn.ReLU(),
                nn.MaxPool2d((1, _POOL), ceil_mode=True),
            ]
            before, rows = width, math.ceil(rows / _POOL)
        self.rows = rows
        self.down = nn.Sequential(*down)
        self.squeeze = nn.Linear(before * rows, _CODE)
        self.attention = nn.MultiheadAttention(_CODE, _HEADS, batch_first=True)
        self.norm = nn.LayerNorm(_CODE)
        self.spread = nn.Linear(_CODE, before * rows)
        up: list[nn.Module] = []
        for width in (*_CHANNELS[-2::-1], 1):
            up += [nn.ConvTranspose2d(before, width, (3, _POOL), (1, _POOL), padding=(1, 0))]
            if width > 1:
                up += [nn.BatchNorm2d(width), nn.ReLU()]
            before = width
        self.up = nn.Sequential(*up)

    def hear(self, waveform: Tensor) -> Tensor:
        """Averaged log spectra, `(batch, steps, 513)`."""
        heard: Tensor = self.front_end(waveform)
        return heard

    def prepare(self, heard: Tensor) -> None:
        """Measure each bin's level and deviation."""
        self.standard.fit(heard)

    def examples(self, heard: Tensor, windows: Tensor, places: Tensor) -> Tensor:
        """Whole windows, standardised, `(n, steps, 513)`."""
        standard: Tensor = self.standard(super().examples(heard, windows, places))
        return standard

    def _compress(self, standard: Tensor) -> Tensor:
        seen = self.down(standard[:, None])  # (n, channels, steps, rows)
        channels, steps = seen.shape[1], seen.shape[2]
        steps_first = self.squeeze(seen.transpose(1, 2).reshape(-1, steps, channels * self.rows))
        attended, _ = self.attention(steps_first, steps_first, steps_first, need_weights=False)
        code: Tensor = self.norm(steps_first + attended)
        return code

    def reconstruct(self, examples: Tensor) -> tuple[Tensor, Tensor]:
        """Restore `(n, steps, 513)`."""
        code = self._compress(examples)
        spread = torch.relu(self.spread(code))
        spread = spread.reshape(-1, code.shape[1], _CHANNELS[-1], self.rows)
        restored = self.up(spread.transpose(1, 2))[:, 0, :, :_BINS]
        return restored, code.mean(dim=1)

    def forward(self, waveform: Tensor) -> Tensor:
        """Turn `(batch, window_samples)` into `(batch, dim)`."""
        standard = self.standard(self.hear(waveform))
        if self.features == "latent":
            return self._compress(standard).mean(dim=1)
        restored, _ = self.reconstruct(standard)
        return errors(standard - restored)

    def quantization_excludes(self) -> tuple[type[nn.Module], ...]:
        """Attention weighs little, and its softmax is what 8 bits hurt most."""
        return (nn.MultiheadAttention, Standard)


class _AveragedSpectra(nn.Module):
    """`(batch, n)` to the log of power spectra averaged over half-second stretches,
    `(batch, steps, 513)`.
    """

    def __init__(self, window_samples: int) -> None:
        super().__init__()
        self.spectrogram = Spectrogram(FRAME, HOP, power=True)
        frames = frames_of(window_samples)
        steps = max(2, round(window_samples / RATE / _AVERAGED_SECONDS))
        # Every frame is in exactly one stretch, whatever the window's length.
        stretch = torch.arange(frames) * steps // frames
        average = (stretch == torch.arange(steps)[:, None]).float()
        self.average: Tensor
        self.register_buffer("average", average / average.sum(1, keepdim=True), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        power = torch.matmul(self.average, self.spectrogram(waveform))
        return torch.log(power + _LEAST_POWER)
