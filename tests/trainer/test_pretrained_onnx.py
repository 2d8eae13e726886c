"""Each encoder as one graph, waveform to embedding, in onnxruntime as in torch."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from pretrained_golden import FILES, SIZES, Golden

from trainer.encoder_config import EncoderConfig
from trainer.encoders.registry import build_encoder
from trainer.graph.onnx_graph import export_graph

pytestmark = pytest.mark.shared

# What TensorRT 10 and the CUDA provider take, at operator set 18; no domain but ONNX's own.
PORTABLE = {
    *("Add", "Sub", "Mul", "Div", "Neg", "Pow", "Sqrt", "Exp", "Log", "Erf", "Abs", "Reciprocal"),
    *("MatMul", "Gemm", "Conv", "BatchNormalization", "LayerNormalization", "Softmax"),
    *("Relu", "Sigmoid", "Tanh", "Clip", "Max", "Min", "Where", "Equal", "Less", "Greater"),
    *("ReduceMean", "ReduceMax", "ReduceSum", "Reshape", "Transpose", "Squeeze", "Unsqueeze"),
    *("Concat", "Slice", "Split", "Pad", "Gather", "Expand", "Shape", "Cast", "Constant"),
    "ConstantOfShape",
}


def export(shared, path, family, **fields):
    golden = Golden(shared / "golden")
    weights = golden.root / FILES[family]
    config = EncoderConfig(kind=family, size=SIZES[family], weights=weights.name, **fields)
    encoder = build_encoder(config, window_seconds=10.0, weights=weights, seed=0)
    graph = export_graph(encoder, path)
    waveforms = golden.waveforms("_long" if family == "muq" else "", family)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        mine = encoder(waveforms).numpy()
    # Dynamic batch: all at once, and one by one.
    together = session.run(None, {"waveform": waveforms.numpy()})[0]
    alone = np.concatenate([session.run(None, {"waveform": w[None]})[0] for w in waveforms.numpy()])
    assert mine.shape == together.shape == (len(waveforms), encoder.dim)
    assert np.abs(together - mine).max() < 2e-5
    assert np.abs(alone - mine).max() < 2e-5
    return graph, Counter(node.op_type for node in onnx.load(path).graph.node)


@pytest.mark.parametrize("family", sorted(FILES))
def test_first_layer_alone(shared, tmp_path, family):
    graph, operators = export(shared, tmp_path / "e.onnx", family, layers=(1,))
    assert operators.keys() <= PORTABLE
    assert operators["Softmax"] == (2 if family == "m2d" else 1), (
        "later layers are not in the graph"
    )
    assert any("front_end" in name for name in graph.pinned)


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["", "bands", "rdp_gem", "attentive", "mean_max"])
@pytest.mark.parametrize("family", sorted(FILES))
def test_whole_encoder(shared, tmp_path, family, pooling):
    _, operators = export(shared, tmp_path / "e.onnx", family, pooling=pooling)
    assert operators.keys() <= PORTABLE
    assert operators["Softmax"] >= 3
