"""Execution providers: what is there is used, with options that suit the device."""

from __future__ import annotations

import logging

import numpy as np
import onnxruntime
import pytest
from support.bundles import build_graph, info, tone

from agent.config.encode import InferenceConfig
from agent.core.errors import BundleError
from agent.encode.onnx import OnnxEncoder
from agent.encode.providers import CPU, CUDA, TENSORRT, choose_providers, options_of


@pytest.fixture
def graph(tmp_path):
    build_graph(tmp_path / "encoder.onnx")
    return tmp_path / "encoder.onnx"


def test_a_jetson_uses_what_it_has_in_the_order_asked_for(graph):
    there = [TENSORRT, CUDA, CPU]
    assert choose_providers((CUDA, CPU), there, where=graph) == (CUDA, CPU)
    with pytest.raises(BundleError, match=f"has no execution provider {CUDA}"):
        choose_providers((CUDA,), [CPU], where=graph)


def test_without_its_gpu_the_encoder_is_run_by_the_processor_with_a_notice(graph, caplog):
    asked = InferenceConfig(
        providers=(TENSORRT, CUDA, CPU), provider_options={CUDA: {"device_id": "0"}}
    )
    plain = OnnxEncoder(graph, info())
    plain.start()
    encoder = OnnxEncoder(graph, info(), inference=asked)
    with caplog.at_level(logging.WARNING):
        encoder.start()
    assert f"no {TENSORRT}, {CUDA} here" in caplog.text
    np.testing.assert_array_equal(encoder.encode(tone(1)[None]), plain.encode(tone(1)[None]))


def test_a_provider_that_does_not_begin_is_told_of(graph, caplog, monkeypatch):
    """Installed, but no device: onnxruntime goes on without, and would say nothing."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    encoder = OnnxEncoder(graph, info(), inference=InferenceConfig(providers=(CUDA, CPU)))
    with caplog.at_level(logging.WARNING), pytest.warns(UserWarning, match="not in available"):
        encoder.start()
    assert f"{CUDA} did not begin" in caplog.text
    assert encoder.encode(tone(1)[None]).shape == (1, info().dim)


def test_engines_are_kept_in_the_devices_own_folder_and_what_is_given_goes_before(tmp_path):
    kept = options_of(TENSORRT, {}, tmp_path)
    assert kept["trt_engine_cache_enable"] == "1"
    assert kept["trt_engine_cache_path"] == str(tmp_path)
    assert not [name for name in options_of(TENSORRT, {}) if "cache" in name]
    given = {TENSORRT: {"trt_fp16_enable": "0", "trt_dla_enable": "1"}}
    changed = options_of(TENSORRT, given, tmp_path)
    assert (changed["trt_fp16_enable"], changed["trt_dla_enable"]) == ("0", "1")
    assert options_of(CPU, given) == {}


@pytest.mark.parametrize("changes", [{"arena": False}, {"memory_pattern": True}, {"threads": 2}])
def test_how_it_is_run_changes_no_embedding(graph, changes):
    plain, other = (
        OnnxEncoder(graph, info(), inference=InferenceConfig(**fields)) for fields in ({}, changes)
    )
    plain.start()
    other.start()
    sound = np.stack([tone(1, seed=seed) for seed in range(3)])
    np.testing.assert_allclose(other.encode(sound), plain.encode(sound), rtol=1e-5, atol=1e-5)
