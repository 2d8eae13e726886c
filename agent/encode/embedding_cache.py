"""Embeddings kept in the user's cache, so that a window is embedded once by a graph.

An embedding is found by what it was computed from: every byte of the graph and of the window's
samples, the version of onnxruntime and the instruction sets of the processor, since INT8 differs
between them. A recording that was changed, another rate, channel, hop or window length, another
encoder, precision or checkpoint therefore is another key: nothing stale can be found.

How they lie on the disk: `agent.core.byte_cache`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime

from agent.bundle.seal import file_record
from agent.core.byte_cache import UserCache, key_of
from agent.core.records import Matrix, Samples
from agent.encode.processor import in_words, this_processor

FILE = "embeddings.sqlite"
# Of what is computed from what: another number here makes all that was kept unknown.
_FORMAT = 1


class EmbeddingCache(UserCache):
    """Embeddings by key, in one file; any thread may ask."""

    file, what = FILE, "embedding"

    def find(self, keys: Sequence[bytes], dim: int) -> dict[int, Samples]:
        """What is known.

        Args:
            keys: From `window_keys`.
            dim: Length of an embedding.

        Returns:
            By place in `keys`, float32 `(dim,)` each.
        """
        return {
            place: np.frombuffer(value, np.float32).copy()
            for place, value in self._bytes.find(keys).items()
            if len(value) == 4 * dim
        }

    def keep(self, keys: Sequence[bytes], vectors: Matrix) -> None:
        """Keep embeddings; what is over the limit goes, the longest unused first.

        Args:
            keys: From `window_keys`.
            vectors: float32 `(len(keys), dim)`.
        """
        ready = np.ascontiguousarray(vectors, np.float32)
        self._bytes.keep(keys, [vector.tobytes() for vector in ready])


def window_keys(graph: str, waveforms: Matrix) -> list[bytes]:
    """What embeddings of windows are found by.

    Args:
        graph: From `graph_name`.
        waveforms: float32 `(n, window_samples)`.
    """
    name = graph.encode()
    return [key_of(name, np.ascontiguousarray(one, np.float32).data) for one in waveforms]


def graph_name(path: Path) -> str:
    """What a graph gives here, as a name: digest of its bytes, onnxruntime, processor.

    Args:
        path: The graph; its tensors may lie in `<name>.data` beside it.
    """
    parts = filter(Path.is_file, (path, path.with_name(f"{path.name}.data")))
    files = " ".join(file_record(part).sha256 for part in parts)
    runtime = f"{onnxruntime.__version__} {in_words(this_processor())}"
    return f"{_FORMAT} {files} {runtime}"
