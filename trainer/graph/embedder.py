"""Embeds with an encoder's exported float32 graph: what export asks for later is known then."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Protocol

from rich.progress import Progress

from agent.core.progress import stage
from agent.core.records import Matrix
from agent.encode.embedding_cache import EmbeddingCache
from agent.learn.embed import embed
from trainer.encoders.base import Encoder
from trainer.fit.embed import embed_windows
from trainer.graph.encoder_info import encoder_info
from trainer.graph.graph_cache import GraphCache
from trainer.graph.onnx_graph import ExportError
from trainer.preset import Preset

log = logging.getLogger(__name__)


class WindowEmbedder(Protocol):
    """Computes embeddings of windows."""

    def __call__(self, waveforms: Matrix, progress: Progress | None, title: str = ...) -> Matrix:
        """Windows float32 `(n, window_samples)` to embeddings float32 `(n, dim)`."""


def graph_embedder(
    encoder: Encoder,
    preset: Preset,
    work: Path,
    *,
    cache: EmbeddingCache | None = None,
    graphs: GraphCache | None = None,
    progress: Progress | None = None,
) -> WindowEmbedder:
    """What embeds with a trained encoder, as `auscult export` will in float32.

    Args:
        encoder: As trained.
        preset: That it was built from.
        work: Folder for the graph, as long as windows are embedded.
        cache: Where embeddings are kept; None for nowhere.
        graphs: Where graphs are kept; None for nowhere.
        progress: Where to show progress.

    Returns:
        The embedder: PyTorch itself where the encoder has no graph.
    """
    graphs = graphs or GraphCache(work, limit=0)
    advance = stage(progress, "exporting the encoder", 1)
    try:
        graph = graphs.graph(encoder, preset, work)
    except ExportError as fault:
        log.warning("the encoder is run by PyTorch: %s", fault)
        return lambda waveforms, progress, title="rehearsing": embed_windows(
            encoder, waveforms, stage(progress, title, len(waveforms))
        )
    advance()
    info = encoder_info(encoder, "float32", graph.opset)

    def embedded(waveforms: Matrix, progress: Progress | None, title: str = "rehearsing") -> Matrix:
        return embed(graph.path, info, waveforms, title=title, progress=progress, cache=cache)

    return embedded
