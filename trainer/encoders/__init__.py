"""Encoders: a waveform batch to an embedding batch, front end included."""

from trainer.encoders.base import Encoder
from trainer.encoders.registry import build_encoder

__all__ = ["Encoder", "build_encoder"]
