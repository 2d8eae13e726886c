"""A waveform as it would be were every window equally loud."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# About the root mean square of AudioSet's clips, which the networks were trained on.
EVEN_RMS = 0.05
_NOTHING = 1e-12  # power of digital silence


class EvenWaveform(nn.Module):
    """Waveform `(batch, n)` less its mean, brought to a set root mean square; silence stays."""

    def forward(self, waveform: Tensor) -> Tensor:
        swing = waveform - waveform.mean(dim=1, keepdim=True)
        power = (swing * swing).mean(dim=1, keepdim=True)
        return swing * (EVEN_RMS / torch.sqrt(power + _NOTHING))
