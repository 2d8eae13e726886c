"""Autoencoders: what their columns are, against the same figures worked out the long way."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from agent.core.errors import ConfigError
from trainer.encoder_config import EncoderConfig
from trainer.encoders.registry import build_encoder

SECONDS = 1.0
KINDS = [
    ("ae", "mse"), ("ae", "mahala"), ("ae", "mahala_textbook"),
    ("bigru", ""), ("acae", "latent"), ("acae", "mse"),
]  # fmt: skip


def build(kind: str, features: str = "", seconds: float = SECONDS):
    config = EncoderConfig(kind=kind, features=features)
    return build_encoder(config, window_seconds=seconds, weights=None, seed=0)


def noise(windows: int, seconds: float = SECONDS, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(windows, round(16000 * seconds), generator=generator)


def settled(features: str):
    """A baseline that knows the mean alone, covariances of two kinds of noise, and the blocks."""
    encoder = build("ae", features)
    waveforms = noise(6)
    waveforms[4:] = torch.cumsum(waveforms[4:], dim=1) / 20  # another spectrum: the target's
    with torch.no_grad():
        heard = encoder.hear(waveforms)
        # Without this the residual would be nearly all mean, and the two forms the same.
        encoder.last.weight.zero_()
        encoder.last.bias.copy_(heard[:4].mean(dim=(0, 1)).repeat(5))
        encoder.settle(heard, ["source"] * 4 + ["target"] * 2)
        blocks = encoder.residuals(heard).double().numpy()
    return encoder, waveforms, blocks


def inverse_covariances(blocks):
    found = []
    for part in (blocks[:4], blocks[4:]):
        covariance = np.cov(part.reshape(-1, 128), rowvar=False, bias=True)
        ridge = 1e-6 * covariance.diagonal().mean()
        found.append(np.linalg.inv(covariance + ridge * np.eye(128)))
    return found


def test_the_official_mahalanobis_is_the_mean_of_the_full_matrix():
    encoder, waveforms, blocks = settled("mahala")
    expected = [
        min((window @ inverse @ window.T).mean() / 128 for inverse in inverse_covariances(blocks))
        for window in blocks
    ]
    with torch.no_grad():
        found = encoder(waveforms)[:, 0].numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_the_textbook_mahalanobis_is_the_mean_of_distances():
    encoder, waveforms, blocks = settled("mahala_textbook")
    expected = [
        min(np.diagonal(window @ inverse @ window.T).mean() / 128
            for inverse in inverse_covariances(blocks))
        for window in blocks
    ]  # fmt: skip
    with torch.no_grad():
        found = encoder(waveforms)[:, 0].numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-3)
    official, _, _ = settled("mahala")
    with torch.no_grad():
        assert not np.allclose(official(waveforms)[:, 0].numpy(), expected, rtol=0.01)


def test_one_domain_stands_for_both():
    encoder = build("ae", "mahala")
    heard = encoder.hear(noise(4))
    encoder.settle(heard, ["unknown"] * 4)
    one, other = encoder.judge.whiten
    assert torch.equal(one, other)
    assert not torch.equal(one, torch.eye(128))


def test_the_baseline_has_the_published_layers():
    encoder = build("ae")
    widths = [m.out_features for m in encoder.modules() if isinstance(m, torch.nn.Linear)]
    assert widths == [128, 128, 128, 128, 8, 128, 128, 128, 128, 640]
    norms = [m for m in encoder.modules() if isinstance(m, torch.nn.BatchNorm1d)]
    assert len(norms) == 9
    assert {(m.momentum, m.eps) for m in norms} == {(0.01, 1e-3)}


def test_log_mel_is_in_decibels_and_level_across_bands_for_white_noise():
    heard = build("ae").hear(torch.cat([noise(1, 1.0), 10 * noise(1, 1.0)]))
    assert torch.allclose(heard[1] - heard[0], torch.full_like(heard[0], 20.0), atol=1e-3)
    # Filters of unit height would rise by 10 dB from the narrow bands to the wide ones.
    mean = heard[0].mean(dim=0)
    assert float((mean[:40].mean() - mean[-40:].mean()).abs()) < 3.0


def test_the_first_column_is_the_mean_squared_error_and_the_others_sum_the_residual():
    for kind, features in (("ae", "mse"), ("bigru", ""), ("acae", "mse")):
        encoder = build(kind, features)
        waveforms = noise(3)
        with torch.no_grad():
            heard = encoder.hear(waveforms)
            found = encoder(waveforms)
            for window in range(3):
                chosen = torch.full((encoder.places,), window)
                batch = encoder.examples(heard, chosen, torch.arange(encoder.places))
                left = batch - encoder.reconstruct(batch)[0]
                assert found[window, 0] == pytest.approx(float(left.square().mean()), rel=1e-4)
                assert found[window, 1:].mean() == pytest.approx(float(left.mean()), abs=1e-3)


@pytest.mark.parametrize(("kind", "features"), KINDS)
def test_shapes_of_odd_windows(kind, features):
    encoder = build(kind, features, 1.237)
    with torch.no_grad():
        assert encoder(noise(2, 1.237)).shape == (2, encoder.dim)


def test_what_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="features 'x'"):
        build("ae", "x")
    with pytest.raises(ConfigError, match="features 'mahala'"):
        build("acae", "mahala")
    with pytest.raises(ConfigError, match="at least"):
        build("bigru", seconds=0.1)
    with pytest.raises(ConfigError, match="five frames"):
        build("ae", seconds=0.1)
