"""Embeddings of many windows through the very code the device runs, each computed once."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np
from rich.progress import Progress

from agent.bundle.manifest import EncoderInfo
from agent.core.cores import usable_cores
from agent.core.progress import stage
from agent.core.records import Matrix
from agent.encode.embedding_cache import EmbeddingCache, graph_name, window_keys
from agent.encode.onnx import OnnxEncoder
from agent.recordings.held import forget_mapped

# Windows asked for, computed and kept together.
_AT_ONCE = 64
# Of as many windows as this at once, each on one thread: more would take their memory for nothing.
_MOST_WORKERS = 8


class Embedder(Protocol):
    """Computes embeddings of windows, with the arguments of `embed`."""

    def __call__(
        self,
        path: Path,
        info: EncoderInfo,
        waveforms: Matrix,
        /,
        *,
        title: str = ...,
        progress: Progress | None = ...,
    ) -> Matrix: ...


def embed(
    path: Path,
    info: EncoderInfo,
    waveforms: Matrix,
    *,
    title: str = "embedding",
    progress: Progress | None = None,
    cache: EmbeddingCache | None = None,
) -> Matrix:
    """Embed windows with an exported graph: one by one, as a device does, on every core.

    Args:
        path: The graph.
        info: What it takes and gives.
        waveforms: float32, shape `(n, window_samples)`.
        title: What the progress bar calls it.
        progress: Where to show progress.
        cache: Where embeddings are kept; None computes all of them.

    Returns:
        float32, shape `(n, dim)`.

    Raises:
        BundleError: The graph does not run.
    """
    advance = stage(progress, title, len(waveforms))
    result = np.empty((len(waveforms), info.dim), np.float32)
    name = "" if cache is None else graph_name(path)
    encoder = OnnxEncoder(path, info, threads=1)
    pool = ThreadPoolExecutor(min(usable_cores(), _MOST_WORKERS))
    try:
        for start in range(0, len(waveforms), _AT_ONCE):
            part = waveforms[start : start + _AT_ONCE]
            into = result[start : start + len(part)]
            left: Sequence[int] = range(len(part))
            keys: list[bytes] = []
            if cache is not None:
                # Each window's samples are many: a core each.
                keys = [key for (key,) in pool.map(lambda one: window_keys(name, one[None]), part)]
                known = cache.find(keys, info.dim)
                for place, vector in known.items():
                    into[place] = vector
                left = [place for place in left if place not in known]
                advance(len(known))
            if left:
                encoder.start()
                found = pool.map(encoder.encode, (part[place][None] for place in left))
                for place, vectors in zip(left, found, strict=True):
                    into[place] = vectors[0]
                    advance()
                if cache is not None:
                    cache.keep([keys[place] for place in left], into[left])
            forget_mapped()
    finally:
        pool.shutdown(cancel_futures=True)
        encoder.stop()
    return result
