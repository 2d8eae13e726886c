"""Small encoders with the parts that matter to export: a front end, convolutions, a dense layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainer.encoders.base import Encoder

RATE = 8000
SECONDS = 1.0


class PowerFrames(nn.Module):
    """Log power of short frames: a front end whose floor lies far below what INT8 can hold."""

    def __init__(self) -> None:
        super().__init__()
        self.bands = nn.Linear(64, 16, bias=False)

    def forward(self, waveform: Tensor) -> Tensor:
        frames = waveform.reshape(waveform.shape[0], 125, 64)
        return torch.log(self.bands(frames) ** 2 + 1e-12).transpose(1, 2)[:, None]


class Gate(nn.Module):
    """A part that its encoder excludes by type."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.dense(x.mean(dim=(2, 3))))[:, :, None, None]


class SmallEncoder(Encoder):
    """Waveform of one second at 8 kHz to 24 numbers, seeded."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.kind = "small"
        self.sample_rate, self.window_samples, self.dim = RATE, round(RATE * SECONDS), 24
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.front_end = PowerFrames()
            self.convolution = nn.Conv2d(1, 8, 3, stride=2, padding=1)
            self.norm = nn.BatchNorm2d(8)
            self.gate = Gate()
            self.second = nn.Conv2d(8, 8, 3, stride=2, padding=1)
            self.dense = nn.Linear(32, self.dim)
        self.eval()

    def forward(self, waveform: Tensor) -> Tensor:
        x = self.front_end(waveform)
        x = torch.relu(self.norm(self.convolution(x)))
        x = torch.relu(self.second(self.gate(x)))
        y: Tensor = self.dense(x.mean(dim=3).flatten(1))
        return y

    def quantization_excludes(self) -> tuple[type[nn.Module], ...]:
        return (Gate,)
