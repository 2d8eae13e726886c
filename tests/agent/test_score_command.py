"""`auscult score`: windows and files judged, bad files told and passed over."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from support.bundles import FAULTY_HZ, tone, write

from agent.bundle.manifest import GATE, GATE_ROWS, Gate
from agent.bundle.seal import seal
from agent.commands.score import score
from agent.core.records import Validity
from agent.core.storage import write_json
from agent.deploy.load import open_bundle
from agent.offline.clips import score_clip


@pytest.fixture
def files(tmp_path):
    write(tmp_path / "good.wav", tone(3, seed=60))
    write(tmp_path / "bad" / "faulty.wav", tone(3, FAULTY_HZ))
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(score, [str(argument) for argument in arguments])


def test_a_line_a_window_and_a_line_a_file(files, tiny_bundle):
    result = run("--bundle", tiny_bundle, files / "good.wav", files / "bad", "--hop", 1)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert len(lines) == 8
    name, start, shown = lines[0].split("\t")[:3]
    assert (name, start) == (f"{files}/good.wav", "0.0 s")
    assert abs(float(shown.removeprefix("score "))) < 0.05
    assert [line.rsplit("\t", 1)[1] for line in lines] == ["normal"] * 4 + ["anomalous"] * 4


def test_a_folder_without_recordings_is_told_as_one(files, tiny_bundle):
    (files / "empty").mkdir()
    (files / "empty" / "notes.txt").write_text("no sound")
    result = run("--bundle", tiny_bundle, files / "empty", files / "good.wav", "--hop", 1)
    assert result.exit_code == 1
    assert f"{files / 'empty'}: holds no recordings" in result.stderr
    assert "normal" in result.stdout


def test_bad_files_are_told_and_the_rest_scored(files, tiny_bundle, tmp_path):
    (tmp_path / "corrupt.wav").write_bytes(b"RIFF")
    write(tmp_path / "silent.wav", np.zeros(16000, np.float32))
    names = ["corrupt.wav", "nowhere.wav", "silent.wav", "good.wav"]
    result = run(
        "--bundle", tiny_bundle, *[tmp_path / name for name in names], "--json", tmp_path / "o.json"
    )
    assert result.exit_code == 1
    for name in names[:3]:
        assert name in result.stderr
    assert "3 of 4 recordings could not be scored" in result.stderr
    document = json.loads((tmp_path / "o.json").read_text())
    assert [file["error"] is None for file in document["files"]] == [False, False, False, True]
    silent, good = document["files"][2:]
    assert (silent["score"], silent["verdict"], silent["windows"][0]["validity"]) == (
        None,
        "invalid",
        "silent",
    )
    assert good["verdict"] == "normal"
    assert len(good["windows"]) == 5
    raw = [window["raw_score"] for window in good["windows"]]
    assert good["raw_score"] == pytest.approx(np.mean(raw))
    assert (document["threshold"], document["raw_threshold"], document["hop_seconds"]) == (
        1,
        0.05,
        0.5,
    )
    # Without healthy scores the threshold's own size is its height.
    assert good["score"] == pytest.approx(good["raw_score"] / 0.05)


def test_json_to_stdout_is_json_alone(files, tiny_bundle):
    result = run("--bundle", tiny_bundle, files / "good.wav", "--json", "-")
    assert json.loads(result.stdout)["files"][0]["verdict"] == "normal"


def test_other_rates_are_resampled(files, tiny_bundle, tmp_path):
    write(tmp_path / "fast.wav", tone(3, rate=44100), rate=44100)
    result = run("--bundle", tiny_bundle, tmp_path / "fast.wav", "--json", "-")
    assert json.loads(result.stdout)["files"][0]["verdict"] == "normal"


def test_clip_of_mixed_validity_averages_the_valid_windows(tiny_bundle):
    bundle = open_bundle(tiny_bundle)
    sound = np.concatenate([tone(2, FAULTY_HZ), np.zeros(16000, np.float32)])
    clip = score_clip(bundle, sound, hop_seconds=1)
    assert clip.validity == (Validity.VALID, Validity.VALID, Validity.SILENT, Validity.SILENT)
    assert [window.start for window in clip.windows] == [0, 1, 2, 3]
    assert clip.value == pytest.approx(np.mean([clip.windows[0].score, clip.windows[1].score]))
    largest = bundle.manifest.scorer.model_copy(update={"clip": "max"})
    object.__setattr__(bundle.manifest, "scorer", largest)
    both = np.concatenate([tone(2), tone(2, FAULTY_HZ)])
    maximal = score_clip(bundle, both, hop_seconds=1)
    assert maximal.value == max(window.score for window in maximal.windows)
    bundle.close()


def test_many_windows_are_scored_as_one_by_one(tiny_bundle):
    """Encoding in batches must not change or misplace a score."""
    bundle = open_bundle(tiny_bundle)
    rng = np.random.default_rng(0)
    sound = np.concatenate([tone(1, hertz) for hertz in rng.uniform(300, 1500, 40)])
    clip = score_clip(bundle, sound, hop_seconds=1)
    assert len(clip.windows) == 40
    for n in (0, 15, 16, 39):
        (single,), _ = bundle.scorer.score(
            bundle.encoder.encode(sound[None, n * 8000 : (n + 1) * 8000])
        )
        assert clip.windows[n].score == pytest.approx(float(single), abs=1e-6)
    bundle.close()


def test_too_short_and_empty_recordings_have_no_score(tiny_bundle):
    bundle = open_bundle(tiny_bundle)
    clip = score_clip(bundle, tone(0.2))
    assert (clip.value, clip.validity) == (None, (Validity.TOO_SHORT,))
    assert score_clip(bundle, np.empty(0, np.float32)).value is None
    bundle.close()


IDLE_HZ = 800.0


@pytest.fixture
def gated(tiny_bundle, tmp_path):
    """The tiny bundle with an idle gate: a tone of IDLE_HZ is the machine standing still."""
    folder = tmp_path / "gated.bundle"
    shutil.copytree(tiny_bundle, folder)
    bundle = open_bundle(folder)
    idle = bundle.encoder.encode(np.stack([tone(1, IDLE_HZ, seed=seed) for seed in range(6)]))
    bundle.close()
    np.save(folder / GATE, idle)
    write_json(
        folder / GATE_ROWS, [{"source": f"i{n}", "start": 0.0, "group": f"i{n}"} for n in range(6)]
    )
    gate = Gate(margin=1.0, reach=0.01, rows=6, recordings=6, healthy_as_idle=0.0, idle_as_idle=1.0)
    seal(folder, bundle.manifest.model_copy(update={"gate": gate, "files": {}}))
    return folder


def test_windows_of_the_standing_machine_are_not_counted_as_on_the_device(gated, tmp_path):
    sound = np.concatenate([tone(3), tone(3, IDLE_HZ, seed=9), tone(3, seed=8)])
    write(tmp_path / "stops.wav", sound)
    write(tmp_path / "still.wav", tone(3, IDLE_HZ, seed=10))
    names = [tmp_path / "stops.wav", tmp_path / "still.wav"]
    result = run("--bundle", gated, *names, "--json", "-")
    assert result.exit_code == 0, result.output
    stops, still = json.loads(result.stdout)["files"]
    # Windows of 1 s every 0.5 s; those that reach the stop, and those of the second after the start.
    assert [window["state"] for window in stops["windows"]] == (
        ["running"] * 6 + ["idle"] * 5 + ["running"] * 6
    )
    assert [window["verdict"] for window in stops["windows"]] == (
        ["normal"] * 4 + ["not_counted"] * 10 + ["normal"] * 3
    )
    assert stops["windows"][5]["reason"] == "the machine stops or starts up"
    assert (stops["state"], stops["verdict"]) == ("running", "normal")
    counted = [w["raw_score"] for w in stops["windows"] if w["verdict"] == "normal"]
    assert stops["raw_score"] == pytest.approx(np.mean(counted))
    # Of the idle machine nothing is said, and that is no mistake.
    assert (still["state"], still["verdict"]) == ("idle", "not_counted")
    assert still["error"] is None
    # It has a score all the same, for those who compare recordings.
    assert still["raw_score"] == pytest.approx(np.mean([w["raw_score"] for w in still["windows"]]))
    shown = run("--bundle", gated, *names).stdout.splitlines()
    assert shown[6].endswith("\tidle\tnot counted (the machine is idle)")
    assert "\twhole\tscore -" not in shown[-1]
    assert shown[-1].endswith(" of 0.05\tidle\tnot counted")


def test_the_idle_gate_can_be_left_out(gated, tmp_path):
    write(tmp_path / "still.wav", tone(3, IDLE_HZ, seed=10))
    result = run("--bundle", gated, tmp_path / "still.wav", "--json", "-", "--no-idle-gate")
    still = json.loads(result.stdout)["files"][0]
    assert (still["state"], still["verdict"]) == ("idle", "anomalous")
    assert {window["verdict"] for window in still["windows"]} == {"anomalous"}


def test_what_is_not_counted_is_not_explained(gated, tmp_path):
    write(tmp_path / "still.wav", tone(3, IDLE_HZ, seed=10))
    result = run("--bundle", gated, tmp_path / "still.wav", "--json", "-", "--explain")
    windows = json.loads(result.stdout)["files"][0]["windows"]
    assert [window["explanation"] for window in windows] == [None] * len(windows)
