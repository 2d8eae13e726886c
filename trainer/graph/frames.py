"""The graph of a front end that makes frames of short stretches, for windows that share them."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path

import onnx
import torch

from agent import __version__
from agent.encode.frames import BOUNDARY
from trainer.encoders.base import Encoder, Framing
from trainer.graph import storage
from trainer.graph.onnx_graph import INPUT, OPSET, FloatGraph, strip, write_onnx

log = logging.getLogger(__name__)

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
    front, least = _front(framing, chunk, count)
    strip(front)
    front.producer_name, front.producer_version = "auscult", __version__
    numbers = {"hop": framing.hop, "head": framing.head, "tail": framing.tail, "least": least}
    onnx.helper.set_model_props(
        front, {name: str(n) for name, n in (numbers | {"chunk": chunk, "count": count}).items()}
    )
    storage.save(front, path)
    return FloatGraph(path, OPSET, ())


def _front(framing: Framing, chunk: int, count: int) -> tuple[onnx.ModelProto, int]:
    """The graph, and the frames of the shortest chunk that it takes; 0 where it takes one length.

    Of a front end that can be written for any length, a window's beginning, of which only `head`
    frames are wanted, takes no whole chunk.
    """
    least = max(2, framing.head + framing.tail)
    write = partial(
        write_onnx, framing.front_end.eval(), torch.zeros(2, chunk * framing.hop),
        [INPUT], [BOUNDARY],
    )  # fmt: skip
    if not _takes_any(framing, (least, chunk, count)):
        return write(), 0
    try:
        return write(stretches=(framing.hop, least, count)), least
    except Exception as fault:  # noqa: BLE001 - the exporter's own errors share no useful base
        log.debug("its front end takes chunks of %d frames alone: %s", chunk, fault)
        return write(), 0


def _takes_any(framing: Framing, lengths: tuple[int, ...]) -> bool:
    """Whether a front end makes as many frames as it is given hops of sound, whatever they are."""
    try:
        with torch.inference_mode():
            return all(
                framing.front_end(torch.zeros(1, length * framing.hop)).shape[-1] == length
                for length in lengths
            )
    except RuntimeError:
        return False
