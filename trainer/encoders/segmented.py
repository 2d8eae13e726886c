"""An encoder that hears a window piece by piece, for scorers that judge many vectors of one."""

from __future__ import annotations

from torch import Tensor

from trainer.encoders.base import Encoder


class Segmented(Encoder):
    """Embeds equal pieces of a window, side by side in the embedding in order of time.

    Args:
        encoder: Takes one piece.
        segments: Pieces of a window.
    """

    def __init__(self, encoder: Encoder, segments: int) -> None:
        super().__init__()
        self.kind = encoder.kind
        self.sample_rate = encoder.sample_rate
        self.window_samples = encoder.window_samples * segments
        self.dim = encoder.dim * segments
        self.encoder = encoder

    def forward(self, waveform: Tensor) -> Tensor:
        """Embed `(batch, window_samples)` as `(batch, segments * dim of a piece)`."""
        pieces = waveform.reshape(-1, self.encoder.window_samples)
        embedded: Tensor = self.encoder(pieces)
        return embedded.reshape(-1, self.dim)

    def quantization_excludes(self) -> tuple[type, ...]:
        """What the encoder itself keeps."""
        return self.encoder.quantization_excludes()
