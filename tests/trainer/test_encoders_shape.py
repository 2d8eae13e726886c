"""The spectral shape is a correlation of spectra, deaf to gain and patient with bangs."""

from __future__ import annotations

import numpy as np
import torch
from scipy.signal import stft

from agent.score.bank import distances, prepare
from trainer.encoder_config import EncoderConfig
from trainer.encoders.registry import build_encoder


def noise(seed, tilt=0.0):
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfft(rng.normal(size=32000))
    spectrum *= np.maximum(np.arange(len(spectrum)), 1) ** -tilt
    wave = np.fft.irfft(spectrum)
    return np.float32(0.05 * wave / wave.std())


def shapes(*waves):
    encoder = build_encoder(
        EncoderConfig(kind="spectral_shape"), window_seconds=2.0, weights=None, seed=0
    )
    with torch.no_grad():
        return encoder(torch.from_numpy(np.stack(waves))).numpy()


def cosine_distances(*waves):
    ready = prepare(shapes(*waves), "cosine")
    return distances(ready, ready, "cosine")


def test_it_is_the_mean_log_spectrum_without_its_mean():
    wave = noise(0, 0.5)
    _, _, frames = stft(
        wave,
        window="hann",
        nperseg=1024,
        noverlap=512,
        boundary=None,
        padded=False,
        scaling="spectrum",
    )
    power = np.abs(frames) ** 2
    expected = np.log(power / power.mean() + 1e-8).mean(axis=1)
    np.testing.assert_allclose(shapes(wave)[0], expected - expected.mean(), atol=2e-3)


def test_a_gain_changes_nothing_and_a_tone_does():
    wave = noise(1, 0.3)
    tone = wave + np.float32(0.02 * np.sin(2 * np.pi * 3000 * np.arange(32000) / 16000))
    table = cosine_distances(wave, wave * np.float32(0.1), noise(2, 0.3), tone)
    assert table[0, 1] < 1e-6
    assert table[0, 3] > table[0, 1] + 1e-3


def test_one_bang_counts_as_one_frame():
    wave = noise(3, 0.3)
    bang = wave.copy()
    bang[10_000:10_200] += np.float32(np.random.default_rng(4).normal(size=200))
    table = cosine_distances(wave, bang, noise(5, 0.5))
    assert table[0, 1] < table[0, 2] / 5
