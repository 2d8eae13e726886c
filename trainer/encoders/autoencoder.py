"""The official DCASE Task 2 baseline: a dense autoencoder on five frames of log-mel spectrum.

Harada et al., "First-shot anomaly detection for machine condition monitoring: a domain
generalization baseline", EUSIPCO 2023. Both of its scores, and the textbook form of the second.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from agent.core.errors import ConfigError
from trainer.encoders.reconstructing import (
    HOP,
    MELS,
    RATE,
    Autoencoder,
    LogMelFrames,
    frames_of,
)

FEATURES = ("mse", "mahala", "mahala_textbook")
STACKED = 5  # frames in one vector
_HIDDEN = 128
_BOTTLENECK = 8
_DEPTH = 4
_TARGET = "target"
# Added to a covariance's diagonal, relative to its mean: rounding, not regularisation.
_RIDGE = 1e-6
_CHUNK = 64  # windows whose residuals are in memory at once


class DenseAutoencoder(Autoencoder):
    """640-128-128-128-128-8-128-128-128-128-640.

    The embedding is `[value, mean residual of each mel band (128)]`; the value is

    - `mse`: squared error, mean over frames and dimensions;
    - `mahala`: r^T P r / 128 of the mean residual r of all 128-value blocks. The official code
      averages the full matrix of d_i^T P d_j over pairs of blocks, which is this, and not
    - `mahala_textbook`: the mean of d_i^T P d_i / 128 over blocks.

    P is the inverse covariance of the blocks' residuals, one for the source and one for the target
    recordings; the smaller value counts. Dividing by 128 changes no ranking and makes the usual
    textbook value 1.

    Args:
        window_seconds: Length of the waveform, seconds.
        features: Which value: `mse` ('' means it), `mahala` or `mahala_textbook`.

    Raises:
        ConfigError: The features are unknown, or the window is shorter than five frames.
    """

    def __init__(self, *, window_seconds: float, features: str = "") -> None:
        super().__init__()
        self.kind = "ae"
        self.features = features or FEATURES[0]
        if self.features not in FEATURES:
            raise ConfigError(
                f"ae has no features '{features}'",
                where="encoder.features",
                remedy=f"Choose one of {', '.join(FEATURES)}.",
            )
        self.sample_rate = RATE
        self.window_samples = round(window_seconds * RATE)
        self.places = frames_of(self.window_samples) - STACKED + 1
        if self.places < 1:
            raise ConfigError(
                f"ae needs windows of five frames (0.2 s), not {window_seconds} s",
                where="window.seconds",
                remedy="Lengthen the window.",
            )
        self.place_seconds = HOP / RATE
        self.span_seconds = (STACKED + 1) * HOP / RATE
        self.dim = 1 + MELS
        self.code_dim = _BOTTLENECK
        self.front_end = LogMelFrames()
        inner = [_HIDDEN] * _DEPTH
        self.encoder = _dense([STACKED * MELS, *inner, _BOTTLENECK])
        self.decoder = _dense([_BOTTLENECK, *inner])
        self.last = nn.Linear(_HIDDEN, STACKED * MELS)
        self.judge = _Value(self.features)

    def hear(self, waveform: Tensor) -> Tensor:
        """Log-mel frames, `(batch, frames, 128)`, dB."""
        heard: Tensor = self.front_end(waveform)
        return heard

    def examples(self, heard: Tensor, windows: Tensor, places: Tensor) -> Tensor:
        """Five frames from each place, `(n, 640)`."""
        steps = torch.arange(STACKED, device=heard.device)
        return heard[windows[:, None], places[:, None] + steps].flatten(1)

    def reconstruct(self, examples: Tensor) -> tuple[Tensor, Tensor]:
        """Restore `(n, 640)`."""
        code: Tensor = self.encoder(examples)
        restored: Tensor = self.last(self.decoder(code))
        return restored, code

    def residuals(self, heard: Tensor) -> Tensor:
        """Input minus restored input of every vector, `(batch, places * 5, 128)`."""
        parts = [heard[:, i : i + self.places] for i in range(STACKED)]
        vectors = torch.cat(parts, dim=2)
        restored, _ = self.reconstruct(vectors.reshape(-1, STACKED * MELS))
        left = vectors - restored.reshape(-1, self.places, STACKED * MELS)
        return left.reshape(-1, self.places * STACKED, MELS)

    def forward(self, waveform: Tensor) -> Tensor:
        """Turn `(batch, window_samples)` into `(batch, 129)`."""
        judged: Tensor = self.judge(self.residuals(self.hear(waveform)))
        return judged

    @torch.no_grad()
    def settle(self, heard: Tensor, domains: Sequence[str]) -> None:
        """Measure the covariance of the residuals of each domain."""
        if self.judge.whiten is None:
            return
        target = torch.tensor([domain == _TARGET for domain in domains])
        groups = [heard[~target], heard[target]]
        present = [group for group in groups if len(group)]
        # With one domain only, it stands for both: the smaller of two equal values is the value.
        found = [self._whitening(group) for group in present]
        self.judge.whiten.copy_(torch.stack([found[0], found[-1]]))

    def _whitening(self, heard: Tensor) -> Tensor:
        """W with W W^T the inverse covariance of the residual blocks, `(128, 128)`."""
        total = torch.zeros(MELS, dtype=torch.float64)
        square = torch.zeros(MELS, MELS, dtype=torch.float64)
        count = 0
        for part in torch.split(heard, _CHUNK):
            blocks = self.residuals(part).flatten(0, 1).double()
            total += blocks.sum(dim=0)
            square += blocks.T @ blocks
            count += len(blocks)
        mean = total / count
        covariance = square / count - torch.outer(mean, mean)
        ridge = _RIDGE * float(covariance.diagonal().mean().clamp_min(1e-12))
        lower = torch.linalg.cholesky(covariance + ridge * torch.eye(MELS, dtype=torch.float64))
        # P = L^-T L^-1, so a row vector times L^-T has length sqrt(d^T P d).
        identity = torch.eye(MELS, dtype=torch.float64)
        whiten: Tensor = torch.linalg.solve_triangular(lower, identity, upper=False).T.float()
        return whiten

    def quantization_excludes(self) -> tuple[type[nn.Module], ...]:
        """The value: its few operations are what the alarm hangs on."""
        return (_Value,)


class _Value(nn.Module):
    """Residual blocks `(batch, n, 128)` to `[value, mean residual]`, `(batch, 129)`."""

    def __init__(self, features: str) -> None:
        super().__init__()
        self.textbook = features == "mahala_textbook"
        self.whiten: Tensor | None
        start = None if features == "mse" else torch.eye(MELS).repeat(2, 1, 1)
        self.register_buffer("whiten", start)

    def forward(self, blocks: Tensor) -> Tensor:
        mean = blocks.mean(dim=1)
        if self.whiten is None:
            value = (blocks * blocks).mean(dim=(1, 2))
        elif self.textbook:
            white = [torch.matmul(blocks, matrix) for matrix in self.whiten.unbind(0)]
            values = [(w * w).mean(dim=(1, 2)) for w in white]
            value = torch.minimum(values[0], values[1])
        else:
            white = [torch.matmul(mean, matrix) for matrix in self.whiten.unbind(0)]
            values = [(w * w).mean(dim=1) for w in white]
            value = torch.minimum(values[0], values[1])
        return torch.cat([value[:, None], mean], dim=1)


def _dense(widths: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [
            nn.Linear(before, after),
            nn.BatchNorm1d(after, momentum=0.01, eps=1e-3),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers)
