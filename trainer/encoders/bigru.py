"""CBFusion's first half: a convolutional, recurrent, attentive autoencoder of the spectrogram.

Report 000 gives the kinds of layers (convolutions, bidirectional GRU, attention, mean squared
error of a spectrogram) and not their sizes; those here are ours, chosen so that one window costs
about what mn04's does.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from agent.core.errors import ConfigError
from trainer.encoders.reconstructing import (
    FRAME,
    HOP,
    MELS,
    RATE,
    Autoencoder,
    LogMelFrames,
    Standard,
    frames_of,
)

_CHANNELS = (16, 32, 32)
_ROWS = MELS // 2 ** len(_CHANNELS)
_GRU = 64  # a direction
_CODE = 2 * _GRU
_HEADS = 4
_FEWEST_FRAMES = 8


class BigruAutoencoder(Autoencoder):
    """Three strided convolutions, a bidirectional GRU, self-attention, and back.

    The embedding is `[mean squared error, mean residual of each mel band (128)]`, in units of each
    band's own healthy deviation.

    Args:
        window_seconds: Length of the waveform, seconds.

    Raises:
        ConfigError: The window is shorter than eight frames.
    """

    def __init__(self, *, window_seconds: float) -> None:
        super().__init__()
        self.kind = "bigru"
        self.sample_rate = RATE
        self.window_samples = round(window_seconds * RATE)
        self.frames = frames_of(self.window_samples)
        if self.frames < _FEWEST_FRAMES:
            least = (FRAME + (_FEWEST_FRAMES - 1) * HOP) / RATE
            raise ConfigError(
                f"bigru needs windows of at least {least:.1f} s, not {window_seconds} s",
                where="window.seconds",
                remedy="Lengthen the window.",
            )
        self.span_seconds = window_seconds
        self.dim = 1 + MELS
        self.code_dim = _CODE
        self.front_end = LogMelFrames()
        self.standard = Standard(MELS)
        down: list[nn.Module] = []
        before = 1
        for width in _CHANNELS:
            down += [nn.Conv2d(before, width, 3, 2, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
            before = width
        self.down = nn.Sequential(*down)
        self.gru = nn.GRU(before * _ROWS, _GRU, batch_first=True, bidirectional=True)
        self.attention = nn.MultiheadAttention(_CODE, _HEADS, batch_first=True)
        self.norm = nn.LayerNorm(_CODE)
        self.spread = nn.Linear(_CODE, before * _ROWS)
        up: list[nn.Module] = []
        for width in (*_CHANNELS[-2::-1], 1):
            up += [nn.ConvTranspose2d(before, width, 4, 2, padding=1)]
            if width > 1:
                up += [nn.BatchNorm2d(width), nn.ReLU()]
            before = width
        self.up = nn.Sequential(*up)

    def hear(self, waveform: Tensor) -> Tensor:
        """Log-mel frames, `(batch, frames, 128)`, dB."""
        heard: Tensor = self.front_end(waveform)
        return heard

    def prepare(self, heard: Tensor) -> None:
        """Measure each band's level and deviation."""
        self.standard.fit(heard)

    def examples(self, heard: Tensor, windows: Tensor, places: Tensor) -> Tensor:
        """Whole windows, standardised, `(n, frames, 128)`."""
        standard: Tensor = self.standard(super().examples(heard, windows, places))
        return standard

    def reconstruct(self, examples: Tensor) -> tuple[Tensor, Tensor]:
        """Restore `(n, frames, 128)`."""
        seen = self.down(examples[:, None])  # (n, channels, steps, rows)
        channels, steps = seen.shape[1], seen.shape[2]
        steps_first = seen.transpose(1, 2).reshape(-1, steps, channels * _ROWS)
        heard, _ = self.gru(steps_first)
        attended, _ = self.attention(heard, heard, heard, need_weights=False)
        code = self.norm(heard + attended)
        spread = torch.relu(self.spread(code)).reshape(-1, steps, channels, _ROWS)
        # Every halving rounded up, so doubling gives at least as many frames as there were.
        restored = self.up(spread.transpose(1, 2))[:, 0, : self.frames]
        return restored, code.mean(dim=1)

    def forward(self, waveform: Tensor) -> Tensor:
        """Turn `(batch, window_samples)` into `(batch, 129)`."""
        standard = self.standard(self.hear(waveform))
        restored, _ = self.reconstruct(standard)
        return errors(standard - restored)

    def quantization_excludes(self) -> tuple[type[nn.Module], ...]:
        """What would lose most and weighs least: the GRU's state and the attention's softmax."""
        return (nn.GRU, nn.MultiheadAttention, Standard)


def errors(residual: Tensor) -> Tensor:
    """`[mean squared error, mean residual of each band]` of `(batch, frames, bands)`."""
    value = (residual * residual).mean(dim=(1, 2))
    return torch.cat([value[:, None], residual.mean(dim=1)], dim=1)
