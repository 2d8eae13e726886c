"""What may be INT8 is searched for once for the same graph, sound and bounds, and in few steps."""

from __future__ import annotations

import numpy as np
import pytest
from support.encoders import SmallEncoder

import export.kept_int8 as keeping
from export.fewest import fewest
from export.kept_int8 import quantize
from export.quantize import quantize_static
from trainer.graph.encoder_info import encoder_info
from trainer.graph.graph_cache import GraphCache
from trainer.graph.onnx_graph import export_graph
from trainer.preset import QuantizationConfig


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    return export_graph(SmallEncoder(), tmp_path_factory.mktemp("graph") / "float.onnx")


@pytest.fixture(scope="module")
def info(graph):
    return encoder_info(SmallEncoder(), "float32", graph.opset)


@pytest.fixture
def searched(monkeypatch) -> list[int]:
    """Windows of each search."""
    done: list[int] = []
    real = keeping.quantize_static

    def counted(graph, path, windows, info, **rest):
        done.append(len(windows))
        return real(graph, path, windows, info, **rest)

    monkeypatch.setattr(keeping, "quantize_static", counted)
    return done


def windows(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, (count, 8000)).astype(np.float32)


def test_the_second_time_nothing_is_searched_and_the_bytes_are_the_same(
    graph, info, tmp_path, searched
):
    cache, bounds = GraphCache(tmp_path / "graphs"), QuantizationConfig(calibration_windows=8)
    given = [graph, tmp_path / "a.onnx", windows(20), info, bounds, cache]
    first = quantize(*given)
    alone = quantize_static(
        graph, tmp_path / "alone.onnx", windows(20)[keeping.spread(20, 8)], info, min_cosine=0.98
    )
    assert first.path.read_bytes() == alone.path.read_bytes()
    given[1] = tmp_path / "b.onnx"
    again = quantize(*given)
    assert searched == [8]
    assert again.path.read_bytes() == first.path.read_bytes()
    assert (again.int8_nodes, again.float_nodes) == (first.int8_nodes, first.float_nodes)
    assert again.mode == "static"


def test_other_sound_or_bounds_are_searched_for_anew(graph, info, tmp_path, searched):
    cache, bounds = GraphCache(tmp_path / "graphs"), QuantizationConfig(calibration_windows=4)
    out = tmp_path / "a.onnx"
    quantize(graph, out, windows(4), info, bounds, cache)
    louder = windows(4)
    louder[3, -1] += 1e-6  # a single sample
    quantize(graph, out, louder, info, bounds, cache)
    strict = bounds.model_copy(update={"min_cosine": 1.0})
    found = quantize(graph, out, windows(4), info, strict, cache)
    assert len(searched) == 3
    assert found.float_nodes
    dynamic = quantize(
        graph, out, windows(4), info, bounds.model_copy(update={"mode": "dynamic"}), cache
    )
    assert (dynamic.mode, dynamic.int8_nodes, len(searched)) == ("dynamic", 1, 3)


def test_a_damaged_graph_and_a_cache_that_keeps_nothing_cost_time_alone(
    graph, info, tmp_path, searched
):
    cache, bounds = GraphCache(tmp_path / "graphs"), QuantizationConfig(calibration_windows=4)
    out = tmp_path / "a.onnx"
    quantize(graph, out, windows(4), info, bounds, cache)
    whole = out.read_bytes()
    (kept,) = (tmp_path / "graphs").rglob("*.onnx")
    kept.write_bytes(whole[:-10])
    quantize(graph, out, windows(4), info, bounds, cache)
    quantize(graph, out, windows(4), info, bounds, GraphCache(tmp_path / "none", limit=0))
    assert len(searched) == 3
    assert out.read_bytes() == whole


@pytest.mark.parametrize("most", [1, 2, 3, 10, 42])
def test_the_fewest_that_are_enough_are_found_in_few_questions(most):
    for least in range(1, most + 1):
        asked: list[int] = []

        def enough(count: int, least: int = least, asked: list[int] = asked) -> bool:
            asked.append(count)
            return count >= least

        assert fewest(most, enough) == least
        assert len(asked) <= 2 * np.log2(most) + 1
        assert most not in asked  # all of them need no question


def test_where_more_is_not_always_better_one_less_would_not_do():
    good = {3, 7, 8, 9, 14, 15}
    found = fewest(16, good.__contains__)
    assert found in good | {16}
    assert found - 1 not in good
