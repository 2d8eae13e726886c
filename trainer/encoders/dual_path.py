"""The dual-path CNN: one branch sees how the sound changes, the other its exact frequencies.

Wilkinghoff, "Self-supervised learning for anomalous sound detection", ICASSP 2024, and the design
of its two branches in "Design choices for learning embeddings from auxiliary tasks for domain
generalization in anomalous sound detection", ICASSP 2023. No convolution or dense layer has a bias.

Deviations: each branch's 128 values are scaled to unit length before they are joined, so that the
cosine of two embeddings is the mean of the branches' cosines and neither can drown the other; and
the whole-signal spectrum passes a batch norm of one channel, so that squeeze and excitation work
at any recording gain.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trainer.encoders.base import Encoder
from trainer.encoders.spectrum import Spectrogram, Spectrum

BRANCH_DIM = 128
_RATE = 16000
_FRAME = 1024
_HOP = 512
_BINS = _FRAME // 2 + 1
_REDUCTION = 16  # squeeze and excitation
_STAGES = (16, 32, 64, 128)


class DualPath(Encoder):
    """Spectrogram branch and spectrum branch, 128 values each.

    Args:
        window_seconds: Length of the waveform, seconds; at least 1.
        front_end: Front end shared with other members of an ensemble; its own when None.
    """

    def __init__(self, *, window_seconds: float, front_end: DualFrontEnd | None = None) -> None:
        super().__init__()
        self.kind = "dual_path"
        self.sample_rate = _RATE
        self.window_samples = round(window_seconds * _RATE)
        self.dim = 2 * BRANCH_DIM
        self.front_end = front_end or DualFrontEnd(self.window_samples)
        self.spectrogram = _SpectrogramBranch()
        self.spectrum = _SpectrumBranch(self.front_end.bins)

    def forward(self, waveform: Tensor) -> Tensor:
        """Turn `(batch, window_samples)` into `(batch, 256)`, each half of unit length."""
        return torch.cat(self.branches(waveform), dim=1)

    def branches(self, waveform: Tensor) -> tuple[Tensor, ...]:
        """The two halves, `(batch, 128)` each."""
        return self.embed(*self.front_end(waveform))

    def embed(self, spectrogram: Tensor, spectrum: Tensor) -> tuple[Tensor, ...]:
        """The two halves, from what the front end gives."""
        parts = (self.spectrogram(spectrogram), self.spectrum(spectrum))
        return tuple(nn.functional.normalize(part, dim=1) for part in parts)


class DualPathEnsemble(Encoder):
    """Independently seeded dual-path CNNs, their embeddings side by side, over one front end.

    Args:
        window_seconds: Length of the waveform, seconds.
        members: How many.
    """

    def __init__(self, *, window_seconds: float, members: int) -> None:
        super().__init__()
        self.kind = "dual_path"
        self.sample_rate = _RATE
        self.window_samples = round(window_seconds * _RATE)
        self.dim = 2 * BRANCH_DIM * members
        self.front_end = DualFrontEnd(self.window_samples)
        self.models = nn.ModuleList(
            DualPath(window_seconds=window_seconds, front_end=self.front_end)
            for _ in range(members)
        )

    def forward(self, waveform: Tensor) -> Tensor:
        """Turn `(batch, window_samples)` into `(batch, 256 * members)`."""
        seen = self.front_end(waveform)
        parts: list[Tensor] = []
        for model in self.models:
            assert isinstance(model, DualPath)
            parts.extend(model.embed(*seen))
        return torch.cat(parts, dim=1)

    def members(self) -> Sequence[Encoder]:
        """The models."""
        return [model for model in self.models if isinstance(model, Encoder)]


class DualFrontEnd(nn.Module):
    """Waveform to magnitude spectrogram (temporal mean removed) and whole-signal spectrum.

    Attributes:
        bins: Frequencies of the whole-signal spectrum.
    """

    def __init__(self, window_samples: int) -> None:
        super().__init__()
        self.frames = Spectrogram(_FRAME, _HOP)
        self.whole = Spectrum(window_samples)
        self.bins = self.whole.bins

    def forward(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """Turn `(batch, n)` into `(batch, 1, 513, frames)` and `(batch, 1, bins)`."""
        frames: Tensor = self.frames(waveform)
        spectrogram = (frames - frames.mean(dim=1, keepdim=True)).transpose(1, 2)
        whole: Tensor = self.whole(waveform)
        return spectrogram[:, None], whole[:, None]


class _SpectrogramBranch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.over_frequency = nn.BatchNorm1d(_BINS)
        self.stem = nn.Sequential(
            nn.Conv2d(1, _STAGES[0], 7, 2, padding=3, bias=False),
            nn.BatchNorm2d(_STAGES[0]),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, padding=1),
        )
        stages: list[nn.Module] = []
        before, rows = _STAGES[0], _halved(_halved(_BINS))
        for index, width in enumerate(_STAGES):
            stages += [_Residual(before, width, 2 if index else 1), _Residual(width, width, 1)]
            rows = _halved(rows) if index else rows
            before = width
        self.stages = nn.Sequential(*stages)
        self.norm = nn.BatchNorm1d(before * rows)
        self.dense = nn.Linear(before * rows, BRANCH_DIM, bias=False)

    def forward(self, spectrogram: Tensor) -> Tensor:
        x = self.over_frequency(spectrogram[:, 0])[:, None]
        x = self.stages(self.stem(x)).amax(dim=3)
        embedding: Tensor = self.dense(self.norm(x.flatten(1)))
        return embedding


def _halved(size: int) -> int:
    """Size after a stride of 2 with centred padding."""
    return (size + 1) // 2


class _Residual(nn.Module):
    """Pre-activation residual block with squeeze and excitation."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(before),
            nn.ReLU(),
            nn.Conv2d(before, width, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
        )
        self.excite = _Excite(width)
        self.shortcut = (
            nn.Identity()
            if stride == 1 and before == width
            else nn.Conv2d(before, width, 1, stride, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.excite(self.body(x))
        shortcut: Tensor = self.shortcut(x)
        return y + shortcut


class _Excite(nn.Module):
    """Squeeze and excitation over channels, of images or sequences."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = max(1, width // _REDUCTION)
        self.squeeze = nn.Linear(width, inner, bias=False)
        self.excite = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate = torch.sigmoid(self.excite(torch.relu(self.squeeze(x.flatten(2).mean(dim=2)))))
        return x * gate.reshape(x.shape[0], x.shape[1], *([1] * (x.dim() - 2)))


class _SpectrumBranch(nn.Module):
    def __init__(self, bins: int) -> None:
        super().__init__()
        self.level = nn.BatchNorm1d(1)
        layers: list[nn.Module] = []
        before, length = 1, bins
        for kernel, stride in ((256, 64), (64, 32), (16, 4)):
            layers += [
                nn.Conv1d(before, BRANCH_DIM, kernel, stride, padding=kernel // 2, bias=False),
                nn.ReLU(),
                _Excite(BRANCH_DIM),
            ]
            before = BRANCH_DIM
            length = (length + 2 * (kernel // 2) - kernel) // stride + 1
        self.convolutions = nn.Sequential(*layers)
        dense: list[nn.Module] = []
        width = BRANCH_DIM * length
        for _ in range(4):
            dense += [
                nn.Linear(width, BRANCH_DIM, bias=False),
                nn.BatchNorm1d(BRANCH_DIM),
                nn.ReLU(),
            ]
            width = BRANCH_DIM
        self.dense = nn.Sequential(*dense, nn.Linear(width, BRANCH_DIM, bias=False))

    def forward(self, spectrum: Tensor) -> Tensor:
        embedding: Tensor = self.dense(self.convolutions(self.level(spectrum)).flatten(1))
        return embedding
