"""Audio files: every format to the same samples, every fault named."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import soundfile
import soxr

from agent.capture.files import audio_info, is_audio, read_audio, read_stretch
from agent.capture.headers import read_header
from agent.core.errors import AudioError

RATE = 16000


def tone(rate, seconds=2.0, hertz=440.0):
    return (0.4 * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)).astype(
        np.float32
    )


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 44100, 48000, 96000])
@pytest.mark.parametrize("suffix", ["wav", "flac", "aiff"])
def test_any_rate_and_format_gives_the_same_tone(tmp_path, rate, suffix):
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, tone(rate), rate)
    got = read_audio(path, rate=RATE)
    assert got.dtype == np.float32
    assert abs(len(got) - 2 * RATE) <= 1
    middle = slice(1000, len(got) - 1000)
    np.testing.assert_allclose(got[middle], tone(RATE)[: len(got)][middle], atol=2e-3)
    assert audio_info(path).seconds == pytest.approx(2.0)


def test_lossy_formats_are_read(tmp_path):
    soundfile.write(tmp_path / "a.ogg", tone(44100), 44100)
    got = read_audio(tmp_path / "a.ogg", rate=RATE)
    assert np.std(got) == pytest.approx(0.4 / np.sqrt(2), rel=0.05)


def test_channels_are_chosen_or_averaged(tmp_path):
    near, far = tone(RATE), tone(RATE, hertz=1000)
    soundfile.write(tmp_path / "a.wav", np.stack([near, far, -near], 1), RATE, subtype="FLOAT")
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav", rate=RATE, channel=1), far)
    np.testing.assert_allclose(read_audio(tmp_path / "a.wav", rate=RATE), far / 3, atol=1e-6)
    assert audio_info(tmp_path / "a.wav").channels == 3


@pytest.mark.parametrize("channel", [-1, 2])
def test_a_channel_that_is_not_there_is_named(tmp_path, channel):
    soundfile.write(tmp_path / "a.wav", np.zeros((RATE, 2)), RATE)
    with pytest.raises(AudioError, match=rf"a\.wav: there is no channel {channel}.* 0 to 1"):
        read_audio(tmp_path / "a.wav", rate=RATE, channel=channel)


def test_reading_in_pieces_changes_nothing(tmp_path):
    """Longer than the decoder's block, so that joints would be heard."""
    sound = np.random.default_rng(0).normal(0, 0.1, (700_000, 2)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", sound, 48000, subtype="FLOAT")
    want = soxr.resample(sound.mean(axis=1), 48000, RATE, "HQ")
    np.testing.assert_allclose(read_audio(tmp_path / "a.wav", rate=RATE), want, atol=1e-6)


def test_many_channels_do_not_fill_memory(tmp_path):
    path = tmp_path / "long.wav"
    soundfile.write(path, np.zeros((48000 * 60, 8), np.int16), 48000)
    tracemalloc.start()
    read_audio(path, rate=RATE)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60e6  # the file as float32 is 92 MB; the result is 3.8 MB


def test_what_is_not_a_number_stays_visible(tmp_path):
    for bad in (np.nan, np.inf):
        sound = tone(48000)
        sound[50000] = bad
        soundfile.write(tmp_path / "a.wav", sound, 48000, subtype="FLOAT")
        for rate in (48000, RATE):
            assert not np.isfinite(read_audio(tmp_path / "a.wav", rate=rate)).all()


def broken(folder, kind):
    path = folder / "x.wav"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, RATE), RATE)
    data = path.read_bytes()
    if kind == "missing":
        path.unlink()
    elif kind == "folder":
        path.unlink()
        path.mkdir()
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "junk":
        path.write_bytes(np.random.default_rng(0).bytes(5000))
    elif kind == "header cut":
        path.write_bytes(data[:20])
    elif kind == "no samples":
        path.write_bytes(data[:44])
    else:
        path = folder / "x.flac"
        soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, RATE * 30), RATE)
        data = bytearray(path.read_bytes())
        if kind == "cut short":
            path.write_bytes(data[: len(data) // 2])
        elif kind == "damaged":
            data[len(data) // 2 : len(data) // 2 + 4000] = bytes(4000)
            path.write_bytes(data)
        else:  # total samples in STREAMINFO unknown
            data[21] &= 0xF0
            data[22:26] = bytes(4)
            path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", "does not exist"),
        ("folder", "is a folder"),
        ("empty", "is empty"),
        ("junk", "cannot be decoded"),
        ("header cut", "cannot be decoded"),
        ("no samples", "holds no samples"),
        ("cut short", "cannot be decoded|cut short"),
        ("damaged", "cannot be decoded|cut short"),
        ("no length", "no length"),
    ],
)
def test_a_bad_file_is_named_with_what_to_do(tmp_path, kind, words):
    path = broken(tmp_path, kind)
    with pytest.raises(AudioError, match=words) as fault:
        read_audio(path, rate=RATE)
    assert fault.value.where == str(path)
    assert fault.value.remedy


def test_one_sample_is_too_short_to_resample(tmp_path):
    soundfile.write(tmp_path / "a.wav", [0.5], 48000)
    with pytest.raises(AudioError, match="too short"):
        read_audio(tmp_path / "a.wav", rate=RATE)


def test_what_counts_as_a_recording(tmp_path):
    assert is_audio(tmp_path / "a.WAV")
    assert is_audio(tmp_path / "a.flac")
    assert not is_audio(tmp_path / "._a.wav")
    assert not is_audio(tmp_path / "notes.txt")


def test_an_mp3_that_is_none_is_not_called_missing(tmp_path):
    (tmp_path / "a.mp3").write_bytes(b"no sound at all " * 99)
    with pytest.raises(AudioError, match=r"a\.mp3: cannot be decoded: it is no \.mp3"):
        audio_info(tmp_path / "a.mp3")
    with pytest.raises(AudioError, match="does not exist"):
        audio_info(tmp_path / "b.mp3")


@pytest.mark.parametrize("share", [0.98, 0.5, 0.05])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.wav", {}),
        ("a.wav", {"subtype": "PCM_24"}),
        ("a.wav", {"subtype": "FLOAT"}),
        ("a.wav", {"format": "WAVEX"}),
        ("a.wav", {"format": "RF64"}),
        ("a.wav", {"endian": "BIG"}),
        ("a.aiff", {}),
    ],
)
def test_a_recording_cut_off_is_named(tmp_path, name, options, share):
    """libsndfile takes what is left of it for the whole."""
    path = tmp_path / name
    soundfile.write(path, tone(RATE), RATE, **options)
    assert read_header(path).missing_share == 0
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(AudioError, match="is cut short") as fault:
        read_audio(path, rate=RATE)
    assert fault.value.remedy


@pytest.mark.parametrize("length", [0, 0x7FFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF - 78])
def test_a_wav_written_to_a_pipe_states_no_length_and_is_whole(tmp_path, length):
    soundfile.write(tmp_path / "a.wav", tone(RATE), RATE)
    data = bytearray((tmp_path / "a.wav").read_bytes())
    at = data.index(b"data") + 4
    data[at : at + 4] = length.to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(data)
    assert read_header(tmp_path / "a.wav").missing_share == 0


@pytest.mark.parametrize(
    "data", [b"", b"RIFF", b"RIFF\0\0\0\0WAVE", b"RIFF\0\0\0\0WAVEfmt ", b"fLaC" * 9,
             b"RIFF\0\0\0\0WAVEJUNK\xff\xff\xff\x7f", b"RF64\0\0\0\0WAVEds64\x10\0\0\0xx"]
)  # fmt: skip
def test_what_has_no_sound_in_it_lacks_none(tmp_path, data):
    (tmp_path / "a.wav").write_bytes(data)
    header = read_header(tmp_path / "a.wav")
    assert header is None or header.missing_share == 0


@pytest.mark.parametrize(("start", "seconds"), [(0.0, 1.0), (0.5, 2.0), (2.5, 5.0), (9.0, 1.0)])
def test_a_stretch_is_that_part_of_the_file_and_ends_with_it(tmp_path, start, seconds):
    path = tmp_path / "a.wav"
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, 3 * 8000).astype(np.float32)
    soundfile.write(path, sound, 8000, subtype="FLOAT")
    wanted = sound[int(8000 * start) : int(8000 * (start + seconds))]
    assert np.array_equal(read_stretch(path, start, seconds, rate=8000), wanted)
