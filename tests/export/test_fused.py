"""A transformer's fused form: the same embeddings from a tenth of the operations."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch

from agent.learn.embed import embed
from export.quantize import quantize_weights
from trainer.encoder_config import EncoderConfig
from trainer.encoders.registry import build_encoder
from trainer.graph import onnx_graph
from trainer.graph.encoder_info import encoder_info
from trainer.graph.fused import fused
from trainer.graph.onnx_graph import OPSET, cosines, export_graph

SECONDS = 2.0


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    made = build_encoder(
        EncoderConfig(kind="beats", size="tiny"), window_seconds=SECONDS, weights=None, seed=0
    ).eval()
    with torch.no_grad():  # fresh layers have values that would hide a factor left out
        for values in made.parameters():
            values.add_(0.05 * torch.randn_like(values))
    return made


@pytest.fixture(scope="module")
def graph(encoder, tmp_path_factory):
    return export_graph(encoder, tmp_path_factory.mktemp("graph") / "float.onnx")


@pytest.fixture(scope="module")
def form(graph, tmp_path_factory):
    return graph.fused(tmp_path_factory.mktemp("form") / "fused.onnx")


@pytest.fixture(scope="module")
def quick(graph, form):
    """The graph, its fused form written once for all tests."""
    return replace(graph, fused=lambda _path: form)


@pytest.fixture(scope="module")
def waveforms(encoder):
    return np.random.default_rng(1).normal(0, 0.1, (3, encoder.window_samples)).astype(np.float32)


def operations(path):
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def test_embeddings_are_torchs(encoder, form, waveforms):
    with torch.inference_mode():
        wanted = encoder(torch.from_numpy(waveforms)).numpy()
    info = encoder_info(encoder, "float32", OPSET)
    given = embed(form.path, info, waveforms)
    assert np.abs(given - wanted).max() < 1e-4 * np.abs(wanted).max()
    alone = np.concatenate([embed(form.path, info, one[None]) for one in waveforms])
    np.testing.assert_allclose(alone, given, atol=1e-4)
    made = operations(form.path)
    assert made["SkipLayerNormalization"] == 2 * 3
    assert made["Softmax"] == 4 * 3  # head by head
    assert not made["Erf"]


def test_the_float_graph_stays_portable(graph):
    assert {one.domain for one in onnx.load(graph.path).opset_import} == {""}


def test_int8_is_made_of_the_fused_form(encoder, graph, quick, waveforms, tmp_path):
    done = quantize_weights(quick, tmp_path / "q.onnx")
    made = operations(done.path)
    # Seven products a layer, queries', keys', values' and gates' of one rounding of the tokens, and
    # the projection of the patches; beside these each head's product of queries and keys.
    assert done.int8_nodes == 7 * 3 + 1
    assert made["MatMulInteger"] == done.int8_nodes + 4 * 3
    assert made["DynamicQuantizeLinear"] == 4 * 3 + 1 + 2 * 4 * 3
    assert made["FastGelu"] == 4
    assert not made["QLinearConv"]  # no windows to measure ranges on
    info = encoder_info(encoder, "float32", OPSET)
    pair = embed(graph.path, info, waveforms), embed(done.path, info, waveforms)
    assert cosines(*pair).min() > 0.999


def test_the_convolution_of_positions_becomes_int8(encoder, graph, quick, waveforms, tmp_path):
    plain = quantize_weights(quick, tmp_path / "plain.onnx")
    done = quantize_weights(quick, tmp_path / "q.onnx", waveforms[:2])
    assert operations(done.path)["QLinearConv"] == 1
    assert operations(done.path)["Conv"] == operations(plain.path)["Conv"] - 1
    assert done.int8_nodes == plain.int8_nodes + 1
    info = encoder_info(encoder, "float32", OPSET)
    # Sounds that the ranges were not measured on, one at twenty times the level.
    sounds = np.concatenate(
        [
            waveforms[2:],
            0.02 * waveforms[:1],
            np.sin(np.arange(waveforms.shape[1]) * 0.1, dtype=np.float32)[None],
        ]
    )
    wanted = embed(graph.path, info, sounds)
    given = embed(done.path, info, sounds)
    assert cosines(wanted, given).min() > 0.999
    # Against what would come of it without its positions.
    model = onnx.load(done.path)
    for one in model.graph.initializer:
        if one.name.endswith("/kernel"):
            one.CopyFrom(
                onnx.numpy_helper.from_array(
                    np.zeros_like(onnx.numpy_helper.to_array(one)), one.name
                )
            )
    onnx.save(model, tmp_path / "without.onnx")
    without = embed(tmp_path / "without.onnx", info, sounds)
    assert np.linalg.norm(given - wanted) < 0.2 * np.linalg.norm(without - wanted)


def test_a_form_that_disagrees_is_not_used(graph, monkeypatch, tmp_path, caplog):
    def wrong(one):
        form = fused(one)
        with torch.no_grad():
            form.backbone.layers[1].fc2.weight.mul_(1.5)
        return form

    monkeypatch.setattr(onnx_graph, "fused", wrong)
    done = quantize_weights(graph, tmp_path / "q.onnx")
    assert "SkipLayerNormalization" not in operations(done.path)
    assert "is not used" in caplog.text


def test_changed_layers_and_other_encoders_have_none(encoder):
    class Adapted(torch.nn.Linear):
        pass

    changed = copy.deepcopy(encoder)
    changed.backbone.layers[0].self_attn.q_proj = Adapted(64, 64)
    assert fused(changed) is None
    other = build_encoder(
        EncoderConfig(kind="m2d", size="tiny_80x608p16x16"),
        window_seconds=SECONDS,
        weights=None,
        seed=0,
    )
    assert fused(other) is None


def test_of_joined_encoders_those_are_fused_that_can_be():
    sizes = {"beats": "tiny", "m2d": "tiny_80x608p16x16"}
    parts = tuple(EncoderConfig(kind=kind, size=size) for kind, size in sizes.items())
    joined = build_encoder(
        EncoderConfig(kind="joined", parts=parts), window_seconds=SECONDS, weights=None, seed=0
    ).eval()
    form = fused(joined)
    one, other = (part.encoder.backbone for part in form.parts)
    before, untouched = (part.encoder.backbone for part in joined.parts)
    assert {type(layer).__name__ for layer in one.layers} == {"_BeatsLayer"}
    assert "_BeatsLayer" not in {type(layer).__name__ for layer in before.layers}
    assert [type(one) for one in other.modules()] == [type(one) for one in untouched.modules()]


def test_eat_is_fused_too(tmp_path):
    torch.manual_seed(0)
    encoder = build_encoder(
        EncoderConfig(kind="eat", size="tiny"), window_seconds=SECONDS, weights=None, seed=0
    ).eval()
    with torch.no_grad():
        for values in encoder.parameters():
            values.add_(0.05 * torch.randn_like(values))
    sounds = np.random.default_rng(1).normal(0, 0.1, (3, encoder.window_samples))
    waveforms = sounds.astype(np.float32)
    graph = export_graph(encoder, tmp_path / "float.onnx")
    form = graph.fused(tmp_path / "fused.onnx")
    with torch.inference_mode():
        wanted = encoder(torch.from_numpy(waveforms)).numpy()
    info = encoder_info(encoder, "float32", OPSET)
    given = embed(form.path, info, waveforms)
    assert np.abs(given - wanted).max() < 1e-4 * np.abs(wanted).max()
    made = operations(form.path)
    assert made["SkipLayerNormalization"] == 2 * 3
    assert made["Softmax"] == 4 * 3
    assert not made["Erf"]
    done = quantize_weights(replace(graph, fused=lambda _path: form), tmp_path / "q.onnx")
    # Queries, keys, values, what they are mixed to, two feed-forward; and each head's scores.
    assert operations(done.path)["MatMulInteger"] == done.int8_nodes + 4 * 3
    assert done.int8_nodes == 6 * 3
    assert cosines(wanted, embed(done.path, info, waveforms)).min() > 0.999


@pytest.mark.parametrize("family", ["beats", "eat"])
def test_shorter_forms_are_fused_as_well(family, tmp_path):
    """Heads taken away, and time steps merged: the places that are left keep their bias."""
    config = EncoderConfig(kind=family, size="tiny", merge_after=1)
    encoder = build_encoder(config, window_seconds=SECONDS, weights=None, seed=0).eval()
    torch.manual_seed(1)
    with torch.no_grad():
        for values in encoder.parameters():
            values.add_(0.05 * torch.randn_like(values))
    sounds = np.random.default_rng(1).normal(0, 0.1, (3, encoder.window_samples))
    waveforms = sounds.astype(np.float32)
    for kept, attention in zip(
        [(1, 3), (0, 2), (2, 3)], encoder.backbone.attentions(), strict=True
    ):
        attention.keep(kept)
    graph = export_graph(encoder, tmp_path / "float.onnx")
    form = graph.fused(tmp_path / "fused.onnx")
    with torch.inference_mode():
        wanted = encoder(torch.from_numpy(waveforms)).numpy()
    info = encoder_info(encoder, "float32", OPSET)
    for path in (graph.path, form.path):
        given = embed(path, info, waveforms)
        assert np.abs(given - wanted).max() < 1e-4 * np.abs(wanted).max()
    assert operations(form.path)["Softmax"] == 2 * 3


def test_an_eat_that_was_fine_tuned_has_none():
    class Adapted(torch.nn.Linear):
        pass

    encoder = build_encoder(
        EncoderConfig(kind="eat", size="tiny"), window_seconds=SECONDS, weights=None, seed=0
    )
    encoder.backbone.blocks[1].attn.qkv = Adapted(64, 192)
    assert fused(encoder) is None
