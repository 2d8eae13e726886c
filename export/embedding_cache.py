"""Embeddings kept on the disk, so that presets with the same frozen encoder compute them once.

An entry is found by what it was computed from: the bytes of the exported graph (which hold encoder,
weights, precision and window length) and those of the windows (which hold recordings, channel, rate
and hop). Nothing that changes the result can therefore go unnoticed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.progress import Progress

from agent.bundle.manifest import ENCODER, EncoderInfo
from agent.bundle.seal import file_record
from agent.core.records import Matrix
from agent.core.storage import write_atomic
from agent.deploy.load import Bundle
from agent.encode.onnx import OnnxEncoder
from agent.learn.embed import embed
from agent.recordings.held import forget_mapped
from export import storage

_DIGEST = hashlib.sha256().digest_size
_AT_ONCE = 64  # windows


@dataclass(frozen=True, slots=True)
class EmbeddingCache:
    """A folder of entries: `<graph>/<windows>.emb`, each a SHA-256 and the float32 values it is of.

    Several processes may use it at once: entries are written whole or not at all.

    Attributes:
        folder: Where they lie; made when the first is written.
    """

    folder: Path

    def embed(
        self,
        graph: Path,
        info: EncoderInfo,
        waveforms: Matrix,
        *,
        title: str,
        progress: Progress | None,
    ) -> Matrix:
        """Embeddings (`agent.learn.embed.embed`), computed only where it is not known."""
        place = self.entry(graph_digest(graph), waveforms)
        found = self.read(place, len(waveforms), info.dim)
        if found is None:
            found = embed(graph, info, waveforms, title=title, progress=progress)
            self.write(place, found)
        return found

    def attach(self, bundle: Bundle) -> Bundle:
        """The bundle, opened, with an encoder that looks here first; the old one is stopped."""
        bundle.encoder.stop()
        encoder = CachedEncoder(bundle.path / ENCODER, bundle.manifest.encoder, cache=self)
        return replace(bundle, encoder=encoder)

    def entry(self, graph: str, waveforms: Matrix) -> Path:
        """Where the embeddings of these windows by this graph lie."""
        digest = hashlib.sha256(str(waveforms.shape).encode())
        for start in range(0, len(waveforms), _AT_ONCE):
            part = waveforms[start : start + _AT_ONCE]
            digest.update(np.ascontiguousarray(part, np.float32).data)
            forget_mapped()
        return self.folder / graph / f"{digest.hexdigest()}.emb"

    def read(self, place: Path, count: int, dim: int) -> Matrix | None:
        """An entry's values, `(count, dim)`; None when it is not there, or is not what it was."""
        try:
            data = place.read_bytes()
        except OSError:
            return None
        values = data[_DIGEST:]
        if hashlib.sha256(values).digest() != data[:_DIGEST] or len(values) != 4 * count * dim:
            return None
        return np.frombuffer(values, np.float32).reshape(count, dim).copy()

    def write(self, place: Path, vectors: Matrix) -> None:
        """Keep an entry."""
        values = np.ascontiguousarray(vectors, np.float32).tobytes()
        place.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(place, hashlib.sha256(values).digest() + values)


class CachedEncoder(OnnxEncoder):
    """The agent's encoder, asked only for windows that the cache does not know."""

    def __init__(self, path: Path, info: EncoderInfo, *, cache: EmbeddingCache) -> None:
        super().__init__(path, info)
        self._kept = cache
        self._graph = graph_digest(path)

    def encode(self, waveforms: Matrix) -> Matrix:
        """Embed; shapes as `OnnxEncoder.encode`. The session starts with the first unknown."""
        place = self._kept.entry(self._graph, waveforms)
        found = self._kept.read(place, len(waveforms), self.info.dim)
        if found is None:
            self.start()
            found = super().encode(waveforms)
            self._kept.write(place, found)
        return found


def graph_digest(path: Path) -> str:
    """SHA-256 of an exported graph, with its tensors when they lie beside it."""
    parts = filter(Path.is_file, (path, storage.data_file(path)))
    return hashlib.sha256("".join(file_record(part).sha256 for part in parts).encode()).hexdigest()
