"""Loudness and log-mel statistics against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from trainer.encoder_config import EncoderConfig
from trainer.encoders.registry import build_encoder
from trainer.preset_file import load_preset


def _encoder(kind, seconds=1.0):
    return build_encoder(EncoderConfig(kind=kind), window_seconds=seconds, weights=None, seed=0)


def test_loudness_is_the_log_of_the_rms():
    encoder = _encoder("loudness")
    sine = torch.sin(2 * torch.pi * 440 * torch.arange(16000) / 16000)
    found = encoder(torch.stack([sine, 0.1 * sine, 0 * sine]))[:, 0]
    assert found[0].item() == pytest.approx(0.5 * math.log(0.5), abs=1e-4)
    assert (found[0] - found[1]).item() == pytest.approx(math.log(10), abs=1e-3)
    assert torch.isfinite(found).all()


def test_log_mel_statistics_see_spectrum_and_modulation():
    encoder = _encoder("log_mel")
    time = torch.arange(16000) / 16000
    steady = torch.sin(2 * torch.pi * 1000 * time)
    found = encoder(torch.stack([steady, steady * (time < 0.5), 0 * steady])).numpy()
    assert found.shape == (3, 256)
    assert np.isfinite(found).all()
    mean, deviation = found[:, :128], found[:, 128:]
    loudest = int(mean[0].argmax())
    assert deviation[0, loudest] < 0.1  # steady
    assert deviation[1, loudest] > 5  # on and off
    assert (deviation[2] < 1e-3).all()
    assert mean[0, loudest] - mean[0, 0] > 10


def test_log_mel_moves_with_the_level_alone():
    encoder = _encoder("log_mel")
    noise = torch.randn(1, 16000, generator=torch.Generator().manual_seed(0))
    shift = encoder(noise * 0.1) - encoder(noise)
    assert torch.allclose(shift[:, :128], torch.tensor(-2 * math.log(10)), atol=1e-2)
    assert torch.allclose(shift[:, 128:], torch.tensor(0.0), atol=1e-2)


@pytest.mark.parametrize("name", ["loudness", "log_mel"])
def test_floor_presets_are_scored_by_euclidean_distance(name):
    preset = load_preset(name)
    assert preset.floor
    assert preset.scorer.metric == "euclidean"
    assert preset.quantization.mode == "none"
