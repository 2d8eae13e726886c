"""Windows embedded by an encoder as trained, in float32."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from agent.core.records import Matrix
from agent.recordings.held import forget_mapped
from trainer.encoders.base import Encoder

_BATCH = 16


def embed_windows(
    encoder: Encoder,
    waveforms: Matrix,
    advance: Callable[..., None],
    *,
    device: str = "cpu",
    batch: int = _BATCH,
) -> Matrix:
    """Embed windows.

    Args:
        encoder: As trained.
        waveforms: float32 `(n, samples)`.
        advance: Told how many more were embedded, see `stage`.
        device: Where the encoder is.
        batch: Windows at a time.

    Returns:
        float32 `(n, dim)`.
    """
    result = np.empty((len(waveforms), encoder.dim), np.float32)
    with torch.inference_mode():
        for start in range(0, len(waveforms), batch):
            part = torch.from_numpy(waveforms[start : start + batch]).to(device)
            result[start : start + len(part)] = encoder(part).float().cpu().numpy()
            forget_mapped()
            advance(len(part))
    return result
