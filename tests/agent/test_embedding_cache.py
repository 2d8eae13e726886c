"""Embeddings are computed once, never taken from anything else, and lost rather than wrong."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sqlite3
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

import agent.core.byte_cache as keeping
import agent.encode.embedding_cache as caching
from agent.bundle.manifest import EncoderInfo
from agent.commands.cache import cache as cache_command
from agent.core.cache_home import GRAPHS, cache_home, cache_limit
from agent.core.errors import ConfigError
from agent.encode.embedding_cache import FILE, EmbeddingCache, graph_name, window_keys
from agent.encode.onnx import OnnxEncoder
from agent.learn.embed import embed
from tests.support.graphs import small_graph

SAMPLES = 2000


@pytest.fixture
def graph(tmp_path):
    return small_graph(tmp_path / "encoder.onnx", SAMPLES)


@pytest.fixture
def computed(monkeypatch):
    """How many windows an encoder was asked for."""
    asked = []
    real = OnnxEncoder.encode

    def counted(self, waveforms):
        asked.append(len(waveforms))
        return real(self, waveforms)

    started = OnnxEncoder.start

    def start(self):
        before = len(asked)
        started(self)
        del asked[before:]  # the run that warms it up

    monkeypatch.setattr(OnnxEncoder, "encode", counted)
    monkeypatch.setattr(OnnxEncoder, "start", start)
    return asked


def windows(count, seed=0):
    return np.random.default_rng(seed).normal(0, 0.1, (count, SAMPLES)).astype(np.float32)


def test_a_window_is_embedded_once_and_to_the_same_bits(graph, tmp_path, computed):
    path, info = graph
    cache = EmbeddingCache(tmp_path / "cache" / "e.sqlite", limit=10**8)
    sound = windows(150)
    plain = embed(path, info, sound)
    computed.clear()

    first = embed(path, info, sound, cache=cache)
    assert sum(computed) == 150
    again = embed(path, info, sound[::-1], cache=EmbeddingCache(cache.path, limit=10**8))

    assert sum(computed) == 150
    np.testing.assert_array_equal(first, plain)
    np.testing.assert_array_equal(again, plain[::-1])
    assert cache.path.stat().st_mode & 0o077 == 0


def test_a_changed_recording_or_graph_or_runtime_is_never_taken_for_another(
    graph, tmp_path, computed, monkeypatch
):
    path, info = graph
    cache = EmbeddingCache(tmp_path / "e.sqlite", limit=10**8)
    sound = windows(4)
    embed(path, info, sound, cache=cache)
    computed.clear()

    touched = sound.copy()
    touched[2, 777] = np.nextafter(touched[2, 777], np.float32(1))  # one bit of one sample
    found = embed(path, info, touched, cache=cache)
    assert computed == [1]
    np.testing.assert_array_equal(found, embed(path, info, touched))

    computed.clear()
    other, _ = small_graph(tmp_path / "other.onnx", SAMPLES, seed=1)
    found = embed(other, info, sound, cache=cache)
    assert sum(computed) == 4
    np.testing.assert_array_equal(found, embed(other, info, sound))

    # Tensors that lie beside a large graph, another onnxruntime, another processor.
    names = {graph_name(path)}
    path.with_name(f"{path.name}.data").write_bytes(b"tensors")
    names.add(graph_name(path))
    monkeypatch.setattr(caching.onnxruntime, "__version__", "0.0.1")
    names.add(graph_name(path))
    monkeypatch.setattr(caching, "in_words", lambda _: "another processor")
    names.add(graph_name(path))
    assert len(names) == 4
    assert len({window_keys(name, sound[:1])[0] for name in names}) == 4


def test_a_file_that_is_damaged_anywhere_costs_time_and_no_result(graph, tmp_path, caplog):
    path, info = graph
    place, sound = tmp_path / "e.sqlite", windows(40)
    wanted = embed(path, info, sound)

    def fresh():
        return EmbeddingCache(place, limit=10**8)

    embed(path, info, sound, cache=fresh())
    whole = place.read_bytes()
    rng = np.random.default_rng(0)
    spoilt = [b"", b"no database", whole[: len(whole) // 2], whole[:100] + bytes(len(whole) - 100)]
    for at in rng.integers(0, len(whole), 25):  # single bytes, in values and in the tree
        one = bytearray(whole)
        one[at] ^= 0xFF
        spoilt.append(bytes(one))
    for data in spoilt:
        place.write_bytes(data)
        np.testing.assert_array_equal(embed(path, info, sound, cache=fresh()), wanted)
        # And it works again afterwards.
        np.testing.assert_array_equal(embed(path, info, sound, cache=fresh()), wanted)
        assert fresh().kept().count > 0
    assert "damaged" in caplog.text


def test_a_value_that_was_exchanged_is_not_believed(graph, tmp_path, computed):
    path, info = graph
    cache, sound = EmbeddingCache(tmp_path / "e.sqlite", limit=10**8), windows(2)
    wanted = embed(path, info, sound, cache=cache)
    cache.close()
    with sqlite3.connect(cache.path) as base:
        (first, second) = (value for (value,) in base.execute("SELECT value FROM embedding"))
        base.execute("UPDATE embedding SET value = ? WHERE value = ?", (first, second))
    computed.clear()

    found = embed(path, info, sound, cache=cache)

    assert computed == [1]
    np.testing.assert_array_equal(found, wanted)


def test_the_longest_unused_goes_when_it_is_full(tmp_path, monkeypatch):
    cache = EmbeddingCache(tmp_path / "e.sqlite", limit=2_000_000)
    now = [1_000_000.0]
    monkeypatch.setattr(keeping.time, "time", lambda: now[0])
    rng = np.random.default_rng(0)

    def batch(number):
        return [b"%019d%d" % (number * 100 + i, 0) for i in range(100)]

    for number in range(12):  # of 0.4 MB each
        now[0] += 10_000
        cache.keep(batch(number), rng.normal(size=(100, 1000)).astype(np.float32))
        assert len(cache.find(batch(0), 1000)) == 100  # in use all the time

    assert cache.kept().bytes <= 2_000_000
    assert len(cache.find(batch(11), 1000)) == 100
    assert not cache.find(batch(3), 1000)


def _write(place, start, count, fault):
    try:
        cache = EmbeddingCache(place, limit=10**8)
        for number in range(start, start + count):
            keys = [b"%020d" % (number * 20 + i) for i in range(20)]
            cache.keep(keys, np.full((20, 50), number, np.float32))
            found = cache.find(keys, 50)
            assert len(found) == 20
            assert all((vector == number).all() for vector in found.values())
    except BaseException as problem:
        fault.put(repr(problem))
        raise


def test_processes_that_write_at_once_lose_nothing(tmp_path):
    context = multiprocessing.get_context("spawn")
    place, faults = tmp_path / "new" / "e.sqlite", context.Queue()
    # Each writes its own, and half of its neighbour's.
    others = [context.Process(target=_write, args=(place, n * 20, 30, faults)) for n in range(3)]
    for one in others:
        one.start()
    for one in others:
        one.join(120)
    assert [one.exitcode for one in others] == [0, 0, 0], faults.get(timeout=5)
    cache = EmbeddingCache(place, limit=10**8)
    assert cache.kept().count == 70 * 20
    found = cache.find([b"%020d" % i for i in range(1400)], 50)
    assert all((vector == place_ // 20).all() for place_, vector in found.items())
    assert len(found) == 1400


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_without_permission_it_does_without(graph, tmp_path):
    path, info = graph
    (tmp_path / "closed").mkdir(mode=0o500)
    cache = EmbeddingCache(tmp_path / "closed" / "auscult" / "e.sqlite", limit=10**8)
    assert embed(path, info, windows(2), cache=cache).shape == (2, info.dim)


def test_where_no_file_can_be_it_does_without(graph, tmp_path, caplog):
    path, info = graph
    (tmp_path / "file").write_text("in the way")
    cache = EmbeddingCache(tmp_path / "file" / "e.sqlite", limit=10**8)
    assert embed(path, info, windows(2), cache=cache).shape == (2, info.dim)
    assert cache.kept().count == 0
    assert "not kept" in caplog.text
    off = EmbeddingCache(tmp_path / "off.sqlite", limit=0)
    embed(path, info, windows(2), cache=off)
    assert not off.path.exists()


def test_the_limit_is_a_number_of_megabytes(monkeypatch):
    monkeypatch.setenv("AUSCULT_CACHE_MB", "2.5")
    assert cache_limit() == 2_500_000
    for wrong in ("much", "-1", "nan", "inf"):
        monkeypatch.setenv("AUSCULT_CACHE_MB", wrong)
        with pytest.raises(ConfigError, match="AUSCULT_CACHE_MB"):
            cache_limit()


def test_on_a_small_disk_it_takes_little(tmp_path, monkeypatch):
    def free(count):
        usage = SimpleNamespace(total=10**12, used=10**12 - count, free=count)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)

    free(500_000_000)
    assert cache_limit() == 50_000_000
    cache_home().mkdir(parents=True)
    (cache_home() / FILE).write_bytes(bytes(1_000_000))  # what is its own does not count against it
    assert cache_limit() == 50_100_000
    free(10**12)
    assert cache_limit() == 1_024_000_000
    monkeypatch.setenv("AUSCULT_CACHE_MB", "3000")
    free(10)
    assert cache_limit() == 3_000_000_000


def test_the_command_shows_and_clears_it(graph, monkeypatch):
    monkeypatch.setenv("AUSCULT_CACHE_MB", "1024")
    path, info = graph
    cache = EmbeddingCache.of_user()
    embed(path, info, windows(3), cache=cache)
    kept = cache_home() / GRAPHS / "digest" / "plain"
    kept.mkdir(parents=True)
    (kept / "graph.onnx").write_bytes(bytes(1_000_000))
    runner = CliRunner()

    shown = runner.invoke(cache_command, [])
    assert shown.exit_code == 0, shown.output
    assert "3 embeddings" in shown.output
    assert "1 graph: 1.0 MB of 1024" in shown.output

    cleared = runner.invoke(cache_command, ["--clear"])
    assert cleared.exit_code == 0, cleared.output
    assert "0 embeddings: 0.0 MB" in cleared.output
    assert not kept.exists()
    assert not cache.path.exists()


def test_many_windows_are_embedded_in_their_order_on_every_core(graph, computed):
    path, info = graph
    assert isinstance(info, EncoderInfo)
    sound = windows(130)
    encoder = OnnxEncoder(path, info)
    encoder.start()
    wanted = encoder.encode(sound)
    computed.clear()
    np.testing.assert_array_equal(embed(path, info, sound), wanted)
    assert computed == [1] * 130  # INT8 must not see windows beside each other
