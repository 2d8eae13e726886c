"""Which sound may be judged: dead, gated, saturated and broken input is told from quiet and loud."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
import soxr

from agent.core.records import Validity
from agent.window.validity import assess, level_dbfs

RATE = 16000
N = RATE * 10
T = np.arange(N) / RATE


def noise(level=0.05, seed=0):
    return np.random.default_rng(seed).normal(0, level, N)


def pcm(samples, bits=16):
    """What a converter of so many bits makes of it, saturating."""
    top = 2 ** (bits - 1)
    return (np.clip(np.round(samples * top), -top, top - 1) / top).astype(np.float32)


def verdict(samples):
    validity, reason = assess(np.asarray(samples, dtype=np.float32), RATE)
    assert bool(reason) is (validity is not Validity.VALID)
    return validity


@pytest.mark.parametrize("dbfs", [-20, -60, -90, -100])
@pytest.mark.parametrize("bits", [16, 24])
def test_a_quiet_healthy_room_is_not_silence(dbfs, bits):
    assert verdict(pcm(noise(10 ** (dbfs / 20)), bits)) is Validity.VALID


@pytest.mark.parametrize("constant", [0.0, 0.3, -1.0, 1e-8])
def test_a_constant_is_silence(constant):
    assert verdict(np.full(N, constant)) is Validity.SILENT


def test_a_converter_left_open_is_silence():
    assert verdict(pcm(noise(10 ** (-125 / 20)), 24)) is Validity.SILENT


def test_silence_is_known_after_resampling():
    assert verdict(soxr.resample(np.full(3 * N, 0.3, np.float32), 48000, RATE)) is Validity.SILENT


def test_quiet_sound_on_a_large_offset_is_heard():
    assert verdict(0.5 + noise(1e-4)) is Validity.VALID


@pytest.mark.parametrize("filler", [0.0, 0.02, 0.3])
@pytest.mark.parametrize("stored", [16000, 44100])
@pytest.mark.parametrize("rate", [16000, 32000])
def test_lost_sound_is_a_gap(filler, stored, rate):
    """Also after resampling, which leaves rounding on the constant."""
    sound = noise().astype(np.float32)
    sound[40000:90000] = filler
    assert assess(soxr.resample(sound, stored, rate), rate)[0] is Validity.GAP


@pytest.mark.parametrize("peak", [0.01, 0.9])
def test_the_quietest_pause_of_a_good_microphone_is_no_gap(peak):
    sound = noise(10 ** (-105 / 20))
    sound[N // 2] = peak
    assert verdict(pcm(sound, 24)) is Validity.VALID


def test_a_pause_with_room_noise_is_no_gap():
    sound = noise()
    sound[40000:80000] *= 1e-3
    assert verdict(pcm(sound)) is Validity.VALID


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_bad_sample_is_found(bad):
    sound = noise()
    sound[1234] = bad
    assert verdict(sound) is Validity.NOT_FINITE


def test_opposite_infinities_are_found():
    sound = noise()
    sound[1], sound[2] = np.inf, -np.inf
    assert verdict(sound) is Validity.NOT_FINITE


@pytest.mark.parametrize(
    "sound",
    [
        pcm(noise(0.35)),  # hiss: 0.4 % of it, scattered
        pcm(noise(0.6)),
        pcm(1.2 * np.sin(2 * np.pi * 50 * T)),
        pcm(0.9 * np.sin(2 * np.pi * 25 * T) + noise(0.1)),
        np.clip(noise(1.0), -2, 2) / 2,  # a float file normalised to its clipped peak
        np.where(noise(0.4) > 1, 1, np.minimum(noise(0.4), 1)),  # at one side only
        soxr.resample(pcm(1.5 * np.sin(2 * np.pi * 900 * np.arange(3 * N) / 48000)), 48000, RATE),
        noise(1.0) * 32768,  # integers stored as floats
    ],
    ids=["hiss", "loud_hiss", "hum", "hum_and_hiss", "float", "one_side", "resampled", "unscaled"],
)
def test_saturation_is_found(sound):
    assert verdict(sound) is Validity.CLIPPED


@pytest.mark.parametrize(
    "sound",
    [
        noise(1.0) / np.abs(noise(1.0)).max(),
        pcm(noise(1.0) / np.abs(noise(1.0)).max()),
        *[pcm(np.sin(2 * np.pi * f * T)) for f in (1, 20, 50, 440)],
        np.sin(2 * np.pi * 50 * T),
        np.where(np.arange(N) == 500, 1.0, noise()),
        pcm(np.where(np.arange(N) == 500, 1.0, noise())),
    ],
)
def test_full_scale_peaks_are_not_saturation(sound):
    assert verdict(sound) is Validity.VALID


def test_too_short():
    assert verdict([]) is Validity.TOO_SHORT
    assert verdict(noise()[: RATE - 1]) is Validity.TOO_SHORT
    assert verdict(noise()[:RATE]) is Validity.VALID
    assert assess(noise()[:100].astype(np.float32), RATE, min_seconds=0)[0] is Validity.VALID


@pytest.mark.shared
def test_real_recordings_are_valid(shared):
    files = sorted((shared / "data" / "dcase2023_samples").rglob("*.flac"))
    files += sorted((shared / "data" / "upaad").rglob("*.flac"))
    assert len(files) > 30
    for path in files:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        assert assess(samples[:, 0], rate) == (Validity.VALID, ""), path.name


@pytest.mark.parametrize("offset", [0.0, 0.5, -0.999])
@pytest.mark.parametrize("level", [1e-5, 1e-3, 0.1])
def test_a_level_is_that_of_double_precision(offset, level):
    noise = np.random.default_rng(0).normal(0, level, 320001)
    sound = (noise + offset).astype(np.float32)
    sound[0] = 1.0
    exact = sound.astype(np.float64)
    expected = 10 * np.log10(np.mean((exact - exact.mean()) ** 2))
    assert level_dbfs(sound) == pytest.approx(expected, abs=1e-3)


def test_numbers_beyond_single_precision_are_finite():
    sound = np.tile(np.array([1e30, -1e30], np.float32), 16000)
    assert level_dbfs(sound) == pytest.approx(600, abs=1e-3)
    assert assess(sound, 16000)[0] is Validity.CLIPPED
    sound[7] = np.inf
    assert assess(sound, 16000) == (
        Validity.NOT_FINITE, "1 of 32000 samples are NaN or infinite",
    )  # fmt: skip
