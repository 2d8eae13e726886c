"""The graph of a front end that makes frames of short stretches, for windows that share them."""

from __future__ import annotations

from pathlib import Path

import onnx
import torch

from agent import __version__
from agent.encode.frames import BOUNDARY
from trainer.encoders.base import Encoder
from trainer.graph import storage
from trainer.graph.onnx_graph import INPUT, OPSET, FloatGraph, strip, write_onnx

# Frames of a chunk: for mn04 a third of a second, of which a tenth is computed twice.
CHUNK = 32


def export_frames(encoder: Encoder, path: Path) -> FloatGraph | None:
    """Write the graph that makes frames, chunk by chunk, and in its properties where they lie.

    Args:
        encoder: The encoder, in evaluation mode.
        path: The file to write.

    Returns:
        The graph; None of an encoder whose windows cannot share frames.
    """
    framing = encoder.framing
    if framing is None or encoder.window_samples % framing.hop:
        return None
    count = encoder.window_samples // framing.hop
    chunk = framing.chunk or CHUNK
    if count < chunk:
        return None
    front = write_onnx(
        framing.front_end.eval(), torch.zeros(2, chunk * framing.hop), [INPUT], [BOUNDARY]
    )
    strip(front)
    front.producer_name, front.producer_version = "auscult", __version__
    numbers = {"hop": framing.hop, "head": framing.head, "tail": framing.tail}
    onnx.helper.set_model_props(
        front, {name: str(n) for name, n in (numbers | {"chunk": chunk, "count": count}).items()}
    )
    storage.save(front, path)
    return FloatGraph(path, OPSET, ())
