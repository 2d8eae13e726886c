"""The graph in two parts, frames and body, for overlapping windows that share frames."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import onnx
import onnx.utils
import torch

from agent import __version__
from agent.bundle.manifest import BODY, FRAMES, EncoderInfo
from agent.core.records import Matrix, Window
from agent.encode.frames import BOUNDARY, SharedFrames
from agent.encode.onnx import OnnxEncoder
from trainer.encoders.base import Encoder
from trainer.graph import storage
from trainer.graph.onnx_graph import INPUT, OUTPUT, cosines, strip, write_onnx

log = logging.getLogger(__name__)

# Frames of a chunk: for mn04 a third of a second, of which a tenth is computed twice.
CHUNK = 32
# Embeddings by shared frames against those of the whole graph. The frames differ by rounding (the
# products are of other sizes), which an INT8 body may round to the next step.
LEAST_COSINE = 0.9999
# Windows of the trial: overlapping ones of two real windows end to end.
_TRIALS = 6


def write_parts(encoder: Encoder, graph: Path, info: EncoderInfo, windows: Matrix) -> bool:
    """Write the two parts beside a graph, and prove that they give what it gives.

    Args:
        encoder: The encoder in torch.
        graph: Its graph as exported, in float or INT8.
        info: What it takes and gives.
        windows: Real windows, float32 `(n, window_samples)`.

    Returns:
        Whether they were written: not of an encoder whose windows cannot share frames, or where
        the embeddings would differ by more than rounding.
    """
    framing = encoder.framing
    if framing is None or storage.is_split(graph) or encoder.window_samples % framing.hop:
        return False
    count = encoder.window_samples // framing.hop
    chunk = framing.chunk or CHUNK
    model = onnx.load(graph)
    if count < chunk or not any(BOUNDARY in node.output for node in model.graph.node):
        return False
    places = [graph.with_name(name) for name in (FRAMES, BODY)]
    front = write_onnx(
        framing.front_end.eval(), torch.zeros(2, chunk * framing.hop), [INPUT], [BOUNDARY]
    )
    strip(front)
    front.producer_name, front.producer_version = "auscult", __version__
    numbers = {"hop": framing.hop, "head": framing.head, "tail": framing.tail}
    onnx.helper.set_model_props(
        front, {name: str(n) for name, n in (numbers | {"chunk": chunk, "count": count}).items()}
    )
    storage.save(front, places[0])
    storage.save(_body(model), places[1])
    least = _least_cosine(graph, info, windows)
    if least < LEAST_COSINE:
        log.warning(
            "overlapping windows will not share frames: their embeddings would differ (cosine "
            "%.6f to those of whole windows)", least,
        )  # fmt: skip
        for place in places:
            place.unlink()
        return False
    return True


def _body(model: onnx.ModelProto) -> onnx.ModelProto:
    """What comes behind the frames; of the waveform too, where more than frames is made of it."""
    made_by = {name: node for node in model.graph.node for name in node.output}
    seen, names, inputs = set(), [OUTPUT], {BOUNDARY}
    while names:
        name = names.pop()
        if name in seen or name == BOUNDARY:
            continue
        seen.add(name)
        if name == INPUT:
            inputs.add(INPUT)
        elif name in made_by:
            names.extend(made_by[name].input)
    return onnx.utils.Extractor(model).extract_model(sorted(inputs), [OUTPUT])


def _least_cosine(graph: Path, info: EncoderInfo, windows: Matrix) -> float:
    """The smallest cosine of an embedding by shared frames to that of the whole graph."""
    encoder = OnnxEncoder(graph, info, framed=True)
    encoder.start()
    try:
        layout = encoder.layout
        assert layout is not None
        sound = np.concatenate([windows[0], windows[-1]])
        step = layout.hop * (layout.count // _TRIALS)
        shared = SharedFrames()
        found, whole = [], []
        for index in range(_TRIALS):
            samples = sound[index * step :][: info.window_samples]
            window = Window(
                samples, info.sample_rate, index, 0.0, 0.0, step=step, position=index * step
            )
            found.append(shared.encode(encoder, window))
            whole.append(encoder.encode(samples[None])[0])
    finally:
        encoder.stop()
    return float(cosines(np.stack(found), np.stack(whole)).min())
