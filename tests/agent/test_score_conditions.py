"""Recordings scored as the bundle was trained: length, channel, level, names, bounded memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from support.trained import RATE, bundle_of, sound

from agent.bundle.facts import ConditionsInfo
from agent.calibrate.clip_limits import clip_limits
from agent.capture.source import as_trained
from agent.commands.score import score
from agent.config.capture import MicrophoneSource
from agent.config.threshold import ThresholdRule
from agent.core.records import Validity
from agent.deploy.load import open_bundle
from agent.offline.clips import score_clip
from agent.window.clip import clip_windows, stream_windows
from agent.window.conditions import compare_conditions


@pytest.fixture(scope="module")
def stereo(tmp_path_factory):
    random = np.random.default_rng(0)
    t = np.arange(10 * RATE) / RATE
    return bundle_of(
        tmp_path_factory.mktemp("stereo"),
        [
            np.stack([sound(random), 0.2 * np.sin(2 * np.pi * random.uniform(200, 3e3) * t)], 1)
            for _ in range(12)
        ],
        channel=0,
    )


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    return bundle_of(tmp_path_factory.mktemp("long"), [sound(np.random.default_rng(0), 400)])


def scored(bundle, folder, *names, code=0):
    done = CliRunner().invoke(
        score, ["--bundle", str(bundle), "--json", str(folder / "out.json"), str(folder), *names]
    )
    assert done.exit_code == code, done.output
    return json.loads((folder / "out.json").read_text())["files"], done.output


def test_the_channel_of_training_is_scored_without_being_told(stereo, tmp_path):
    random = np.random.default_rng(9)
    t = np.arange(10 * RATE) / RATE
    for n in range(4):
        other = 0.2 * np.sin(2 * np.pi * random.uniform(200, 3e3) * t)
        soundfile.write(tmp_path / f"{n}.wav", np.stack([sound(random), other], 1), RATE)
    soundfile.write(tmp_path / "mono.wav", sound(random), RATE)
    files, _ = scored(stereo, tmp_path)
    assert [one["verdict"] for one in files] == ["normal"] * 5
    assert open_bundle(stereo).manifest.conditions.channel == 0
    source = MicrophoneSource()
    conditions = open_bundle(stereo).manifest.conditions
    assert as_trained(source, conditions).channel == 0
    assert as_trained(MicrophoneSource(channel=1), conditions).channel == 1


def test_short_clips_have_a_limit_of_their_own_length(long):
    """One long recording was learnt: a clip of one window is not held against the mean of many."""
    bundle = open_bundle(long)
    limits = dict(bundle.manifest.threshold.clip_limits)
    assert limits[1] > bundle.manifest.threshold.clip_value
    random = np.random.default_rng(5)
    over = [
        found.value > found.limit for found in (score_clip(bundle, sound(random)) for _ in range(8))
    ]
    assert sum(over) <= 1
    bundle.close()


def test_limits_fall_with_length_for_means_and_rise_for_maxima():
    random = np.random.default_rng(0)
    values = random.normal(0, 1, 400)
    groups = [str(n // 20) for n in range(400)]
    rule = ThresholdRule(false_alarm_rate=0.05)
    for clip, sign in (("mean", -1), ("max", 1)):
        limits = clip_limits(values, groups, [""] * 400, rule, clip)
        assert [size for size, _ in limits] == [1, 2, 4, 8, 16, 20]
        steps = sign * np.diff([value for _, value in limits])
        assert (steps >= 0).all()
        assert abs(limits[0][1] - limits[-1][1]) > 0.3


def test_a_clip_shorter_than_any_that_was_learnt_is_not_judged(stereo, tmp_path):
    random = np.random.default_rng(3)
    soundfile.write(tmp_path / "a.wav", sound(random, 2), RATE)
    files, output = scored(stereo, tmp_path, code=1)
    assert files[0]["verdict"] == "invalid"
    assert "2 s of sound, where training had 10 s" in output


def test_score_and_agent_agree_on_sound_far_too_quiet(stereo, tmp_path):
    random = np.random.default_rng(3)
    soundfile.write(tmp_path / "a.wav", 0.01 * sound(random), RATE, subtype="FLOAT")
    files, _ = scored(stereo, tmp_path, code=1)
    assert files[0]["windows"][0]["validity"] == Validity.TOO_QUIET.value
    assert "dB quieter than any training recording" in files[0]["windows"][0]["reason"]


def test_channels_that_cannot_be_averaged_are_named(long, tmp_path):
    random = np.random.default_rng(3)
    one = sound(random)
    soundfile.write(tmp_path / "a.wav", np.stack([one, 0.001 * one], 1), RATE, subtype="FLOAT")
    files, output = scored(long, tmp_path, code=1)
    assert "channel 1 is 60 dB quieter" in files[0]["error"]
    assert "2 channels are averaged, where training had 1" in output


def test_inverted_channels_are_no_dead_microphone(long, tmp_path):
    one = sound(np.random.default_rng(3))
    soundfile.write(tmp_path / "a.wav", np.stack([one, -one], 1), RATE)
    files, _ = scored(long, tmp_path, code=1)
    assert "cancel each other" in files[0]["error"]
    assert "one is wired the other way round" in files[0]["error"]


def test_a_constant_part_does_not_count(long, tmp_path):
    one = sound(np.random.default_rng(3))
    soundfile.write(tmp_path / "a.wav", one, RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "b.wav", one + 0.03, RATE, subtype="FLOAT")
    without, with_offset = scored(long, tmp_path)[0]
    # Rounding of float32 alone remains.
    assert with_offset["raw_score"] == pytest.approx(without["raw_score"], abs=1e-3)


def test_another_rate_and_bandwidth_are_said(long, tmp_path):
    import soxr

    random = np.random.default_rng(3)
    narrow = soxr.resample(soxr.resample(sound(random), RATE, 8000), 8000, 48000)
    soundfile.write(tmp_path / "a.wav", narrow, 48000)
    files, _ = scored(long, tmp_path)
    told = " ".join(files[0]["notes"])
    assert "recorded at 48000 Hz, training at 16000 Hz" in told
    assert "holds sound up to 3.8 kHz, training up to 8 kHz" in told


def test_older_bundles_are_held_against_nothing():
    assert compare_conditions(None, rate=48000, seconds=1.0, channels=2) == []
    assert compare_conditions(ConditionsInfo(), rate=48000, seconds=1.0, channels=2) == []


@pytest.mark.skipif(os.name != "posix", reason="needs names of bytes")
def test_a_name_that_is_no_utf8_is_escaped_and_loses_nothing(long, tmp_path):
    name = os.fsencode(tmp_path) + b"/pump\xe9.wav"
    soundfile.write(tmp_path / "a.wav", sound(np.random.default_rng(1)), RATE)
    (tmp_path / "a.wav").rename(os.fsdecode(name))
    files, output = scored(long, tmp_path)
    assert files[0]["path"].endswith(r"pump\xe9.wav")
    assert r"pump\xe9.wav" in output


@pytest.mark.parametrize(("window", "hop"), [(10, 5), (10, 10), (10, 3), (10, 17), (1, 1)])
@pytest.mark.parametrize("length", [0, 1, 7, 10, 11, 29, 40, 101])
def test_windows_of_a_stream_are_those_of_the_whole(window, hop, length):
    samples = np.arange(length, dtype=np.float32)
    want = clip_windows(samples, window_samples=window, hop_samples=hop)
    for size in (1, 4, 50):
        blocks = [samples[n : n + size] for n in range(0, length, size)]
        got = list(stream_windows(blocks, window_samples=window, hop_samples=hop))
        assert [start for start, _ in got] == [start for start, _ in want]
        for (_, a), (_, b) in zip(got, want, strict=True):
            np.testing.assert_array_equal(a, b)


_PEAK = """
import resource, sys
from click.testing import CliRunner
from agent.commands.score import score
done = CliRunner().invoke(score, ["--bundle", sys.argv[1], "--hop", "60", sys.argv[2]])
assert done.exit_code == 0, done.output
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_hours_take_no_more_memory_than_minutes(long, tmp_path):
    """An hour more of sound is 230 MB more as the encoder takes it, were it held."""
    peaks = []
    for minutes in (5, 65):
        path = tmp_path / f"{minutes}.wav"
        with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16") as file:
            random = np.random.default_rng(0)
            for _ in range(minutes):
                file.write(sound(random, 60))
        done = subprocess.run(
            [sys.executable, "-c", _PEAK, str(long), str(path)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        peaks.append(int(done.stdout))
    assert peaks[1] - peaks[0] < 60_000  # kB
