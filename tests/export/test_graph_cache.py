"""Exported graphs are kept for machines that share an encoder, and for no other encoder."""

from __future__ import annotations

import pytest
import torch

import export.graph_cache as caching
from export.graph_cache import GraphCache
from export.onnx_graph import export_graph
from tests.support.encoders import SmallEncoder
from trainer.preset import load_preset


@pytest.fixture
def made(monkeypatch) -> list[str]:
    """What was exported."""
    done: list[str] = []
    for name in ("export_graph", "export_fused"):
        real = getattr(caching, name)

        def counted(encoder, path, real=real, name=name):
            done.append(name)
            return real(encoder, path)

        monkeypatch.setattr(caching, name, counted)
    return done


def test_the_second_time_nothing_is_exported_and_the_graph_is_the_same(tmp_path, made):
    encoder, preset = SmallEncoder(), load_preset("log_mel")
    cache = GraphCache(tmp_path / "graphs")
    first = cache.graph(encoder, preset)
    assert first.fused is not None
    assert first.fused(tmp_path / "anywhere.onnx") is None  # it has no such form, which is kept too
    again = cache.graph(SmallEncoder(), preset)
    assert again == first
    assert again.fused is not None
    assert again.fused(tmp_path / "anywhere.onnx") is None
    assert made == ["export_graph", "export_fused"]
    plain = export_graph(encoder, tmp_path / "plain.onnx")
    assert plain.pinned == first.pinned
    assert plain.path.read_bytes() == first.path.read_bytes()


def test_other_weights_or_windows_are_another_graph(tmp_path, made):
    preset = load_preset("log_mel")
    cache = GraphCache(tmp_path / "graphs")
    one = cache.graph(SmallEncoder(), preset)
    moved = SmallEncoder()
    with torch.no_grad():
        moved.dense.bias += 1
    two = cache.graph(moved, preset)
    longer = preset.model_copy(update={"window": preset.window.model_copy(update={"seconds": 3.0})})
    three = cache.graph(SmallEncoder(), longer)
    assert len({graph.path for graph in (one, two, three)}) == 3
    assert made == ["export_graph"] * 3


def test_a_graph_that_was_cut_off_is_exported_anew(tmp_path, made):
    cache = GraphCache(tmp_path / "graphs")
    first = cache.graph(SmallEncoder(), load_preset("log_mel"))
    first.path.with_name("about.json").unlink()
    first.path.write_bytes(b"half")
    again = cache.graph(SmallEncoder(), load_preset("log_mel"))
    assert made == ["export_graph"] * 2
    assert len(again.path.read_bytes()) > 4
