"""Graphs above protocol buffers' 2 GiB, with the limit lowered so that a small one is large."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from agent.learn.embed import embed
from export.quantize import quantize_static, quantize_weights
from trainer.encoder_config import EncoderConfig
from trainer.encoders.registry import build_encoder
from trainer.graph import storage
from trainer.graph.encoder_info import encoder_info
from trainer.graph.onnx_graph import OPSET, ExportError, cosines, export_graph, verify_parity


@pytest.fixture
def encoder():
    config = EncoderConfig(kind="dasheng", size="tiny")
    return build_encoder(config, window_seconds=2.0, weights=None, seed=0)


@pytest.fixture
def windows(encoder):
    return np.random.default_rng(1).normal(0, 0.1, (6, encoder.window_samples)).astype(np.float32)


def test_a_large_float_graph_becomes_one_int8_file(tmp_path, monkeypatch, encoder, windows):
    small = export_graph(encoder, tmp_path / "small.onnx")
    held = storage.weight_bytes(onnx.load(small.path))
    monkeypatch.setattr(storage, "ONE_FILE_LIMIT", int(held * 0.7))

    graph = export_graph(encoder, tmp_path / "float.onnx")
    assert storage.is_split(graph.path)
    assert graph.path.stat().st_size < held / 2
    assert storage.size(graph.path) > held
    assert verify_parity(encoder, graph.path, windows) > 0.9999

    out = tmp_path / "int8.onnx"
    info = encoder_info(encoder, "float32", OPSET)
    with pytest.raises(ExportError, match=r"quantization\.mode.*dynamic"):
        quantize_static(graph, out, windows, info, min_cosine=0.9)
    made = quantize_weights(graph, out)
    assert made.int8_nodes > 0
    assert not storage.is_split(out)
    assert not storage.data_file(out).exists()
    similar = cosines(embed(small.path, info, windows), embed(out, info, windows))
    assert similar.mean() > 0.98


def test_writing_again_in_one_file_leaves_no_second_file(tmp_path, monkeypatch, encoder):
    monkeypatch.setattr(storage, "ONE_FILE_LIMIT", 1000)
    path = tmp_path / "graph.onnx"
    export_graph(encoder, path)
    assert storage.data_file(path).exists()
    monkeypatch.undo()
    export_graph(encoder, path)
    assert not storage.data_file(path).exists()
    onnx.checker.check_model(path)
