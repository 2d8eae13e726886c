"""YAMNet and the speech embedding give what their published files give."""

from __future__ import annotations

import contextlib

import numpy as np
import onnxruntime
import pytest
import torch

from agent.capture.files import read_audio
from agent.core.errors import ConfigError
from trainer.encoder_config import EncoderConfig
from trainer.encoders.registry import build_encoder
from trainer.encoders.speech import SpeechEmbedding
from trainer.encoders.yamnet import Yamnet
from trainer.zoo.tflite import read_layers

YAMNET, SPEECH = "yamnet_spectra_in.tflite", "speech_embedding.onnx"
# What TensorFlow Lite's own interpreter gives of the file (INT8, scale 6 / 255) for the patch of
# `chirps`: twelve channels, and their means over time and bands in the map of each feature.
GOLDEN = {
    "middle": (
        [21, 65, 97, 165, 206, 210, 229, 245, 247, 249, 252, 255],
        [0.477, 0.664, 0.753, 0.615, 0.904, 0.505, 0.789, 3.216, 1.081, 0.552, 1.218, 1.557],
    ),
    "late": (
        [56, 114, 119, 195, 215, 238, 285, 398, 414, 465, 476, 480],
        [0.513, 0.408, 0.542, 0.786, 0.428, 0.456, 0.604, 0.401, 0.477, 0.44, 0.417, 0.392],
    ),
    "last": (
        [31, 225, 234, 296, 328, 548, 591, 600, 643, 715, 898, 901],
        [1.631, 1.353, 1.686, 0.906, 0.988, 1.224, 2.012, 1.286, 1.0, 1.796, 1.545, 0.878],
    ),
}


def chirps() -> np.ndarray:
    """A second of sweeping tones and clicks: all of YAMNet's bands hear something."""
    t = np.arange(15600) / 16000
    sound = 0.2 * np.sin(2 * np.pi * (200 * t + 1500 * t**2)) + 0.05 * np.sin(6000 * t)
    sound[::2000] += 0.5
    return sound.astype(np.float32)


@pytest.fixture
def weights(shared):
    return shared / "weights"


@pytest.mark.parametrize("features", ["middle", "late", "last"])
def test_yamnet_gives_what_the_tflite_file_gives(weights, features):
    encoder = Yamnet(window_seconds=0.975, features=features)
    encoder.load_published(weights / YAMNET)
    with torch.inference_mode():
        logs = encoder.front_end(torch.from_numpy(chirps())[None])
        found = encoder.embed_patches(logs.reshape(1, 1, 96, 64))[0].mean(dim=(1, 2)).numpy()
    places, wanted = GOLDEN[features]
    # Activations are rounded to 6 / 255 there, layer by layer.
    assert np.abs(found[places] - np.array(wanted)).max() < 0.06
    assert np.corrcoef(found[places], wanted)[0, 1] > 0.995


def test_the_speech_front_end_gives_what_the_shipped_one_gives(weights, shared):
    clip = next((shared / "data" / "esc10").rglob("*.ogg"))
    sound = read_audio(clip, rate=16000)[:32000]
    shipped = onnxruntime.InferenceSession(weights / "speech_melspectrogram.onnx")
    (wanted,) = shipped.run(None, {"input": sound[None] * 32768})
    with torch.inference_mode():
        found = SpeechEmbedding(window_seconds=2.0).front_end(torch.from_numpy(sound)[None])
    np.testing.assert_allclose(found[0].numpy(), wanted[0, 0] / 10 + 2, atol=2e-4)


def test_one_pass_gives_the_embeddings_of_all_windows(weights):
    encoder = SpeechEmbedding(window_seconds=2.0)
    encoder.load_published(weights / SPEECH)
    mel = np.random.default_rng(0).normal(3, 1, (1, 197, 32)).astype(np.float32)
    with torch.inference_mode():
        found = encoder.embed_frames(torch.from_numpy(mel))[0].numpy()
    shipped = onnxruntime.InferenceSession(weights / SPEECH)
    name = shipped.get_inputs()[0].name
    assert found.shape == (96, (197 - 76) // 8 + 1)
    for place in range(found.shape[1]):
        window = mel[:, 8 * place : 8 * place + 76, :, None]
        (wanted,) = shipped.run(None, {name: window})
        np.testing.assert_allclose(found[:, place], wanted[0, 0, 0], atol=2e-4)


@pytest.mark.parametrize(("kind", "file"), [("yamnet", YAMNET), ("speech_embedding", SPEECH)])
def test_level_removed_a_gain_changes_nothing(weights, kind, file):
    config = EncoderConfig(kind=kind, level="remove", weights=file)
    encoder = build_encoder(config, window_seconds=2.0, weights=weights, seed=0)
    sound = torch.from_numpy(np.tile(chirps(), 3)[None, :32000])
    with torch.inference_mode():
        once, louder = encoder(sound).numpy(), encoder(4 * sound).numpy()
        silent = encoder(torch.zeros_like(sound)).numpy()
    np.testing.assert_allclose(once, louder, atol=1e-3)
    assert np.isfinite(silent).all()
    (view,) = encoder.views
    assert (view.name, view.start, view.stop) == (kind, 0, encoder.dim)


@pytest.mark.parametrize(("encoder", "file"), [(Yamnet, YAMNET), (SpeechEmbedding, SPEECH)])
def test_a_file_that_is_cut_short_or_another_is_refused(weights, tmp_path, encoder, file):
    whole = (weights / file).read_bytes()
    made = encoder(window_seconds=2.0)
    for name, content in (
        ("short", whole[: len(whole) // 2]),
        ("text", b"no model at all"),
        ("empty", b""),
        ("other", (weights / (SPEECH if file == YAMNET else YAMNET)).read_bytes()),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ConfigError):
            made.load_published(tmp_path / name)
    with pytest.raises(ConfigError, match="not there"):
        made.load_published(tmp_path / "none")


def test_damaged_model_files_end_in_words(weights, tmp_path):
    whole = bytearray((weights / YAMNET).read_bytes())
    rng = np.random.default_rng(0)
    for trial in range(60):
        bent = bytearray(whole)
        # Tables and vtables lie at both ends; weights between.
        for place in rng.integers(0, 60_000, 20):
            bent[place if trial % 2 else -place - 1] = int(rng.integers(0, 256))
        (tmp_path / "bent.tflite").write_bytes(bytes(bent))
        # Anything but the house's own error would come through.
        with contextlib.suppress(ConfigError):
            read_layers(tmp_path / "bent.tflite")


@pytest.mark.parametrize("kind", ["yamnet", "speech_embedding"])
def test_windows_too_short_are_refused(kind):
    with pytest.raises(ConfigError, match=r"windows are of 0\.5 s"):
        build_encoder(EncoderConfig(kind=kind), window_seconds=0.5, weights=None, seed=0)
