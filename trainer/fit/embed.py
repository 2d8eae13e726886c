"""Windows embedded by an encoder as trained, in float32."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from rich.progress import Progress

from agent.core.records import Matrix
from agent.recordings.held import forget_mapped
from trainer.encoders.base import Encoder

_BATCH = 16


def embed_windows(
    encoder: Encoder, waveforms: Matrix, progress: Progress | None, title: str = "rehearsing"
) -> Matrix:
    """Embed windows.

    Args:
        encoder: As trained.
        waveforms: float32 `(n, samples)`.
        progress: Where to show progress; None for nowhere.
        title: What the progress bar calls it.

    Returns:
        float32 `(n, dim)`.
    """
    result = np.empty((len(waveforms), encoder.dim), np.float32)
    task = progress.add_task(title, total=len(waveforms)) if progress else None
    starts: Sequence[int] = range(0, len(waveforms), _BATCH)
    with torch.inference_mode():
        for start in starts:
            batch = torch.from_numpy(waveforms[start : start + _BATCH])
            result[start : start + len(batch)] = encoder(batch).float().cpu().numpy()
            forget_mapped()
            if progress and task is not None:
                progress.advance(task, len(batch))
    return result
