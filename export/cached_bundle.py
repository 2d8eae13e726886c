"""An opened bundle whose encoder is asked only for windows that nobody has embedded before."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np

from agent.bundle.manifest import EncoderInfo
from agent.core.records import Matrix, Samples
from agent.deploy.load import Bundle, encoder_of
from agent.encode.embedding_cache import EmbeddingCache, graph_name, window_keys
from agent.encode.frames import Encoder, FrameLayout, Frames
from agent.encode.onnx import OnnxEncoder


def with_cache(bundle: Bundle, cache: EmbeddingCache) -> Bundle:
    """The bundle with an encoder that looks into a cache first; its own is stopped.

    One that has fallen back to its float32 graph is left as it is.
    """
    if bundle.fallback:
        return bundle
    bundle.encoder.stop()
    encoder = encoder_of(bundle.path, bundle.manifest, threads=1, framed=False)
    return replace(bundle, encoder=CachedEncoder(encoder, cache))


class CachedEncoder(Encoder):
    """An encoder behind a cache; it starts with the first unknown window.

    Args:
        encoder: Not started.
        cache: Where embeddings are kept.
    """

    def __init__(self, encoder: OnnxEncoder, cache: EmbeddingCache) -> None:
        self._encoder, self._cache = encoder, cache
        self._name = graph_name(encoder.path)
        self._turn = threading.Lock()

    @property
    def info(self) -> EncoderInfo:
        """What the graph takes and gives."""
        return self._encoder.info

    @property
    def layout(self) -> FrameLayout | None:
        """None: windows are run whole."""
        return None

    def start(self) -> None:
        """Load the graph. Idempotent.

        Raises:
            BundleError: As `OnnxEncoder.start`.
        """
        with self._turn:
            self._encoder.start()

    def stop(self) -> None:
        """Free the session."""
        self._encoder.stop()

    def encode(self, waveforms: Matrix) -> Matrix:
        """Embed a batch of windows; shapes and errors as `OnnxEncoder.encode`."""
        keys = window_keys(self._name, waveforms)
        known = self._cache.find(keys, self.info.dim)
        left = [place for place in range(len(keys)) if place not in known]
        result = np.empty((len(keys), self.info.dim), np.float32)
        for place, vector in known.items():
            result[place] = vector
        if left:
            self.start()
            result[left] = self._encoder.encode(waveforms[left])
            self._cache.keep([keys[place] for place in left], result[left])
        return result

    def patches(self, waveform: Matrix) -> Matrix | None:
        """What it makes of each place of a window; computed every time."""
        self.start()
        return self._encoder.patches(waveform)

    def frames(self, chunks: Matrix) -> Frames:
        """Frames of chunks; computed every time."""
        self.start()
        return self._encoder.frames(chunks)

    def embed_frames(self, frames: Frames, waveform: Samples) -> Matrix:
        """Embedding of a window's frames; computed every time."""
        self.start()
        return self._encoder.embed_frames(frames, waveform)
