"""mn04 against the reference implementation's numbers, and what a wrong checkpoint says."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from torch.nn import functional

from agent.core.errors import ConfigError
from trainer.encoder_config import EncoderConfig
from trainer.encoders.mn04 import CHECKPOINT
from trainer.encoders.registry import build_encoder


@pytest.fixture(scope="module")
def golden(shared):
    return np.load(shared / "golden" / "mn04" / "mn04_as.npz")


@pytest.fixture(scope="module")
def waveforms(golden):
    return torch.from_numpy(golden["waveforms"].astype(np.float32) / 32768)


def _mn04(shared, features, seconds=4.0):
    config = EncoderConfig(kind="mn04", features=features, weights=CHECKPOINT)
    return build_encoder(config, window_seconds=seconds, weights=shared / "weights", seed=0)


@pytest.mark.parametrize(
    ("features", "oracle"),
    [("last", "embedding"), ("multi", "multi"), ("block12_freq", "block12_freq")],
)
def test_features_are_the_reference_implementations(shared, golden, waveforms, features, oracle):
    encoder = _mn04(shared, features)
    assert not encoder.training
    found = encoder(waveforms).numpy()
    assert found.shape == (2, encoder.dim)
    np.testing.assert_allclose(found, golden[oracle], atol=1e-5)


def test_bands_then_channels_are_brought_to_unit_length(shared, golden, waveforms):
    found = _mn04(shared, "block12_balanced")(waveforms).numpy().reshape(2, 48, 8)
    oracle = golden["block12_freq"].reshape(2, 48, 8)
    oracle = oracle / np.linalg.norm(oracle, axis=1, keepdims=True)
    oracle = oracle / np.linalg.norm(oracle, axis=2, keepdims=True)
    np.testing.assert_allclose(found, oracle, atol=1e-5)


def test_block_7_is_the_reference_implementations_and_balanced(shared, golden, waveforms):
    encoder = _mn04(shared, "block7_balanced")
    seen = []
    encoder.features[7].register_forward_hook(lambda _m, _given, made: seen.append(made))
    found = encoder(waveforms)
    (block,) = seen
    # `multi` begins with the means of block 6 (16 channels) and of block 7 (32).
    np.testing.assert_allclose(block.mean(dim=(2, 3)), golden["multi"][:, 16:48], atol=1e-5)
    bands = block.mean(dim=3).numpy()
    bands = bands / np.linalg.norm(bands, axis=1, keepdims=True)
    bands = bands / np.linalg.norm(bands, axis=2, keepdims=True)
    np.testing.assert_allclose(found.reshape(2, 32, 8), bands, atol=1e-5)
    assert encoder.dim == 256
    _, cells = encoder.with_patches(waveforms)
    assert (
        cells.shape[1:3] == _mn04(shared, "block12_balanced").with_patches(waveforms)[1].shape[1:3]
    )


def test_front_end_is_the_reference_implementations(shared, golden, waveforms):
    mel = _mn04(shared, "last").front_end(waveforms)[:, 0].numpy()
    np.testing.assert_allclose(mel, golden["mel"], atol=2e-3)


def test_the_last_layer_gives_the_reference_tags(shared, golden, waveforms):
    state = torch.load(shared / "weights" / CHECKPOINT, weights_only=True)
    hidden = functional.hardswish(
        functional.linear(
            _mn04(shared, "last")(waveforms),
            state["classifier.2.weight"],
            state["classifier.2.bias"],
        )
    )
    logits = functional.linear(hidden, state["classifier.5.weight"], state["classifier.5.bias"])
    np.testing.assert_allclose(torch.sigmoid(logits).numpy(), golden["tags"], atol=1e-5)


def test_layers_beyond_the_features_are_left_out(shared):
    def size(features):
        return sum(p.numel() for p in _mn04(shared, features).parameters())

    assert size("block12_freq") < 0.5 * size("last")
    assert not any(p.requires_grad for p in _mn04(shared, "last").parameters())


def test_a_missing_checkpoint_names_file_and_source(tmp_path):
    config = EncoderConfig(kind="mn04", weights=CHECKPOINT)
    with pytest.raises(ConfigError) as fault:
        build_encoder(config, window_seconds=1, weights=tmp_path, seed=0)
    assert str(tmp_path / CHECKPOINT) in str(fault.value)
    assert "EfficientAT/releases" in str(fault.value)
    with pytest.raises(ConfigError, match="--weights"):
        build_encoder(config, window_seconds=1, weights=None, seed=0)


def test_a_damaged_or_foreign_checkpoint_is_refused(shared, tmp_path):
    config = EncoderConfig(kind="mn04", weights=CHECKPOINT)
    path = tmp_path / CHECKPOINT
    whole = (shared / "weights" / CHECKPOINT).read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"not a checkpoint"):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=CHECKPOINT):
            build_encoder(config, window_seconds=1, weights=path, seed=0)
    for foreign in ({"some.weight": torch.zeros(3)}, [1, 2], {"features.0.0.weight": 3}):
        torch.save(foreign, path)
        with pytest.raises(ConfigError, match=CHECKPOINT):
            build_encoder(config, window_seconds=1, weights=path, seed=0)
    shutil.copyfile(shared / "weights" / CHECKPOINT, path)
    path.chmod(0o644)
    state = torch.load(path, weights_only=True)
    state["features.3.block.0.0.weight"][0] = float("nan")
    torch.save(state, path)
    with pytest.raises(ConfigError, match="finite"):
        build_encoder(config, window_seconds=1, weights=path, seed=0)


@pytest.mark.parametrize(
    "content",
    [
        b"G0",  # struct.error
        b"\x85",  # IndexError
        b"hr",  # KeyError
        b"\x80\x02X\x01\x00\x00\x00\xfc.",  # UnicodeDecodeError
    ],
)
def test_bytes_that_the_unpickler_stumbles_over_are_a_damaged_checkpoint(tmp_path, content):
    path = tmp_path / CHECKPOINT
    path.write_bytes(content)
    config = EncoderConfig(kind="mn04", weights=CHECKPOINT)
    with pytest.raises(ConfigError, match="damaged"):
        build_encoder(config, window_seconds=1, weights=path, seed=0)


def test_unknown_features_name_the_known_ones():
    with pytest.raises(ConfigError, match="block12_freq, block12_balanced, last, multi"):
        build_encoder(
            EncoderConfig(kind="mn04", features="block99"), window_seconds=1, weights=None, seed=0
        )
