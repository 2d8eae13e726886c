"""What every autoencoder has in common: it hears, compresses, restores, tells the difference."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trainer.encoders.base import Encoder
from trainer.encoders.spectrum import Spectrogram, mel_filters

FRAME = 1024  # samples, 64 ms at 16 kHz
HOP = 512
MELS = 128
RATE = 16000
_LEAST = 2.220446e-16  # float64's epsilon, the official baseline's floor under the logarithm


class Autoencoder(Encoder):
    """An encoder whose graph restores its own input and gives the error as embedding columns.

    `trainer.fit.reconstruct` trains any of them: it hears every window once (`hear`), keeps that in
    memory, and draws training examples from it. A window holds `places` examples, `place_seconds`
    apart and `span_seconds` long (one, the whole window, unless a subclass says otherwise).

    The first embedding column is the anomaly value, larger for stranger sound; the others say where
    it comes from (the mean residual of each band), which is what drift and INT8 are judged by.

    Attributes:
        places: Training examples in one window.
        place_seconds: Time from one to the next, seconds; 0 when there is one.
        span_seconds: Length of one, seconds.
        code_dim: Length of the compressed form that `reconstruct` gives.
    """

    places: int = 1
    place_seconds: float = 0.0
    span_seconds: float = 0.0
    code_dim: int

    @abstractmethod
    def hear(self, waveform: Tensor) -> Tensor:
        """What the front end makes of `(batch, window_samples)`: `(batch, frames, bands)`."""

    @abstractmethod
    def reconstruct(self, examples: Tensor) -> tuple[Tensor, Tensor]:
        """Restore examples.

        Args:
            examples: As `examples` gives them, first axis the batch.

        Returns:
            The restored examples, of the same shape, and their compressed form
            `(batch, code_dim)`.
        """

    def examples(self, heard: Tensor, windows: Tensor, places: Tensor) -> Tensor:
        """Training examples.

        Args:
            heard: What `hear` gave of all windows.
            windows: Which windows, int64 `(n,)`.
            places: Which example of each, int64 `(n,)`.

        Returns:
            Shape `(n, ...)`.
        """
        del places  # one a window
        return heard[windows]

    def prepare(self, heard: Tensor) -> None:
        """Fix, before training, what follows from the healthy sound alone (a scale)."""
        del heard

    def settle(self, heard: Tensor, domains: Sequence[str]) -> None:
        """Fix, after training, what follows from the healthy sound's residuals (a covariance).

        Args:
            heard: What `hear` gave of all windows.
            domains: Domain of each window.
        """
        del heard, domains


class LogMelFrames(nn.Module):
    """Log-mel spectrogram in dB as the official baseline takes it, `(batch, n)` to
    `(batch, frames, 128)`: 1024/512 periodic Hann, power 2, filters of equal area.

    Frames are not centred: a window is cut out of running sound, so there is nothing to pad.
    """

    def __init__(self) -> None:
        super().__init__()
        self.spectrogram = Spectrogram(FRAME, HOP, power=True)
        filters = mel_filters(rate=RATE, size=FRAME, mels=MELS, low=0.0, high=RATE / 2, area=True)
        self.filters: Tensor
        self.register_buffer("filters", filters, persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        mel = torch.matmul(self.spectrogram(waveform), self.filters)
        return 10.0 * torch.log10(mel.clamp_min(_LEAST))


class Standard(nn.Module):
    """Mean and deviation of each band over the healthy sound, fixed before training.

    Args:
        bands: Bands, the last axis of what it is given.
    """

    def __init__(self, bands: int) -> None:
        super().__init__()
        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("mean", torch.zeros(bands))
        self.register_buffer("deviation", torch.ones(bands))

    def fit(self, heard: Tensor) -> None:
        """Measure them over `(n, frames, bands)`."""
        flat = heard.flatten(0, 1)
        self.mean.copy_(flat.mean(dim=0))
        # A band that never changes (no sound reaches it) must not divide by nothing.
        self.deviation.copy_(flat.std(dim=0).clamp_min(1e-3))

    def forward(self, heard: Tensor) -> Tensor:
        return (heard - self.mean) / self.deviation


def frames_of(window_samples: int) -> int:
    """Frames of a window, uncentred."""
    return (window_samples - FRAME) // HOP + 1
