"""The float graph: whole, clean, and equal to torch."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from support.encoders import SmallEncoder

from agent.learn.embed import embed
from trainer.graph.encoder_info import encoder_info
from trainer.graph.onnx_graph import OPSET, ExportError, cosines, export_graph, verify_parity


@pytest.fixture(scope="module")
def encoder():
    return SmallEncoder()


@pytest.fixture(scope="module")
def graph(encoder, tmp_path_factory):
    return export_graph(encoder, tmp_path_factory.mktemp("graph") / "float.onnx")


def windows(count: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 0.05, (count, 8000))
    return noise.astype(np.float32)


def test_file_is_self_contained_and_tells_nothing_of_its_machine(graph):
    model = onnx.load(graph.path, load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    assert {entry.version for entry in model.opset_import} == {OPSET}
    assert not any(
        tensor.HasField("data_location") and tensor.data_location
        for tensor in model.graph.initializer
    )
    assert [p.name for p in graph.path.parent.iterdir()] == [graph.path.name]
    data = graph.path.read_bytes()
    for trace in (b".py", b"site-packages", b"Traceback", b"pkg.torch", b"File "):
        assert trace not in data, trace


def test_nodes_are_named_after_modules_and_the_excluded_ones_pinned(graph):
    names = {node.name for node in onnx.load(graph.path).graph.node}
    assert set(graph.pinned) <= names
    assert all(name.startswith(("front_end/", "gate/")) for name in graph.pinned)
    assert any(name.startswith("front_end/bands/") for name in graph.pinned)
    assert any(name.startswith("gate/dense/") for name in graph.pinned)
    assert not any(name.startswith(("convolution/", "dense/")) for name in graph.pinned)


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_gives_what_torch_gives_for_any_batch(graph, encoder, batch):
    x = windows(batch)
    with torch.inference_mode():
        expected = encoder(torch.from_numpy(x)).numpy()
    found = embed(graph.path, encoder_info(encoder, "float32", graph.opset), x)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert verify_parity(encoder, graph.path, x) > 0.99999


def test_floor_under_a_logarithm_survives(graph, encoder):
    # The exporter's optimizer takes 1e-12 for zero: silence then gave log(0).
    silence = np.zeros((1, 8000), np.float32)
    with torch.inference_mode():
        expected = encoder(torch.from_numpy(silence)).numpy()
    found = embed(graph.path, encoder_info(encoder, "float32", graph.opset), silence)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_graph_of_other_weights_is_refused(graph):
    with pytest.raises(ExportError, match="disagrees with torch"):
        verify_parity(SmallEncoder(seed=1), graph.path, windows(2))


def test_encoder_that_lies_about_its_length_is_refused(tmp_path):
    encoder = SmallEncoder()
    encoder.dim = 23
    with pytest.raises(ExportError, match="24"):
        export_graph(encoder, tmp_path / "float.onnx")


def test_cosine_of_zero_rows_is_one_only_when_both_are():
    zero, one = np.zeros((1, 3), np.float32), np.ones((1, 3), np.float32)
    assert cosines(zero, zero) == 1.0
    assert cosines(zero, one) == 0.0
    assert cosines(one, -one) == pytest.approx(-1.0)
