"""Damaged recordings: scored or refused, in words and soon; never a crash, never a flood of memory."""

from __future__ import annotations

import io
import re
import resource
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.bundles import RATE, tone

from agent.capture.files import audio_info, read_audio
from agent.commands.score import score
from agent.core.errors import AudioError, AuscultError
from agent.recordings.load import load_machines

_LONGEST = 5.0  # of this process's own time, seconds
_MEMORY = 300 * 2**20  # that one damaged file of a few kilobytes may cost, bytes


def recording(form: str, subtype: str, rate: int = RATE, channels: int = 1) -> bytes:
    sound = np.stack([tone(1.2, seed=seed, rate=rate) for seed in range(channels)], axis=1)
    file = io.BytesIO()
    soundfile.write(file, sound, rate, format=form, subtype=subtype)
    return file.getvalue()


RECORDINGS = {
    "pcm16.wav": recording("WAV", "PCM_16"),
    "float.wav": recording("WAV", "FLOAT"),
    "pcm24_stereo.wav": recording("WAV", "PCM_24", 16_000, 2),
    "adpcm.wav": recording("WAV", "IMA_ADPCM"),
    "extensible.wav": recording("WAVEX", "PCM_16"),
    "pcm16.flac": recording("FLAC", "PCM_16"),
    "vorbis.ogg": recording("OGG", "VORBIS", 16_000),
}
_HEAD = 64  # bytes: the header is where little does much
# What makes readers stumble: lengths, rates and counts at their limits.
NUMBERS = st.sampled_from(
    [b"\x00" * 4, b"\xff" * 4, b"\xff\xff\xff\x7f", b"\x00\x00\x00\x80", b"\x01\x00\x00\x00",
     struct.pack("<I", 2**31 - 8), struct.pack("<I", 10**9), b"\xff\xff", b"RIFF", b"LIST", b"data"]
)  # fmt: skip


@st.composite
def damaged(draw) -> tuple[str, bytes]:
    """A real recording, its header above all altered."""
    name = draw(st.sampled_from(sorted(RECORDINGS)))
    data = bytearray(RECORDINGS[name])
    for _ in range(draw(st.integers(1, 4))):
        head = draw(st.booleans()) or len(data) <= _HEAD
        at = draw(st.integers(0, (_HEAD if head else len(data)) - 1))
        match draw(st.sampled_from(["byte", "number", "cut", "remove", "insert"])):
            case "byte":
                data[at : at + 1] = bytes([draw(st.integers(0, 255))])
            case "number":
                new = draw(NUMBERS)
                data[at : at + len(new)] = new
            case "cut":
                del data[at:]
            case "remove":
                del data[at : at + draw(st.integers(1, 8))]
            case _:
                data[at:at] = draw(st.binary(min_size=1, max_size=8))
        if not data:
            break
    return name, bytes(data)


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


RUNS = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("audio")


@RUNS
@given(damaged())
def test_reading(folder, given_file):
    name, data = given_file
    path = folder / name
    path.write_bytes(data)
    begun, before = time.process_time(), peak()
    try:
        info = audio_info(path)
        samples = read_audio(path, rate=RATE)
    except AudioError as fault:
        said = str(fault)
    else:
        said = name
        assert info.seconds > 0
        assert samples.ndim == 1
    assert name in said
    assert time.process_time() - begun < _LONGEST
    assert peak() - before < _MEMORY


@settings(RUNS, max_examples=60)
@given(damaged())
def test_the_score_command(folder, tiny_bundle, given_file):
    """As `auscult score` does: code 0, or 1 with the file named; the good one beside it is scored."""
    name, data = given_file
    (folder / name).write_bytes(data)
    good = folder / "good.wav"
    if not good.exists():
        good.write_bytes(RECORDINGS["pcm16.wav"])
    done = CliRunner().invoke(score, ["--bundle", str(tiny_bundle), str(folder / name), str(good)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    assert done.exit_code in {0, 1}
    assert "good.wav\twhole" in done.output
    assert name in done.output
    assert "Traceback" not in done.output


@settings(RUNS, max_examples=25)
@given(damaged(), damaged())
def test_a_training_folder(tmp_path_factory, one, other):
    root = tmp_path_factory.mktemp("machine")
    (root / "normal").mkdir()
    (root / "idle").mkdir()
    (root / "normal" / f"bad_{one[0]}").write_bytes(one[1])
    (root / "idle" / f"bad_{other[0]}").write_bytes(other[1])
    (root / "normal" / "good.wav").write_bytes(RECORDINGS["pcm16.wav"])
    (machine,) = load_machines(root)
    used = {recording.path.name for recording in machine.recordings}
    refused = {rejected.path.name for rejected in machine.rejected}
    assert "good.wav" in used
    assert used | refused == {"good.wav", f"bad_{one[0]}", f"bad_{other[0]}"}
    if refused:
        with pytest.raises(AuscultError, match="|".join(map(re.escape, refused))):
            load_machines(root, on_bad="refuse")


def test_as_a_process_of_its_own(tiny_bundle, tmp_path):
    """No library underneath crashes it: every header byte of a WAV at its limits, in one call."""
    whole = RECORDINGS["float.wav"]
    for at in range(48):
        for value in (0x00, 0x7F, 0xFF):
            (tmp_path / f"{at:02}-{value:02x}.wav").write_bytes(
                whole[:at] + bytes([value]) + whole[at + 1 :]
            )
    done = subprocess.run(
        [sys.executable, "-m", "agent.cli", "score", "--bundle", tiny_bundle, tmp_path],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode in {0, 1}, done.stderr[-500:]
    assert "Traceback" not in done.stderr
    told = done.stdout + done.stderr
    assert all(file.name in told for file in tmp_path.iterdir())
