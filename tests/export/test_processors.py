"""INT8 graphs give the same on every processor: no weight whose products could be cut off."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from support.encoders import SmallEncoder
from support.processors import aarch64, embeddings, without_vnni

from agent.learn.embed import embed
from export import quantize
from export.quantize import quantize_static, quantize_weights
from export.ranges import WEIGHT_LIMIT, largest_weight, saturates
from trainer.encoder_config import EncoderConfig
from trainer.encoders.registry import build_encoder
from trainer.graph.encoder_info import encoder_info
from trainer.graph.onnx_graph import ExportError, cosines, export_graph

# (how, what): the cosine that tests/export asks of each on the processor at hand.
LEAST = {
    ("static", "small"): 0.98,
    ("dynamic", "small"): 0.99,
    ("dynamic", "beats"): 0.999,
    ("dynamic", "eat"): 0.999,
}


def small_windows(count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    level = 10 ** rng.uniform(-3, -0.5, (count, 1))
    return (rng.normal(0, 1, (count, 8000)) * level).astype(np.float32)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Float and INT8 graph, windows and what they must give, by how and what."""
    done = {}

    def make(how: str, what: str):
        if (how, what) not in done:
            folder = tmp_path_factory.mktemp(f"{how}-{what}")
            if what == "small":
                encoder, given, asked = SmallEncoder(), small_windows(16, 0), small_windows(4, 1)
            else:
                torch.manual_seed(0)
                encoder = build_encoder(
                    EncoderConfig(kind=what, size="tiny"), window_seconds=2.0, weights=None, seed=0
                ).eval()
                rng = np.random.default_rng(1)
                sound = rng.normal(0, 0.1, (3, encoder.window_samples)).astype(np.float32)
                given, asked = sound[:2], sound[1:]
            graph = export_graph(encoder, folder / "float.onnx")
            info = encoder_info(encoder, "float32", graph.opset)
            out = folder / "int8.onnx"
            if how == "static":
                quantize_static(graph, out, given, info, min_cosine=0.9)
            else:
                quantize_weights(graph, out, given)
            done[how, what] = graph, out, asked, embed(graph.path, info, asked), info
        return done[how, what]

    return make


@pytest.mark.parametrize(("how", "what"), list(LEAST))
def test_no_weight_of_an_exported_graph_is_above_seven_bits(made, how, what):
    _, int8, asked, wanted, info = made(how, what)
    # vpmaddubsw adds two products of uint8 and int8 in 16 bits.
    assert 0 < largest_weight(int8) <= WEIGHT_LIMIT
    assert 2 * 255 * WEIGHT_LIMIT < 2**15
    assert not saturates(int8)
    assert cosines(wanted, embed(int8, info, asked)).min() > LEAST[how, what]


def eight_bits(monkeypatch):
    """Quantizers as they were: weights up to 127."""
    for name in ("QDQQuantizer", "quantize_dynamic"):
        real = getattr(quantize, name)
        monkeypatch.setattr(
            quantize, name, lambda *a, real=real, **k: real(*a, **{**k, "reduce_range": False})
        )


def test_a_static_graph_that_could_saturate_is_refused(made, tmp_path, monkeypatch):
    graph, _, _, _, info = made("static", "small")
    eight_bits(monkeypatch)
    with pytest.raises(ExportError, match=r"weight of 127 was made where 64 is the most"):
        quantize_static(graph, tmp_path / "q.onnx", small_windows(8, 0), info, min_cosine=0.9)


def test_a_dynamic_graph_that_could_saturate_is_refused(made, tmp_path, monkeypatch):
    graph, *_ = made("static", "small")
    eight_bits(monkeypatch)
    with pytest.raises(ExportError, match=r"weight of 127 was made where 64 is the most"):
        quantize_weights(graph, tmp_path / "q.onnx")


def test_vectors_are_not_taken_for_weights(made, tmp_path):
    _, int8, *_ = made("static", "small")
    model = onnx.load(int8)
    model.graph.initializer.append(numpy_helper.from_array(np.int8([127, -128]), "zero"))
    onnx.save(model, tmp_path / "more.onnx")
    assert largest_weight(tmp_path / "more.onnx") == largest_weight(int8)


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("processor", [without_vnni, aarch64], ids=["avx2", "aarch64"])
@pytest.mark.parametrize(("how", "what"), list(LEAST))
def test_another_processor_gives_the_same(made, tmp_path, processor, how, what):
    command = processor()
    graph, int8, asked, wanted, info = made(how, what)
    found = embeddings(command, int8, asked, tmp_path)
    assert cosines(wanted, found).min() > LEAST[how, what]
    # Closer still to INT8 here: what differs is rounding in the float32 operations between.
    assert cosines(embed(int8, info, asked), found).min() > 0.9999
    assert cosines(wanted, embeddings(command, graph.path, asked, tmp_path)).min() > 0.99999


@pytest.mark.slow
def test_the_emulated_processor_does_cut_sums_off(made, tmp_path, monkeypatch):
    """What the tests above would show if weights had all eight bits."""
    command = without_vnni()
    graph, _, asked, wanted, info = made("static", "small")
    eight_bits(monkeypatch)
    monkeypatch.setattr(quantize, "saturates", lambda _path: False)
    quantize_static(graph, tmp_path / "q.onnx", small_windows(16, 0), info, min_cosine=0.9)
    assert largest_weight(tmp_path / "q.onnx") == 127
    found = embeddings(command, tmp_path / "q.onnx", asked, tmp_path)
    assert cosines(wanted, found).mean() < 0.99
