"""INT8: where it should be, nowhere else, and no further than allowed."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from support.encoders import SmallEncoder

from agent.learn.embed import embed
from agent.learn.places import spread
from export.quantize import quantize_static, quantize_weights, weighted_nodes
from trainer.graph.encoder_info import encoder_info
from trainer.graph.onnx_graph import cosines, export_graph


def windows(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    level = 10 ** rng.uniform(-3, -0.5, (count, 1))
    return (rng.normal(0, 1, (count, 8000)) * level).astype(np.float32)


@pytest.fixture(scope="module")
def encoder():
    return SmallEncoder()


@pytest.fixture(scope="module")
def graph(encoder, tmp_path_factory):
    return export_graph(encoder, tmp_path_factory.mktemp("graph") / "float.onnx")


@pytest.fixture(scope="module")
def info(encoder, graph):
    return encoder_info(encoder, "float32", graph.opset)


def stored_int8(model: onnx.ModelProto) -> list[str]:
    return [
        t.name
        for t in model.graph.initializer
        if t.data_type == onnx.TensorProto.INT8 and len(t.dims) > 1
    ]


def test_static_puts_weights_into_int8_and_keeps_embeddings(graph, info, tmp_path):
    done = quantize_static(graph, tmp_path / "q.onnx", windows(16), info, min_cosine=0.9)
    model = onnx.load(done.path)
    assert done.int8_nodes == 3  # two convolutions and the last dense layer
    assert done.float_nodes == ()
    assert len(stored_int8(model)) == 3
    held_out = windows(12, seed=1)
    similar = cosines(embed(graph.path, info, held_out), embed(done.path, info, held_out))
    assert 0.98 < similar.mean() < 1.0


def test_static_leaves_front_end_and_excluded_parts_float(graph, info, tmp_path):
    done = quantize_static(graph, tmp_path / "q.onnx", windows(8), info, min_cosine=0.9)
    model = onnx.load(done.path)
    dequantized = {
        name
        for node in model.graph.node
        if node.op_type == "DequantizeLinear"
        for name in node.output
    }
    by_name = {node.name: node for node in model.graph.node}
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    seen = 0
    for name in graph.pinned:
        node = by_name.get(name)
        if node is None or node.op_type not in {"MatMul", "Gemm"}:
            continue
        seen += 1
        assert node.input[1] not in dequantized
        assert weights[node.input[1]].data_type == onnx.TensorProto.FLOAT
    assert seen == 2  # the filter bank and the gate's dense layer


def test_every_weight_scale_is_a_channels_own(graph, info, tmp_path):
    done = quantize_static(graph, tmp_path / "q.onnx", windows(8), info, min_cosine=0.9)
    model = onnx.load(done.path)
    sizes = {t.name: int(np.prod(t.dims)) for t in model.graph.initializer}
    scales = [
        sizes[node.input[1]]
        for node in model.graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in stored_int8(model)
    ]
    assert sorted(scales) == [8, 8, 24]


def test_strict_bound_gives_operations_back_to_float(graph, info, tmp_path):
    loose = quantize_static(graph, tmp_path / "a.onnx", windows(16), info, min_cosine=0.9)
    strict = quantize_static(graph, tmp_path / "b.onnx", windows(16), info, min_cosine=1.0)
    assert len(strict.float_nodes) > len(loose.float_nodes)
    assert strict.int8_nodes + len(strict.float_nodes) == 3
    x = windows(8, seed=2)
    reference = embed(graph.path, info, x)
    better = cosines(reference, embed(strict.path, info, x)).mean()
    assert better > cosines(reference, embed(loose.path, info, x)).mean()


def test_same_windows_give_the_same_bytes(graph, info, tmp_path):
    one = quantize_static(graph, tmp_path / "a.onnx", windows(8), info, min_cosine=0.9)
    two = quantize_static(graph, tmp_path / "b.onnx", windows(8), info, min_cosine=0.9)
    assert one.path.read_bytes() == two.path.read_bytes()


def test_dynamic_touches_matrix_products_outside_the_front_end_only(graph, info, tmp_path):
    done = quantize_weights(graph, tmp_path / "d.onnx")
    kinds = [node.op_type for node in onnx.load(done.path).graph.node]
    assert done.int8_nodes == 1
    assert kinds.count("MatMulInteger") == 1
    assert kinds.count("Conv") == 2
    assert "ConvInteger" not in kinds
    x = windows(8, seed=3)
    assert cosines(embed(graph.path, info, x), embed(done.path, info, x)).mean() > 0.99


def test_nothing_to_quantize_is_a_copy(graph, info, tmp_path):
    model = onnx.load(graph.path)
    everything = tuple(node.name for node in model.graph.node)
    assert weighted_nodes(model, everything) == []
    pinned = type(graph)(graph.path, graph.opset, everything)
    for done in (
        quantize_static(pinned, tmp_path / "a.onnx", windows(2), info, min_cosine=0.9),
        quantize_weights(pinned, tmp_path / "b.onnx"),
    ):
        assert done.int8_nodes == 0
        assert done.path.read_bytes() == graph.path.read_bytes()


def test_spread_covers_both_ends_without_repeating():
    assert spread(3, 8) == [0, 1, 2]
    chosen = spread(100, 8)
    assert chosen[0] == 0
    assert chosen[-1] == 99
    assert len(set(chosen)) == 8
