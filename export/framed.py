"""The graph in two parts, frames and body, for overlapping windows that share frames."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnx.utils

from agent.bundle.manifest import BODY, FRAMES, EncoderInfo
from agent.core.records import Matrix, Window
from agent.encode.frames import BOUNDARY, SharedFrames
from agent.encode.onnx import OnnxEncoder
from trainer.encoders.base import Encoder
from trainer.graph import storage
from trainer.graph.frames import export_frames
from trainer.graph.onnx_graph import INPUT, OUTPUT, FloatGraph, cosines

log = logging.getLogger(__name__)

# Embeddings by shared frames against those of the whole graph. The frames differ by rounding (the
# products are of other sizes), which an INT8 body may round to the next step.
LEAST_COSINE = 0.9999
# Windows of the trial: overlapping ones of two real windows end to end.
_TRIALS = 6


def write_parts(
    encoder: Encoder,
    graph: Path,
    info: EncoderInfo,
    windows: Matrix,
    frames: Callable[[Path], FloatGraph | None] | None = None,
) -> bool:
    """Write the two parts beside a graph, and prove that they give what it gives.

    Args:
        encoder: The encoder in torch.
        graph: Its graph as exported, in float or INT8.
        info: What it takes and gives.
        windows: Real windows, float32 `(n, window_samples)`.
        frames: Writes the graph of the frames (`GraphCache` keeps it); exported here when None.

    Returns:
        Whether they were written: not of an encoder whose windows cannot share frames, or where
        the embeddings would differ by more than rounding.
    """
    if storage.is_split(graph):
        return False
    model = onnx.load(graph)
    if not any(BOUNDARY in node.output for node in model.graph.node):
        return False
    places = [graph.with_name(name) for name in (FRAMES, BODY)]
    if (frames or partial(export_frames, encoder))(places[0]) is None:
        return False
    storage.save(_body(model), places[1])
    return keep_proven(graph, info, windows)


def keep_proven(graph: Path, info: EncoderInfo, windows: Matrix) -> bool:
    """Keep the two parts beside a graph if they give what it gives, else remove them.

    Args:
        graph: The whole graph; its parts lie beside it, or there is nothing to do.
        info: What it takes and gives.
        windows: Real windows, float32 `(n, window_samples)`.

    Returns:
        Whether they are there.
    """
    places = [graph.with_name(name) for name in (FRAMES, BODY)]
    if not all(place.exists() for place in places):
        return False
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
