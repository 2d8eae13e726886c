"""What a manifest says of an encoder in torch."""

from __future__ import annotations

from typing import Literal

from agent.bundle.manifest import EncoderInfo
from trainer.encoders.base import Encoder


def encoder_info(
    encoder: Encoder, precision: Literal["int8", "float32"], opset: int
) -> EncoderInfo:
    """What the manifest says of an encoder."""
    return EncoderInfo(
        kind=encoder.kind,
        sample_rate=encoder.sample_rate,
        window_samples=encoder.window_samples,
        dim=encoder.dim,
        precision=precision,
        opset=opset,
    )
