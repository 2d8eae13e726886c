"""A graph of one matrix product, for tests that only need some embedding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from agent.bundle.manifest import EncoderInfo

DIM = 24


def small_graph(path: Path, samples: int, seed: int = 0) -> tuple[Path, EncoderInfo]:
    """Write waveform `(batch, samples)` -> tanh(waveform @ weights) `(batch, DIM)`, seeded."""
    weights = np.random.default_rng(seed).normal(size=(samples, DIM)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["waveform", "weights"], ["product"]),
            helper.make_node("Tanh", ["product"], ["embedding"]),
        ],
        "small",
        [helper.make_tensor_value_info("waveform", TensorProto.FLOAT, ["batch", samples])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", DIM])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    info = EncoderInfo(
        kind="log_mel", sample_rate=1000, window_samples=samples, dim=DIM,
        precision="float32", opset=17,
    )  # fmt: skip
    return path, info
