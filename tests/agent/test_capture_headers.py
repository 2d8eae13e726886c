"""Headers that are stale, wrapped, unfinished or absurd: what is there is read, or refused."""

from __future__ import annotations

import shutil
import struct
import subprocess

import numpy as np
import pytest
import soundfile

from agent.capture.files import audio_info, read_audio
from agent.capture.headers import read_header
from agent.core.errors import AudioError

RATE = 16000
SOUND = np.random.default_rng(0).normal(0, 0.1, 6 * RATE).astype(np.float32)


def wav(path, *, tail=b""):
    soundfile.write(path, SOUND, RATE, subtype="PCM_16")
    data = bytearray(path.read_bytes()) + tail
    path.write_bytes(data)
    return data, data.index(b"data") + 4


@pytest.mark.parametrize(
    "claim", [0, 2 * RATE, 0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFF000 - 36]
)
def test_a_wrong_length_costs_no_sound(tmp_path, claim):
    """A recorder that died, one that went on after its header, pipes: all six seconds are read."""
    path = tmp_path / "a.wav"
    data, at = wav(path)
    data[at : at + 4] = struct.pack("<I", claim)
    path.write_bytes(data)
    np.testing.assert_allclose(read_audio(path, rate=RATE), SOUND, atol=1e-4)
    info = audio_info(path)
    assert info.seconds == 6.0
    assert "6 s are there" in info.note
    assert ("claims 1 s" in info.note) == (claim == 2 * RATE)


def test_a_true_header_is_left_alone_whatever_follows_the_sound(tmp_path):
    for tail in (
        b"",
        b"LIST\x04\0\0\0abcd",
        b"TAG" + bytes(125),
        b"ID3" + bytes(5000),
        b"\0" * 9000,
    ):
        path = tmp_path / "a.wav"
        wav(path, tail=tail)
        assert audio_info(path).seconds == 6.0
        assert audio_info(path).note == ""


def test_a_sound_cut_off_in_copying_is_still_refused(tmp_path):
    path = tmp_path / "a.wav"
    data, _ = wav(path)
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(AudioError, match=r"cut short.*50% is not there"):
        read_audio(path, rate=RATE)


def test_a_length_that_wrapped_beyond_4_gb_is_read_on(tmp_path):
    """The sound that is told of is 1 s, what is there 4 GB and 1 s; nothing but its end is read."""
    path = tmp_path / "a.wav"
    data, at = wav(path)
    data[at : at + 4] = struct.pack("<I", 2 * RATE)
    path.write_bytes(data)
    with path.open("r+b") as file:
        file.seek(at + 4 + (1 << 32) + 2 * RATE - 4096)
        file.write(b"\x01" * 4096)
    header = read_header(path)
    assert header.present == (1 << 32) + 2 * RATE
    assert header.head.startswith(b"RF64")
    assert audio_info(path).seconds == pytest.approx((1 << 31) / RATE + 1)


@pytest.mark.parametrize("form", ["AIFF", "W64", "CAF", "AU", "RF64", "WAVEX"])
def test_every_container_left_without_its_length_is_read(tmp_path, form):
    path = tmp_path / "a.bin"
    soundfile.write(path, SOUND, RATE, format=form, subtype="PCM_16")
    data, header = bytearray(path.read_bytes()), read_header(path)
    assert header.promised == header.present == 2 * len(SOUND)
    spots = {
        "AIFF": [(header.begin - 12, b"\0" * 4)],
        "W64": [(header.begin - 8, struct.pack("<Q", 24))],
        "CAF": [(header.begin - 12, struct.pack(">q", 4))],
        "AU": [(8, b"\0" * 4)],
        "RF64": [(28, b"\0" * 8)],
        "WAVEX": [(header.begin - 4, b"\0" * 4)],
    }
    for at, new in spots[form]:
        data[at : at + len(new)] = new
    path.write_bytes(data)
    assert audio_info(path).seconds == 6.0
    np.testing.assert_allclose(read_audio(path, rate=RATE), SOUND, atol=1e-4)


def absurd(path, form, rate):
    soundfile.write(path, SOUND, RATE, format=form, subtype="VORBIS" if form == "OGG" else None)
    data = bytearray(path.read_bytes())
    at, new = {
        "WAV": (24, struct.pack("<I", rate)),
        "W64": (0, b""),
        "AU": (16, struct.pack(">I", rate)),
        "CAF": (20, struct.pack(">d", rate)),
        "FLAC": (18, struct.pack(">I", (rate << 12) & 0xFFFFFFFF)),
        "OGG": (data.find(b"\x01vorbis") + 12, struct.pack("<I", rate)),
    }[form]
    if form == "W64":
        at, new = data.index(b"fmt ") + 28, struct.pack("<I", rate)
    data[at : at + len(new)] = new
    path.write_bytes(data)


@pytest.mark.parametrize("form", ["WAV", "W64", "AU", "CAF", "FLAC", "OGG"])
def test_a_rate_that_no_sound_has_is_refused_before_anything_decodes(tmp_path, form, monkeypatch):
    for rate in (1, 30):
        absurd(tmp_path / "a.bin", form, rate)
        monkeypatch.setattr(soundfile, "SoundFile", None)  # a decoder that saw it could crash
        with pytest.raises(AudioError, match=rf"a\.bin: its header claims {rate} samples a second"):
            read_audio(tmp_path / "a.bin", rate=RATE)
        monkeypatch.undo()


def test_channels_that_no_recording_has_are_refused(tmp_path):
    path = tmp_path / "a.wav"
    data, _ = wav(path)
    for channels in (0, 60000):
        data[22:24] = struct.pack("<H", channels)
        path.write_bytes(data)
        with pytest.raises(AudioError, match=f"claims {channels} channels"):
            audio_info(path)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")
@pytest.mark.parametrize("name", ["a.m4a", "a b.mp3", "a'.opus", "-a.webm", "a.3gp", "a.wma"])
def test_phones_recordings_are_read(tmp_path, name):
    soundfile.write(tmp_path / "in.wav", SOUND, RATE)
    made = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", "in.wav", f"file:{name}"], cwd=tmp_path, check=False
    )
    if made.returncode:
        pytest.skip("this ffmpeg cannot write it")
    got = read_audio(tmp_path / name, rate=RATE)
    assert len(got) == pytest.approx(6 * RATE, abs=0.2 * RATE)
    assert audio_info(tmp_path / name).seconds == pytest.approx(6.0, abs=0.2)
    assert audio_info(tmp_path / name).codec
    assert float(np.std(got)) > 0.01


def test_without_ffmpeg_a_phones_recording_is_named_with_the_command(tmp_path, monkeypatch):
    (tmp_path / "my clip.m4a").write_bytes(b"x" * 99)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(AudioError, match=r"ffmpeg -i 'my clip\.m4a' 'my clip\.wav'"):
        read_audio(tmp_path / "my clip.m4a", rate=RATE)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")
def test_what_is_no_phones_recording_is_told_in_words(tmp_path):
    (tmp_path / "a.m4a").write_bytes(np.random.default_rng(0).bytes(5000))
    with pytest.raises(AudioError, match=r"a\.m4a: (holds no sound|cannot be decoded)"):
        read_audio(tmp_path / "a.m4a", rate=RATE)
