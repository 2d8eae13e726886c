"""What is recorded is what training reads; nothing unfit is kept. Blocks first, then real PulseAudio."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from support.bundles import tone, write
from support.sound_server import NAME, SoundServer

from agent.capture.convert import Converter
from agent.capture.recorder import Recorder
from agent.core.errors import AudioError
from agent.core.records import AudioBlock
from agent.recordings.plain import read_plain

# Sound is played and heard in real time here: on a machine busy with other tests it can come late.
pytestmark = pytest.mark.flaky(reruns=2)

RATE = 8000
CLI = (sys.executable, "-m", "agent.cli")


def blocks(samples, *, gaps=(), settling=0.0):
    """A stream in blocks of 0.1 s; a gap before each of these seconds."""
    step = RATE // 10
    for n, at in enumerate(range(0, len(samples), step)):
        yield AudioBlock(
            samples[at : at + step], RATE, 5.0 + n / 10, 1.7e9 + n / 10,
            gap_before=n / 10 in gaps, settling=n / 10 < settling, origin="mic",
        )  # fmt: skip


def recorder(folder, seconds, *, clip=20.0, label="healthy", levels=None):
    def tell(level, so_far):
        if levels is not None:
            levels.append((level, so_far))

    return Recorder(folder / "pump", label, seconds, clip, {"name": "USB mic!"}, tell)


def kept(folder):
    return sorted((folder / "pump").rglob("*")) if (folder / "pump").exists() else []


def test_healthy_sound_becomes_recordings_that_training_finds(tmp_path):
    sound, levels = tone(60), []
    take = recorder(tmp_path, 50, levels=levels).run(blocks(sound, settling=2))
    assert take.seconds == 50
    assert [soundfile.info(path).duration for path in take.files] == [20, 20, 10]
    heard = np.concatenate([soundfile.read(path, dtype="float32")[0] for path in take.files])
    np.testing.assert_allclose(heard, sound[2 * RATE : 52 * RATE], atol=2**-22)
    machine = read_plain(tmp_path / "pump")
    assert [found.path for found in machine.recordings] == sorted(take.files)
    assert {found.role for found in machine.recordings} == {"normal"}
    assert not machine.rejected
    record = json.loads(take.files[1].with_suffix(".json").read_text())
    assert record["started"] == "2023-11-14T22:13:42.000Z"
    assert (record["label"], record["machine"], record["rate"]) == ("healthy", "pump", RATE)
    assert record["level_dbfs"] == pytest.approx(-17, abs=0.1)
    assert len(levels) == 50
    assert levels[-1][1] == pytest.approx(50)
    assert levels[0][0].rms == pytest.approx(-17, abs=0.1)


@pytest.mark.parametrize(("label", "folder"), [("idle", "idle"), ("noise", "noise")])
def test_labels_have_their_folders(tmp_path, label, folder):
    take = recorder(tmp_path, 3, label=label).run(blocks(tone(4)))
    assert [path.parent.name for path in take.files] == [folder]


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (np.zeros(RATE), "dead.*mute switch"),
        (np.clip(8 * tone(1), -1, 1), "clipped.*Lower the gain"),
        (np.full(RATE, np.nan), "NaN"),
        (np.concatenate([tone(0.4), np.full(RATE - 3200, 0.1)]), "constant.*cable"),
    ],
)
def test_unfit_sound_ends_it_and_is_not_kept(tmp_path, bad, words):
    sound = np.concatenate([tone(33), bad.astype(np.float32), tone(33)])
    one = recorder(tmp_path, 60)
    with pytest.raises(AudioError, match=words):
        one.run(blocks(sound))
    # The whole recording before, and the good 13 s of the next; of what is shorter nothing.
    assert [soundfile.info(path).duration for path in one.take.files] == [20, 13]
    assert len(kept(tmp_path)) == 1 + 4
    other = recorder(tmp_path / "short", 60)
    with pytest.raises(AudioError):
        other.run(blocks(sound[28 * RATE :]))
    assert [path.name for path in kept(tmp_path / "short")] == ["normal"]


def stereo(frames):
    """A stream of several channels that are averaged, as a microphone gives it."""
    convert = Converter(None, None, "mic")
    step = RATE // 10
    for n, at in enumerate(range(0, len(frames), step)):
        yield convert(frames[at : at + step].astype(np.float32), RATE, 5.0 + n / 10)


HUM = (0.1 * np.sin(2 * np.pi * 50 * np.arange(40 * RATE) / RATE)).astype(np.float32)


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (lambda sound: 0.0 * sound, "channel 1 gives nothing: dead.*--channel"),
        (lambda sound: -0.98 * sound, "cancel each other.*the other way round.*--channel"),
        (lambda sound: np.clip(9 * sound, -1, 1), "of channel 1 is clipped.*--channel"),
        (lambda sound: HUM[: len(sound)], "channel 1 holds nothing but mains hum.*--channel"),
    ],
)
def test_channels_that_should_not_be_averaged_end_it_and_are_not_kept(tmp_path, second, words):
    sound = 0.3 * np.random.default_rng(0).normal(size=36 * RATE) * 0.5
    good = np.stack([sound, 0.9 * sound], 1)[: 25 * RATE]
    bad = np.stack([sound, second(sound)], 1)[: 36 * RATE]
    one = recorder(tmp_path, 60, clip=10.0)
    with pytest.raises(AudioError, match=words):
        one.run(stereo(np.concatenate([good, bad])))
    # What waited for the verdict is not among them.
    assert [soundfile.info(path).duration for path in one.take.files] == [10, 10]
    for path in one.take.files:
        assert np.abs(soundfile.read(path)[0]).max() < 1.0


def test_sound_of_good_channels_waits_for_their_verdict_and_is_kept_whole(tmp_path):
    sound = 0.1 * np.random.default_rng(0).normal(size=40 * RATE)
    take = recorder(tmp_path, 20, clip=10.0).run(stereo(np.stack([sound, sound], 1)))
    heard = np.concatenate([soundfile.read(path, dtype="float32")[0] for path in take.files])
    np.testing.assert_allclose(heard, sound[: 20 * RATE], atol=2**-22)


def test_no_recording_spans_lost_sound(tmp_path):
    sound = tone(60)
    take = recorder(tmp_path, 40).run(blocks(sound, gaps=(12.5, 16.0)))
    assert take.gaps == 2
    # 12 whole seconds; 3 s between the gaps, too short to keep; then what was asked for.
    assert [soundfile.info(path).duration for path in take.files] == [12, 20, 8]
    second = soundfile.read(take.files[1], dtype="float32")[0]
    np.testing.assert_allclose(second, sound[16 * RATE : 36 * RATE], atol=2**-22)


def test_a_full_disk_leaves_no_broken_recording(tmp_path):
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    one = recorder(tmp_path, 30)
    real = soundfile.SoundFile

    def full(path, *arguments, **named):
        path.unlink()
        path.symlink_to("/dev/full")
        return real(path, *arguments, **named)

    soundfile.SoundFile = full
    try:
        with pytest.raises(AudioError, match="cannot be written"):
            one.run(blocks(np.tile(tone(30), 1)))
    finally:
        soundfile.SoundFile = real
    assert not [path for path in kept(tmp_path) if path.is_symlink() or path.is_file()]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with SoundServer(tmp_path_factory.mktemp("record") / "home") as server:
        yield server


def auscult(server, *arguments, **options):
    return subprocess.Popen(
        [*CLI, *map(str, arguments)], env=server.env, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options,
    )  # fmt: skip


def test_devices_lists_inputs_with_their_levels(tmp_path, server):
    server.play(write(tmp_path / "a.wav", tone(40, rate=48000), rate=48000))
    listing = auscult(server, "devices", "--json", "-")
    out, error = listing.communicate(timeout=40)
    assert listing.returncode == 0, error
    found = {device["name"]: device for device in json.loads(out)}
    assert found[NAME]["device"] == NAME
    assert found[NAME]["error"] is None
    assert -25 < max(level["rms_dbfs"] for level in found[NAME]["levels"]) < -10
    table, error = auscult(server, "devices").communicate(timeout=40)
    assert any(line.startswith(f"{NAME}\t") and "dBFS" in line for line in table.splitlines())


def test_record_keeps_healthy_sound_and_refuses_silence(tmp_path, server):
    arguments = ("record", "--device", NAME, "--label", "healthy", "--out", tmp_path / "pump")
    server.hush()
    time.sleep(0.5)
    silent = auscult(server, *arguments, "--seconds", 4)
    out, error = silent.communicate(timeout=30)
    assert silent.returncode == 2
    assert "the microphone is dead, muted or not connected. Check the cable" in error
    assert "Traceback" not in error
    assert not list((tmp_path / "pump").rglob("*.flac"))

    server.play(write(tmp_path / "a.wav", tone(150, rate=48000), rate=48000))
    good = auscult(server, *arguments, "--seconds", 4)
    out, error = good.communicate(timeout=30)
    assert good.returncode == 0, error
    (path,) = map(Path, out.split())
    assert soundfile.info(path).duration == 4
    assert soundfile.info(path).samplerate in {44100, 48000}
    assert json.loads(path.with_suffix(".json").read_text())["device"] == NAME
    assert "level -1" in error

    stopped = auscult(server, *arguments, "--seconds", 100, "--clip-seconds", 10)
    deadline = time.monotonic() + 60
    while len(list((tmp_path / "pump/normal").glob("[!.]*.flac"))) < 2:
        assert time.monotonic() < deadline, "no clip of 10 s was finished"
        time.sleep(0.2)
    stopped.send_signal(signal.SIGINT)
    out, error = stopped.communicate(timeout=30)
    assert stopped.returncode == 130, error
    assert [soundfile.info(path).duration for path in out.split()] == [10]
    assert not [path for path in (tmp_path / "pump/normal").iterdir() if path.name[0] == "."]


def test_unknown_devices_and_numbers_are_refused_with_what_there_is(tmp_path, server):
    for device, words in (
        ("nothing", "no such microphone. Found: "),
        ("0", "a number that changes"),
    ):
        run = auscult(
            server, "record", "--device", device, "--label", "idle", "--seconds", 2, "--out", tmp_path
        )  # fmt: skip
        _, error = run.communicate(timeout=30)
        assert run.returncode == 2
        assert words in error
        assert "Traceback" not in error


def test_check_says_what_the_source_gives_and_when_it_is_absent(tmp_path, server, tiny_bundle):
    for device, code, words in ((NAME, 0, "Hz, level"), ("nothing", 2, f"'{NAME}'")):
        config = tmp_path / "agent.yaml"
        config.write_text(
            f"machines:\n- {{name: pump, bundle: {tiny_bundle}, source: 'microphone:{device}'}}\n"
        )
        run = auscult(server, "run", "--config", config, "--check")
        out, error = run.communicate(timeout=30)
        assert run.returncode == code, error
        assert words in out + error
