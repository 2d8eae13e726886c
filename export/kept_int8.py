"""INT8 graphs kept in the user's cache: what may be INT8 is searched for once.

A graph is found by all that the search follows from: the float graph's bytes, every sample that
it is calibrated on, the bounds, the code and libraries that quantize, and the processor's
instruction sets, since the search runs candidates.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress

import agent
import export
from agent import __version__
from agent.bundle.manifest import EncoderInfo
from agent.bundle.seal import file_record
from agent.core.records import Matrix
from agent.encode.processor import in_words, this_processor
from agent.learn.places import spread
from export.quantize import PROBES, Quantized, quantize_static, quantize_weights
from trainer.graph.graph_cache import GraphCache, code_digest
from trainer.graph.onnx_graph import FloatGraph
from trainer.graph.storage import data_file
from trainer.preset import QuantizationConfig

# Code that the search follows from, beside what writes graphs.
_CODE = ("quantize.py", "fewest.py", "ranges.py", "positions.py", "kept_int8.py")
_LIBRARIES = ("onnx", "onnxruntime", "numpy")


def quantize(
    graph: FloatGraph,
    out: Path,
    waveforms: Matrix,
    info: EncoderInfo,
    bounds: QuantizationConfig,
    graphs: GraphCache,
    *,
    spans: Sequence[tuple[int, int]] = (),
    progress: Progress | None = None,
) -> Quantized:
    """Quantize a graph as a preset says, unless that was done already.

    Args:
        graph: The float32 graph.
        out: The file to write.
        waveforms: Healthy windows, float32 `(n, window_samples)`, a few of which are listened to.
        info: What the graph takes and gives.
        bounds: The preset's; not `none`.
        graphs: Where INT8 graphs are kept.
        spans: As `quantize_static` takes them.
        progress: Where to show progress.

    Raises:
        ExportError: As `quantize_static`.
    """
    static = bounds.mode == "static"
    chosen = waveforms[spread(len(waveforms), bounds.calibration_windows if static else PROBES)]

    def make(path: Path) -> dict[str, Any]:
        if static:
            made = quantize_static(
                graph, path, chosen, info, min_cosine=bounds.min_cosine, spans=spans,
                progress=progress,
            )  # fmt: skip
        else:
            made = quantize_weights(graph, path, chosen)
        return {"int8_nodes": made.int8_nodes, "float_nodes": made.float_nodes}

    facts = graphs.derived(_key(graph, chosen, info, bounds, spans), out, make)
    return Quantized(
        out, "static" if static else "dynamic", facts["int8_nodes"], tuple(facts["float_nodes"])
    )


def _key(
    graph: FloatGraph,
    chosen: Matrix,
    info: EncoderInfo,
    bounds: QuantizationConfig,
    spans: Sequence[tuple[int, int]],
) -> str:
    files = filter(Path.is_file, (graph.path, data_file(graph.path)))
    facts = [
        __version__, code_digest(), _own_code(), in_words(this_processor()),
        [file_record(one).sha256 for one in files], graph.opset, graph.pinned,
        info.model_dump(mode="json"), bounds.model_dump(mode="json"), list(spans), chosen.shape,
    ]  # fmt: skip
    digest = hashlib.sha256(json.dumps(facts).encode())
    for window in chosen:
        digest.update(np.ascontiguousarray(window, np.float32).data)
    return digest.hexdigest()


@cache
def _own_code() -> str:
    digest = hashlib.sha256(" ".join(f"{name} {version(name)}" for name in _LIBRARIES).encode())
    own, device = Path(export.__file__).parent, Path(agent.__file__).parent / "encode"
    for path in [*(own / name for name in _CODE), *sorted(device.glob("*.py"))]:
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()
