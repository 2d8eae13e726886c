"""The median and the upper percentile of a spectrum: what passes by, and what knocks."""

from __future__ import annotations

import numpy as np
import torch

from agent.score.bank import distances, prepare
from trainer.encoder_config import EncoderConfig
from trainer.encoders.registry import build_encoder

RATE, SECONDS, BINS = 16000, 4.0, 129


def noise(seed, tilt=0.3):
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfft(rng.normal(size=round(RATE * SECONDS)))
    spectrum *= np.maximum(np.arange(len(spectrum)), 1) ** -tilt
    wave = np.fft.irfft(spectrum)
    return np.float32(0.05 * wave / wave.std())


def embed(*waves):
    encoder = build_encoder(
        EncoderConfig(kind="spectral_quantiles"), window_seconds=SECONDS, weights=None, seed=0
    )
    with torch.no_grad():
        return encoder(torch.from_numpy(np.stack(waves))).numpy()


def apart(columns, *waves):
    ready = prepare(embed(*waves)[:, columns], "cosine")
    return distances(ready, ready, "cosine")


MEDIAN, UPPER = slice(0, BINS), slice(BINS, 2 * BINS)


def test_they_are_order_statistics_of_the_frames():
    wave = noise(0)
    frames = np.lib.stride_tricks.sliding_window_view(wave, 256)[::256]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(256) / 256)
    power = np.abs(np.fft.rfft(frames * window, axis=1)) ** 2
    level = np.sort(np.log(power / power.mean() + 1e-8), axis=0)[::-1]
    (found,) = embed(wave)
    for columns, share in ((MEDIAN, 0.5), (UPPER, 0.05)):
        expected = level[int(share * len(level))]
        np.testing.assert_allclose(found[columns], expected - expected.mean(), atol=2e-3)


def test_what_passes_by_does_not_reach_the_median():
    wave, passing = noise(1), noise(1)
    time = np.arange(len(wave)) / RATE
    passing[: len(wave) // 3] += np.float32(0.3 * np.sin(2 * np.pi * 2500 * time))[: len(wave) // 3]
    assert apart(MEDIAN, wave, passing)[0, 1] < 0.1 * apart(UPPER, wave, passing)[0, 1]


def test_knocks_reach_the_upper_percentile():
    wave, knocking = noise(2), noise(2)
    ring = np.exp(-np.arange(400) / 60) * np.sin(2 * np.pi * 4000 * np.arange(400) / RATE)
    for start in range(0, len(wave) - 400, 2000):  # eight a second
        knocking[start : start + 400] += np.float32(0.5 * ring)
    other = noise(3)
    assert apart(UPPER, wave, knocking)[0, 1] > 5 * apart(UPPER, wave, other)[0, 1]


def test_a_gain_changes_nothing():
    wave = noise(4)
    assert apart(slice(None), wave, 0.05 * wave)[0, 1] < 1e-6
