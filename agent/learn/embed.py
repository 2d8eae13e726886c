"""Embeddings of many windows through the very code the device runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.progress import Progress

from agent.bundle.manifest import EncoderInfo
from agent.core.records import Matrix
from agent.encode.onnx import OnnxEncoder
from agent.recordings.held import forget_mapped

# Windows between two steps of the progress bar; the encoder takes them one by one.
_BATCH = 8
THREADS = 2


def embed(
    path: Path,
    info: EncoderInfo,
    waveforms: Matrix,
    *,
    title: str = "embedding",
    progress: Progress | None = None,
) -> Matrix:
    """Embed windows with an exported graph.

    Args:
        path: The graph.
        info: What it takes and gives.
        waveforms: float32, shape `(n, window_samples)`.
        title: What the progress bar calls it.
        progress: Where to show progress.

    Returns:
        float32, shape `(n, dim)`.

    Raises:
        BundleError: The graph does not run.
    """
    task = None if progress is None else progress.add_task(title, total=len(waveforms))
    result = np.empty((len(waveforms), info.dim), np.float32)
    encoder = OnnxEncoder(path, info, threads=THREADS)
    encoder.start()
    try:
        for start in range(0, len(waveforms), _BATCH):
            part = slice(start, min(start + _BATCH, len(waveforms)))
            result[part] = encoder.encode(waveforms[part])
            forget_mapped()
            if progress is not None and task is not None:
                progress.advance(task, part.stop - part.start)
    finally:
        encoder.stop()
    return result
