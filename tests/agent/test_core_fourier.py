"""Power of frames, and sound with what is not finite in it."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from agent.core.finite import silenced
from agent.core.fourier import frame_power, power_of
from agent.explain.spectrum import Grid, cell_levels, levels_of, mean_powers, summary

NOISE = np.random.default_rng(0).standard_normal(48000).astype(np.float32)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_the_power_of_a_spectrum_is_its_magnitude_squared(kind):
    frames = NOISE[:40960].astype(kind).reshape(2, 5, 4096)
    spectra = np.fft.rfft(frames, axis=2)
    wanted = np.abs(spectra) ** 2
    found = power_of(spectra)
    assert found.dtype == kind
    np.testing.assert_allclose(found, wanted, rtol=1e-5 if kind is np.float32 else 1e-12)
    np.testing.assert_allclose(frame_power(frames), wanted, rtol=1e-3, atol=1e-3)


def test_scipy_that_another_thread_is_just_loading_is_left_alone():
    code = """
import sys, types
import numpy as np
sys.modules["scipy.fft"] = types.ModuleType("scipy.fft")  # so it stands there until it is whole
from agent.core.fourier import by_scipy, frame_power, power_of
frames = np.random.default_rng(0).standard_normal((2, 4096)).astype(np.float32)
assert (frame_power(frames) == power_of(np.fft.rfft(frames, axis=1))).all()
assert not by_scipy()
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_sound_that_is_finite_is_not_copied_and_the_rest_is_silenced():
    assert silenced(NOISE) is NOISE
    # The sum of two infinities is no number, and no warning.
    broken = np.array([1, np.nan, np.inf, -np.inf, -1], np.float32)
    np.testing.assert_array_equal(silenced(broken), [1, 0, 0, 0, -1])
    assert silenced(NOISE[:0]).shape == (0,)


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
@pytest.mark.parametrize("seconds", [0.01, 0.25, 1.0])
def test_stretches_measured_at_once_are_those_measured_alone(rate, seconds):
    grid = Grid.of(rate)
    stretches = NOISE[: int(seconds * rate) // 4 * 4].reshape(4, -1)
    together = 10.0 * np.log10(mean_powers(stretches, grid))
    for one, level in zip(stretches, together, strict=True):
        alone = summary(cell_levels(one, grid))[0]
        np.testing.assert_allclose(level, alone, rtol=0, atol=1e-9)
        np.testing.assert_allclose(levels_of(one, grid), alone, rtol=0, atol=1e-9)
