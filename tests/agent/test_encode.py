"""The encoder runs the graph as the manifest describes it."""

from __future__ import annotations

import time

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper
from support.bundles import BANDS, DIM, RATE, WINDOW, build_graph, info, tone

from agent.config.encode import InferenceConfig
from agent.core.errors import BundleError
from agent.encode import onnx as encoding
from agent.encode.onnx import OnnxEncoder


@pytest.fixture
def graph(tmp_path):
    build_graph(tmp_path / "encoder.onnx")
    return tmp_path / "encoder.onnx"


def test_embedding_is_what_the_graph_computes(graph):
    encoder = OnnxEncoder(graph, info())
    encoder.start()
    sound = np.stack([tone(1, 500), tone(1, 900)])
    got = encoder.encode(sound)
    time = np.arange(80) / RATE
    basis = np.exp(2j * np.pi * time[:, None] * 100.0 * np.arange(1, BANDS + 1))
    expected = (np.abs(sound.reshape(2, -1, 80) @ basis) ** 2).mean(axis=1)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-3)
    assert list(got.argmax(axis=1)) == [4, 8]


def test_a_window_is_embedded_alike_whatever_is_beside_it(graph):
    """Dynamic INT8 measures its range as it runs: over eight windows it would be the loudest's."""
    model = onnx.load(graph)
    model.graph.node[0].input[0] = "restored"
    quantized = ["steps", "scale", "zero"]
    for place, node in enumerate(
        (
            helper.make_node("DynamicQuantizeLinear", ["waveform"], quantized),
            helper.make_node("DequantizeLinear", quantized, ["restored"]),
        )
    ):
        model.graph.node.insert(place, node)
    onnx.save(model, graph)
    encoder = OnnxEncoder(graph, info(precision="int8"))
    encoder.start()
    quiet, loud = 0.001 * tone(1, 500), tone(1, 900)
    alone = encoder.encode(quiet[None])
    assert alone.max() > 0
    np.testing.assert_array_equal(encoder.encode(np.stack([quiet, loud]))[:1], alone)


def test_empty_batch_and_several_threads(graph):
    encoder = OnnxEncoder(graph, info(), threads=2)
    encoder.start()
    assert encoder.encode(np.empty((0, WINDOW), np.float32)).shape == (0, DIM)


def test_must_be_started_and_can_be_restarted(graph):
    encoder = OnnxEncoder(graph, info())
    with pytest.raises(ValueError, match="not started"):
        encoder.encode(tone(1)[None])
    encoder.start()
    encoder.stop()
    with pytest.raises(ValueError, match="not started"):
        encoder.encode(tone(1)[None])
    encoder.start()
    assert encoder.encode(tone(1)[None]).shape == (1, DIM)


@pytest.mark.parametrize("shape", [(WINDOW,), (1, WINDOW - 1), (1, 1, WINDOW)])
def test_waveforms_of_another_shape_are_refused(graph, shape):
    encoder = OnnxEncoder(graph, info())
    encoder.start()
    with pytest.raises(ValueError, match="waveforms have shape"):
        encoder.encode(np.zeros(shape, np.float32))


@pytest.mark.parametrize("changes", [{"dim": 3}, {"window_samples": 100}])
def test_a_manifest_that_disagrees_is_refused(graph, changes):
    with pytest.raises(BundleError, match=r"encoder\.onnx.*manifest says"):
        OnnxEncoder(graph, info(**changes)).start()


def test_what_is_no_graph_is_refused(tmp_path):
    (tmp_path / "encoder.onnx").write_bytes(b"\x08\x09nonsense")
    with pytest.raises(BundleError, match="is not a graph"):
        OnnxEncoder(tmp_path / "encoder.onnx", info()).start()


def test_an_absent_provider_is_named(graph):
    with pytest.raises(BundleError, match="no execution provider NoSuchProvider"):
        OnnxEncoder(graph, info(), inference=InferenceConfig(providers=("NoSuchProvider",))).start()


def test_idle_sessions_do_not_spin(graph):
    """Worker threads must not burn processor time between inferences (0.16 s here if they do)."""
    encoder = OnnxEncoder(graph, info(), threads=4)
    encoder.start()
    batch = np.repeat(tone(1)[None], 64, axis=0)
    idle = 0.0
    for _ in range(10):
        encoder.encode(batch)
        before = time.process_time()
        time.sleep(0.05)
        idle += time.process_time() - before
    assert idle < 0.03


def sessions(monkeypatch):
    """How many sessions are opened from now on."""
    made, plain = [], onnxruntime.InferenceSession

    def opened(*args, **named):
        made.append(args[0])
        return plain(*args, **named)

    monkeypatch.setattr(onnxruntime, "InferenceSession", opened)
    return made


def test_encoders_of_the_same_graph_share_a_session_and_outlive_each_other(graph, monkeypatch):
    made = sessions(monkeypatch)
    one, other = (OnnxEncoder(graph, info(), digests={graph.name: "a"}) for _ in range(2))
    one.start()
    other.start()
    assert len(made) == 1
    window = tone(1)[None]
    np.testing.assert_array_equal(one.encode(window), other.encode(window))
    one.stop()
    assert other.encode(window).shape == (1, DIM)
    other.stop()
    one.start()  # nobody held it any more
    assert len(made) == 2
    one.stop()


@pytest.mark.parametrize(
    "other",
    [{"digest": "b"}, {"digest": None}, {"inference": InferenceConfig(arena=False)}],
)
def test_another_graph_or_another_way_of_running_it_has_a_session_of_its_own(
    graph, monkeypatch, other
):
    made = sessions(monkeypatch)

    def encoder(digest="a", **how):
        return OnnxEncoder(
            graph, info(), digests=None if digest is None else {graph.name: digest}, **how
        )

    both = [encoder(), encoder(**other)]
    for one in both:
        one.start()
    assert len(made) == 2
    for one in both:
        one.stop()


def test_no_more_windows_run_at_once_than_cores_over_all_encoders(graph, monkeypatch):
    monkeypatch.setattr(encoding, "usable_cores", lambda: 7)
    turns, asked = encoding.turns, []
    monkeypatch.setattr(encoding, "turns", lambda count: asked.append(turns(count)) or asked[-1])
    for digest in ("a", "b"):
        OnnxEncoder(graph, info(), digests={graph.name: digest})
    assert len(asked) == 2
    assert asked[0] is asked[1]
