"""Files that are not what their names say, and files that are none: told in words, never waited for."""

from __future__ import annotations

import gzip
import os
import struct

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from support.bundles import RATE, tone

from agent.capture.files import audio_info, read_audio
from agent.commands.score import score
from agent.core.errors import AudioError
from agent.core.records import Validity
from agent.window.validity import assess

WAVE = (32767 * tone(2)).astype("<i2").tobytes()


def chunk(name, body):
    return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def riff(*chunks):
    body = b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WAVE" + body


def form(tag, bits, frame, extra=b""):
    return struct.pack("<HHIIHH", tag, 1, RATE, RATE * frame, frame, bits) + extra


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.wav", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git lfs pull"),
        ("a.wav", b"<!DOCTYPE html><title>404</title>", "a web page.*download it again"),
        ("a.wav", gzip.compress(WAVE), "compressed by gzip: unpack it"),
        ("a.flac", b"PK\x03\x04" + bytes(60), "a zip archive"),
        ("a.wav", b"\0\0\0\x20ftypM4A " + bytes(60), "rename it to .m4a"),
        ("a.mp3", b"\0\0\0\x20ftypM4A " + bytes(60), "rename it to .m4a"),
        ("a.wav", WAVE, "cannot be decoded"),
    ],
)
def test_what_a_file_really_is_is_said(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AudioError, match=words):
        audio_info(tmp_path / name)


INFO = chunk(b"LIST", b"INFOISFT\x05\0\0\0odd\0\0\0")
PCM16 = chunk(b"fmt ", form(1, 16, 2))


@pytest.mark.parametrize(
    "data",
    [
        riff(INFO, PCM16, chunk(b"data", WAVE)),
        riff(PCM16, chunk(b"junk", b"abc"), chunk(b"bext", b"x" * 603), chunk(b"data", WAVE)),
        riff(
            chunk(b"fmt ", form(1, 24, 4)),
            chunk(b"data", (tone(2) * 2.0**31).astype("<i4").tobytes()),
        ),
    ],
)
def test_chunks_in_any_order_of_any_length_and_24_bits_in_32(tmp_path, data):
    (tmp_path / "a.wav").write_bytes(data)
    np.testing.assert_allclose(read_audio(tmp_path / "a.wav", rate=RATE), tone(2), atol=1e-4)


def test_what_is_no_file_is_told_and_not_waited_for(tmp_path, tiny_bundle):
    folder = tmp_path / "sound"
    folder.mkdir()
    os.mkfifo(folder / "pipe.wav")
    (folder / "lost.wav").symlink_to("nowhere.wav")
    (folder / "round.wav").symlink_to("round.wav")
    soundfile.write(folder / "good.wav", tone(2), RATE)
    done = CliRunner().invoke(score, ["--bundle", str(tiny_bundle), str(folder)])
    assert done.exit_code == 1
    assert "good.wav\twhole" in done.output
    assert "pipe.wav: is a pipe or a device" in done.output
    assert "lost.wav: is a link to a file that is not there" in done.output
    assert "round.wav" in done.output
    assert "3 of 4 recordings could not be scored" in done.output


def test_names_cannot_move_a_terminal(tmp_path, tiny_bundle):
    name = "a\n\x1b[2J\u202ewav.wav"
    soundfile.write(tmp_path / "plain.wav", tone(2), RATE)
    (tmp_path / "plain.wav").rename(tmp_path / name)
    done = CliRunner().invoke(score, ["--bundle", str(tiny_bundle), str(tmp_path)])
    assert "\x1b" not in done.output
    assert r"a\n\x1b[2J\u202ewav.wav" in done.output


def test_numbers_that_nobody_scaled_are_not_called_a_matter_of_gain():
    validity, reason = assess((32767 * tone(2)).astype(np.float32), RATE)
    assert validity is Validity.CLIPPED
    assert "not scaled to -1..1" in reason


def test_an_ogg_file_without_its_end_or_with_a_hole_is_noted(tmp_path):
    path = tmp_path / "a.ogg"
    soundfile.write(path, np.tile(tone(2), 20), RATE)
    whole = path.read_bytes()
    assert audio_info(path).note == ""
    path.write_bytes(whole[: int(0.8 * len(whole))])
    assert audio_info(path).note == "its end is missing; what is there is read"
