"""Spectra by short matrix products against numpy in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trainer.encoders.spectrum import (
    MAX_FACTOR,
    BandSpectrogram,
    Spectrogram,
    Spectrum,
    factors_of,
    frame,
    good_length,
    mel_filters,
)


@pytest.mark.parametrize("samples", [2, 64, 400, 1024, 15999, 16000, 160000, 160001, 134])
def test_spectrum_is_that_of_numpy(samples):
    signal = np.random.default_rng(0).standard_normal((2, samples)).astype(np.float32)
    module = Spectrum(samples)
    expected = np.abs(np.fft.rfft(signal.astype(np.float64), module.length))
    found = module(torch.from_numpy(signal)).numpy()
    assert found.shape == expected.shape == (2, module.bins)
    assert module.length - samples <= max(2, samples // 100)
    assert np.abs(found - expected).max() < 1e-5 * expected.max()


def test_power_is_the_square():
    signal = torch.randn(3, 1024, generator=torch.Generator().manual_seed(0))
    power = Spectrum(1024, power=True)(signal)
    assert torch.allclose(power, Spectrum(1024)(signal) ** 2, rtol=1e-5)


@pytest.mark.parametrize("size", [34, 64, 512, 640, 1024])
@pytest.mark.parametrize("power", [True, False])
def test_bands_are_summed_of_bins_in_any_order(size, power):
    draw = torch.Generator().manual_seed(0)
    signal, filters = torch.randn(2, 5 * size, generator=draw), torch.rand(size // 2 + 1, 9)
    spectrogram = Spectrogram(size, size // 3, power=power)
    expected = torch.matmul(spectrogram(signal), filters)
    found = BandSpectrogram(spectrogram, filters)(signal)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)


def test_a_pure_tone_lands_in_its_bin():
    time = torch.arange(16000) / 16000
    spectrum = Spectrum(16000)(torch.sin(2 * torch.pi * 1234 * time)[None])[0]
    assert int(spectrum.argmax()) == 1234
    assert spectrum[1234].item() == pytest.approx(8000, rel=1e-4)


def test_tables_stay_small():
    for samples, limit in ((1024, 32_000), (160_000, 1_000_000)):
        size = sum(b.numel() * b.element_size() for b in Spectrum(samples).buffers())
        assert size < limit


@pytest.mark.parametrize("length", [2, 1024, 44100, 160000, 441000])
def test_factors_multiply_to_the_length(length):
    factors = factors_of(length)
    assert factors is not None
    assert np.prod(factors) == length
    assert max(factors) <= MAX_FACTOR
    assert factors[0] % 2 == 0


def test_a_length_without_small_factors_is_padded():
    assert factors_of(2 * 67) is None
    assert factors_of(15999) is None
    assert good_length(15999) == 16000


@pytest.mark.parametrize(("size", "hop"), [(1024, 512), (1024, 320), (8, 8), (5, 7), (6, 4)])
def test_frames_are_torchs_unfold(size, hop):
    for samples in (size, size + hop - 1, 4 * size + 3 * hop + 1):
        signal = torch.arange(2.0 * samples).reshape(2, samples)
        assert torch.equal(frame(signal, size, hop), signal.unfold(1, size, hop))


def test_spectrogram_is_torchs_stft():
    signal = torch.randn(2, 16000, generator=torch.Generator().manual_seed(0))
    found = Spectrogram(1024, 320, window=800, periodic=False)(signal)
    expected = torch.stft(
        signal.double(),
        1024,
        320,
        800,
        torch.hann_window(800, periodic=False, dtype=torch.float64),
        center=False,
        return_complex=True,
    ).abs()
    assert torch.allclose(found.double(), expected.transpose(1, 2), atol=1e-5 * expected.max())


def test_slaney_filters_cover_every_bin_and_none_is_empty():
    filters = mel_filters(rate=16000, size=1024, mels=128, low=0, high=8000)
    assert filters.shape == (513, 128)
    assert filters.min() >= 0
    assert (filters.sum(dim=0) > 0).all()
    assert (filters[2:-2].sum(dim=1) > 0).all()
