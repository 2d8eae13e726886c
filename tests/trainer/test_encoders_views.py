import numpy as np
import pytest
import torch

from trainer.encoder_config import EncoderConfig
from trainer.encoders.mn04 import Mn04
from trainer.encoders.registry import build_encoder
from trainer.encoders.views import HIGH_HZ, LOW_HZ, SoundViews, band_matrix, rhythm_matrix

SECONDS, RATE = 2.0, 16000


def embed(encoder, sound):
    with torch.inference_mode():
        return encoder(torch.from_numpy(np.asarray(sound, np.float32)[None])).numpy()[0]


def noise(seed=0, level=0.05, seconds=SECONDS):
    return level * np.random.default_rng(seed).standard_normal(round(seconds * RATE))


@pytest.fixture(scope="module")
def encoder():
    return build_encoder(
        EncoderConfig(kind="sound_views"), window_seconds=SECONDS, weights=None, seed=0
    )


def view(encoder, vector, name):
    found = next(one for one in encoder.views if one.name == name)
    return vector[found.start : found.stop]


def test_order_statistics_are_those_of_the_band_levels(encoder):
    sound = noise(1) * (1 + 0.5 * np.sin(np.arange(round(SECONDS * RATE)) / 3000))
    frames = np.lib.stride_tricks.sliding_window_view(sound, 512)[::250]
    window = np.hanning(513)[:-1]
    power = np.abs(np.fft.rfft(frames * window)) ** 2 * 2 / (512 * (window**2).sum())
    levels = np.sort(10 * np.log10(power @ band_matrix(64) + 1e-11), axis=0)
    n = len(levels)
    vector = embed(encoder, sound)
    np.testing.assert_allclose(view(encoder, vector, "median_level"), levels[n // 2], atol=1e-3)
    shapes = [levels[i] - levels[i].mean() for i in (int(0.05 * n), n // 2, int(0.95 * n), n - 1)]
    np.testing.assert_allclose(view(encoder, vector, "profile"), np.concatenate(shapes), atol=1e-3)
    np.testing.assert_array_equal(
        view(encoder, vector, "quiet"), view(encoder, vector, "profile")[:64]
    )
    np.testing.assert_array_equal(
        view(encoder, vector, "peaks"), view(encoder, vector, "profile")[-64:]
    )
    within = 10 * np.log10((power @ band_matrix(64)).sum(axis=1).mean() + 1e-11)
    assert view(encoder, vector, "loudness")[0] == pytest.approx(within, abs=1e-3)


def test_a_gain_moves_the_views_with_level_by_its_decibels_and_no_other(encoder):
    sound = noise(2)
    quiet, loud = embed(encoder, sound), embed(encoder, sound * 10 ** (6 / 20))
    for one in encoder.views:
        moved = loud[one.start : one.stop] - quiet[one.start : one.stop]
        np.testing.assert_allclose(moved, 6.0 if one.level else 0.0, atol=0.01)


def test_an_impulse_shows_in_the_peaks_and_not_in_the_median(encoder):
    sound = noise(3, 0.01)
    struck = sound.copy()
    struck[9000:9080] += 0.5 * np.sin(np.arange(80) * 2 * np.pi * 3000 / RATE)
    before, after = embed(encoder, sound), embed(encoder, struck)
    peaks = np.abs(view(encoder, after, "peaks") - view(encoder, before, "peaks"))
    median = np.abs(view(encoder, after, "median_level") - view(encoder, before, "median_level"))
    assert peaks.max() > 10
    assert median.max() < 1


def test_rhythm_is_heard_where_it_lies():
    encoder = SoundViews(window_seconds=10.0)
    t = np.arange(10 * RATE) / RATE
    steady = noise(4, seconds=10.0)
    chattering = steady * (1 + 0.8 * np.sin(2 * np.pi * 7.0 * t))
    calm, heard = (
        view(encoder, embed(encoder, sound), "rhythm").reshape(8, 12)
        for sound in (steady, chattering)
    )
    edges = np.geomspace(0.4, 30.0, 13)
    step = int(np.searchsorted(edges, 7.0) - 1)
    assert ((heard - calm)[:, step] > 10).all()
    assert np.abs(heard - calm)[:, step - 2].max() < 6


def test_what_lies_beyond_the_band_edges_is_not_heard(encoder):
    sound = noise(5)
    t = np.arange(len(sound)) / RATE
    beyond = sound + 0.1 * np.sin(2 * np.pi * 7800 * t) + 0.03  # a whistle, and a DC offset
    np.testing.assert_allclose(embed(encoder, beyond), embed(encoder, sound), atol=0.5)
    hertz = np.arange(257) * RATE / 512
    heard = hertz[band_matrix(64).any(axis=1)]
    assert heard.min() >= LOW_HZ
    assert heard.max() <= HIGH_HZ


def test_digital_silence_gives_finite_numbers(encoder):
    assert np.isfinite(embed(encoder, np.zeros(round(SECONDS * RATE)))).all()


@pytest.mark.parametrize("length", [40, 126, 638])
def test_every_step_of_rhythm_averages_some_bins(length):
    np.testing.assert_allclose(rhythm_matrix(length).sum(axis=0), 1.0)


def test_mn04_without_level_hears_no_gain():
    torch.manual_seed(0)
    encoder = Mn04(window_seconds=1.0, features="block12_balanced", level="remove")
    sound = 0.02 * np.random.default_rng(6).standard_normal(32000)
    once, louder = embed(encoder, sound), embed(encoder, 4 * sound)
    np.testing.assert_allclose(once, louder, atol=1e-4)
    kept = Mn04(window_seconds=1.0, features="block12_balanced")
    kept.load_state_dict(encoder.state_dict())
    level = 0.05 / np.sqrt(np.var(sound))
    np.testing.assert_allclose(once, embed(kept, level * sound), atol=1e-3)
