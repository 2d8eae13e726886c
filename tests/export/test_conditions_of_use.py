"""Conditions of training are conditions of use: all who hear sound tell and refuse the same."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import soxr
from click.testing import CliRunner
from support.trained import RATE, bundle_of, sound

from agent.bank.sound import embed_sound, find_sound
from agent.capture.replay import Replay
from agent.chain.watch import ChainWatch
from agent.commands.score import score
from agent.config.capture import ReplaySource
from agent.core.levels import LevelRange
from agent.core.records import Activity, MachineState, Recorded, Validity
from agent.deploy.load import open_bundle
from agent.machine.scoring import WindowScorer
from agent.recordings.model import Machine, Recording
from agent.window.rolling import RollingWindow
from export.clips import score_tests
from trainer.drift.sequence import read_sequence


@pytest.fixture(scope="module")
def mono(tmp_path_factory):
    random = np.random.default_rng(0)
    return bundle_of(tmp_path_factory.mktemp("mono"), [sound(random) for _ in range(12)])


@pytest.fixture(scope="module")
def stereo(tmp_path_factory):
    random = np.random.default_rng(0)
    return bundle_of(
        tmp_path_factory.mktemp("stereo"),
        [np.stack([sound(random), 9 * sound(random)], 1) for _ in range(12)],
        channel=0,
    )


def everyone(path, folder):
    """What each says of the only recording in a folder: {who: (scored or embedded, its words)}."""
    (file,) = folder.iterdir()
    done = CliRunner().invoke(
        score, ["--bundle", str(path), str(file), "--json", str(folder.parent / "out.json")]
    )
    (one,) = json.loads((folder.parent / "out.json").read_text())["files"]
    found = {"score": (one["verdict"] != "invalid", done.output)}
    bundle = open_bundle(path)
    recording = Recording(file, "pump", "test", "normal")
    machine = Machine("pump", folder, (recording,))
    scored = score_tests(bundle, machine, hop_seconds=10.0, channel=None, advance=lambda: None)
    words = [*scored.notes, *(one.reason for one in scored.unscored)]
    found["evaluate"] = (bool(scored.sections), " ".join(words))
    joined = embed_sound(find_sound([file], label="healthy"), bundle)
    found["bank"] = (bool(joined.rows), " ".join(joined.left_out()))
    try:
        steps = read_sequence(folder, rate=None, bundle=bundle, window_seconds=10.0)
    except Exception as fault:  # noqa: BLE001 - no recording left is told as one
        found["drift"] = (False, str(fault))
    else:
        judged = bool(np.isfinite(steps.features).all(axis=1).any())
        found["drift"] = (judged, " ".join(steps.notes))
    bundle.close()
    return found


def written(tmp_path, samples, rate=RATE):
    folder = tmp_path / "use"
    folder.mkdir()
    soundfile.write(folder / "a.wav", samples, rate, subtype="FLOAT")
    return folder


ONE = sound(np.random.default_rng(3))


@pytest.mark.parametrize(
    ("samples", "rate", "judged", "words"),
    [
        (ONE, RATE, True, ()),
        (
            soxr.resample(soxr.resample(ONE, RATE, 8000), 8000, 48000),
            48000,
            True,
            ("recorded at 48000 Hz, training at 16000 Hz", "holds sound up to 3.8 kHz"),
        ),
        (np.stack([ONE, ONE], 1), RATE, True, ("2 channels are averaged, where training had 1",)),
        (np.stack([ONE, 0.0 * ONE], 1), RATE, False, ("channel 1 gives nothing: dead",)),
        (np.stack([ONE, -0.99 * ONE], 1), RATE, False, ("cancel each other",)),
        (0.01 * ONE, RATE, False, ("dB quieter than any training recording",)),
        (ONE[: 2 * RATE], RATE, False, ("2 s of sound, where training had 10 s",)),
        (ONE + np.float32(0.03), RATE, True, ()),
    ],
)
def test_who_hears_a_recording_tells_what_is_otherwise(
    mono, tmp_path, samples, rate, judged, words
):
    for who, (fit, said) in everyone(mono, written(tmp_path, samples, rate)).items():
        assert fit == judged, (who, said)
        for one in words:
            assert one in said, (who, said)
        if not words and who != "score":
            assert said == "", (who, said)


def test_a_codec_that_training_had_not_is_told(mono, tmp_path):
    folder = tmp_path / "use"
    folder.mkdir()
    soundfile.write(folder / "a.mp3", ONE, RATE)
    for who, (_, said) in everyone(mono, folder).items():
        assert "compressed with loss (MP3" in said, (who, said)


def test_all_take_the_channel_of_training(stereo, tmp_path):
    random = np.random.default_rng(5)
    folder = written(tmp_path, np.stack([sound(random), 0.0 * sound(random)], 1))
    for who, (fit, said) in everyone(stereo, folder).items():
        assert fit, (who, said)
        assert "averaged" not in said, (who, said)
        assert "dead" not in said, (who, said)


def windows(folder):
    source = Replay(ReplaySource(paths=(str(folder),), speed="max"), RATE)
    source.start()
    rolling = RollingWindow(10 * RATE, 10 * RATE, RATE)
    return [window for block in source.blocks() for window in rolling.push(block)]


@pytest.mark.parametrize(
    ("samples", "validity"),
    [
        (ONE, Validity.VALID),
        (0.01 * ONE, Validity.TOO_QUIET),
        (0.01 * ONE + np.float32(0.03), Validity.TOO_QUIET),
        (ONE + np.float32(0.03), Validity.VALID),
        (np.stack([ONE, -0.97 * ONE], 1), Validity.SILENT),
    ],
)
def test_the_agent_judges_as_score_does(mono, tmp_path, samples, validity):
    (window,) = windows(written(tmp_path, samples))
    bundle = open_bundle(mono)
    scorer = WindowScorer("pump", bundle)
    scorer.levels = LevelRange(bundle.manifest.trained_on.level_dbfs)
    assert scorer.judge(window).score.window.validity is validity
    bundle.close()


def test_half_a_start_is_no_fault_of_the_microphone(mono, tmp_path):
    # It is mostly the quiet hall before: far too quiet for a machine that runs.
    (window,) = windows(written(tmp_path, 0.01 * ONE))
    bundle = open_bundle(mono)
    scorer = WindowScorer("pump", bundle)
    scorer.levels = LevelRange(bundle.manifest.trained_on.level_dbfs)
    judged = scorer.judge(replace(window, activity=Activity.CHANGING))
    assert judged.state is MachineState.CHANGING
    assert judged.score.window.validity is Validity.VALID
    bundle.close()


def test_the_agent_tells_another_rate_and_number_of_channels_at_once(mono, tmp_path):
    up = soxr.resample(ONE, RATE, 48000)
    (window,) = windows(written(tmp_path, np.stack([up, up], 1), 48000))
    assert window.recorded == Recorded(48000, 2)
    trained = open_bundle(mono).manifest.conditions
    watch = ChainWatch("pump")
    watch.take(window, None, trained)
    assert [one.split(" ", 1)[0] for one in watch.differences] == ["2", "recorded"]
    same = replace(window, monotonic=window.monotonic + 20, recorded=Recorded(RATE, 1))
    watch.take(same, None, trained)
    assert watch.differences == ()


def test_a_machine_at_rest_may_be_as_quiet_as_it_likes_in_the_gate(mono, tmp_path):
    folder = written(tmp_path, 0.01 * ONE)
    bundle = open_bundle(mono)
    assert embed_sound(find_sound([folder / "a.wav"], label="idle"), bundle).rows
    bundle.close()
