"""Exported graphs are kept for machines that share an encoder, and for no other encoder."""

from __future__ import annotations

import os

import pytest
import torch

import trainer.graph.graph_cache as caching
from agent.bundle.manifest import ENCODER, FRAMES
from agent.learn.encoders import GRAPHS
from tests.support.encoders import SmallEncoder
from trainer.encoders.registry import build_encoder
from trainer.graph.graph_cache import GraphCache
from trainer.graph.onnx_graph import export_graph
from trainer.graph.shipped import shipped_graph
from trainer.preset_file import load_preset


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


def test_a_copy_outlives_the_cache_and_its_limit(tmp_path, made):
    preset, encoders = load_preset("log_mel"), [SmallEncoder(seed) for seed in range(3)]
    size = export_graph(encoders[0], tmp_path / "plain.onnx").path.stat().st_size
    cache = GraphCache(tmp_path / "graphs", limit=round(2.5 * size))
    taken = []
    for number, encoder in enumerate(encoders):
        (tmp_path / str(number)).mkdir()
        taken.append(cache.graph(encoder, preset, tmp_path / str(number)))
        for place in (tmp_path / "graphs").iterdir():  # made some while ago
            os.utime(place, ns=(place.stat().st_mtime_ns - 10**9,) * 2)
    assert len(list((tmp_path / "graphs").iterdir())) == 2  # the first had to go
    assert all(graph.path.stat().st_size >= size for graph in taken)
    made.clear()
    (tmp_path / "again").mkdir()
    again = cache.graph(encoders[2], preset, tmp_path / "again")
    assert made == []
    assert again.path.read_bytes() == taken[2].path.read_bytes()
    cache.graph(encoders[0], preset, tmp_path / "again")
    assert made == ["export_graph"]


@pytest.mark.parametrize("kind", ["none", "no folder"])
def test_without_a_cache_the_graph_is_exported_where_it_is_wanted(tmp_path, made, kind):
    (tmp_path / "file").write_text("in the way")
    cache = GraphCache(tmp_path / "file" / "graphs", limit=0 if kind == "none" else 10**9)
    graph = cache.graph(SmallEncoder(), load_preset("log_mel"), tmp_path)
    assert graph.path.parent == tmp_path
    assert graph.path.stat().st_size > 0


def test_other_code_or_libraries_are_another_graph(tmp_path, monkeypatch):
    cache, preset = GraphCache(tmp_path / "graphs"), load_preset("log_mel")
    paths = {cache.graph(SmallEncoder(), preset).path}
    monkeypatch.setattr(caching, "version", lambda _: "0.0.1")
    caching.code_digest.cache_clear()
    paths.add(cache.graph(SmallEncoder(), preset).path)
    (tmp_path / "trainer" / "encoders").mkdir(parents=True)
    (tmp_path / "trainer" / "encoders" / "own.py").write_text("changed")
    monkeypatch.setattr(caching.trainer, "__file__", str(tmp_path / "trainer" / "__init__.py"))
    caching.code_digest.cache_clear()
    paths.add(cache.graph(SmallEncoder(), preset).path)
    caching.code_digest.cache_clear()
    assert len(paths) == 3


def test_a_damaged_graph_is_exported_anew(tmp_path, made):
    cache, preset = GraphCache(tmp_path / "graphs"), load_preset("log_mel")
    path = cache.graph(SmallEncoder(), preset).path
    whole = path.read_bytes()
    for spoilt in (b"", whole[:-10], whole[:-10] + bytes(10)):  # the last: other weights
        path.write_bytes(spoilt)
        assert cache.graph(SmallEncoder(), preset).path.read_bytes() == whole
    path.with_name("about.json").write_text("[]")
    assert cache.graph(SmallEncoder(), preset).path.read_bytes() == whole
    assert made == ["export_graph"] * 5
    assert cache.graph(SmallEncoder(), preset).path.read_bytes() == whole
    assert made == ["export_graph"] * 5


def test_the_encoder_that_comes_with_auscult_is_not_exported_anew(tmp_path, made):
    preset = load_preset("auscult_scratch")
    encoder = build_encoder(
        preset.encoder, window_seconds=preset.window.seconds, weights=None, seed=3
    )
    cache = GraphCache(tmp_path / "graphs")
    graph = cache.graph(encoder, preset)
    assert not made
    shipped = GRAPHS / "auscult_scratch"
    assert graph.path.read_bytes() == (shipped / ENCODER).read_bytes()
    assert graph.pinned
    assert graph.frames is not None
    frames = graph.frames(tmp_path / "frames.onnx")
    assert frames is not None
    assert frames.path.read_bytes() == (shipped / FRAMES).read_bytes()

    other = preset.model_copy(update={"window": preset.window.model_copy(update={"seconds": 5.0})})
    assert shipped_graph(encoder, other, tmp_path / "other.onnx") is None


def test_a_shipped_graph_that_disagrees_is_not_used(tmp_path, monkeypatch, caplog):
    preset = load_preset("auscult_scratch")
    encoder = build_encoder(
        preset.encoder, window_seconds=preset.window.seconds, weights=None, seed=0
    )
    real = encoder.forward
    monkeypatch.setattr(encoder, "forward", lambda waveform: 1.1 * real(waveform))
    assert shipped_graph(encoder, preset, tmp_path / "graph.onnx") is None
    assert "exported anew" in caplog.text
