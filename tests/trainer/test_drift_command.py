"""`auscult drift` on recorded sequences, and the charts beside it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from agent.deploy.load import open_bundle
from agent.drift.baseline import DriftError
from trainer.commands.drift import drift
from trainer.drift.charts import decide
from trainer.drift.sequence import read_sequence

RATE, LENGTH = 12800, 1280


def snapshots(count: int, *, fault: int | None = None, seed: int = 0) -> np.ndarray:
    """Noise over two resonance-like bands; the fault adds growing impacts."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((count, LENGTH, 2)).cumsum(axis=1) * 0.05
    x += rng.standard_normal(x.shape) * 10 ** (rng.normal(0, 0.5, (count, 1, 1)) / 20)
    if fault is not None:
        time = np.arange(60) / RATE
        ring = np.exp(-700 * time) * np.sin(2 * np.pi * 2500 * time)
        for index in range(fault, count):
            size = 30 * (index - fault + 1) / (count - fault)
            for start in range(int(rng.integers(100)), LENGTH - 60, 110):
                x[index, start : start + 60] += size * ring[:, None]
    return x.astype(np.float32)


def saved(path: Path, x: np.ndarray) -> Path:
    np.savez(path, x=x, t=10.0 * np.arange(len(x)))
    return path


def call(*arguments: object) -> Result:
    return CliRunner().invoke(drift, [str(argument) for argument in arguments])


def test_npz_gives_json_and_picture(tmp_path: Path) -> None:
    path = saved(tmp_path / "run.npz", snapshots(240, fault=150))
    out = tmp_path / "found.json"
    done = call(path, "--baseline", 0.15, "--rate", RATE, "--json", out)
    assert done.exit_code == 0, done.output
    found = json.loads(out.read_text())
    assert (found["n"], found["baseline_n"]) == (240, 36)
    charts = {"median", "mahalanobis", "ewma", "cusum", "ks", "mmd"}
    assert set(found["monitors"]) == {"verdict", "dtmm"} | charts
    for monitor in found["monitors"].values():
        assert monitor["first_warning"] == (monitor["warnings"] or [None])[0]
    assert 150 <= found["monitors"]["dtmm"]["first_warning"] < 215
    assert found["distances"][-1][1] > found["threshold"]["value"]
    assert "2" in found["details"][0]["text"]
    assert out.with_suffix(".png").read_bytes()[:4] == b"\x89PNG"


def test_healthy_sequence_has_null_for_no_warning(tmp_path: Path) -> None:
    path = saved(tmp_path / "run.npz", snapshots(240, seed=3))
    out = tmp_path / "found.json"
    assert call(path, "--rate", RATE, "--json", out).exit_code == 0
    assert json.loads(out.read_text())["monitors"]["dtmm"] == {
        "first_warning": None,
        "warnings": [],
    }


def test_resumed_replay_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    x = snapshots(240, fault=150)
    whole = call(
        saved(tmp_path / "whole.npz", x),
        "--baseline",
        0.15,
        "--rate",
        RATE,
        "--json",
        tmp_path / "whole.json",
    )
    assert whole.exit_code == 0, whole.output
    # 180 * 0.2 is the same baseline of 36 snapshots.
    call(
        saved(tmp_path / "one.npz", x[:180]),
        "--baseline",
        0.2,
        "--rate",
        RATE,
        "--out",
        tmp_path / "state",
    )
    done = call(
        saved(tmp_path / "two.npz", x[180:]),
        "--rate",
        RATE,
        "--resume",
        tmp_path / "state",
        "--json",
        tmp_path / "two.json",
    )
    assert done.exit_code == 0, done.output
    whole_found = json.loads((tmp_path / "whole.json").read_text())
    later = json.loads((tmp_path / "two.json").read_text())
    expected = [[at - 180, value] for at, value in whole_found["distances"] if at >= 180]
    assert later["distances"] == expected
    warned = [at - 180 for at in whole_found["monitors"]["verdict"]["warnings"] if at >= 180]
    assert later["monitors"]["verdict"]["warnings"] == warned
    assert whole_found["monitors"]["verdict"]["warnings"]


def test_operator_may_accept_a_change(tmp_path: Path) -> None:
    x = snapshots(240, seed=5)
    x[100:] *= 8  # a much larger load
    path = saved(tmp_path / "run.npz", x)
    out = tmp_path / "state"
    unnamed = call(path, "--rate", RATE, "--accept", 140)
    assert unnamed.exit_code == 2
    done = call(path, "--rate", RATE, "--accept", 140, "--operator", "Kim", "--out", out)
    assert done.exit_code == 0, done.output
    state = json.loads((out / "state.json").read_text())
    assert state["references"][1]["operator"] == "Kim"
    found = json.loads((out / "drift.json").read_text())
    assert found["accepted"] == [140]
    assert all(at < 140 for at in found["monitors"]["dtmm"]["warnings"])
    assert found["monitors"]["dtmm"]["warnings"]
    assert not state["active"]


def test_folder_of_audio_in_natural_order(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for index in range(1, 12):
        level = 0.05 * index
        soundfile.write(tmp_path / f"take_{index}.wav", level * rng.standard_normal(8000), 8000)
    read = read_sequence(tmp_path, rate=None, bundle=None, window_seconds=10.0)
    assert [step.source for step in read.steps] == [f"take_{i}.wav" for i in range(1, 12)]
    assert (np.diff(read.features[:, -3]) > 0).all()
    longer = read_sequence(tmp_path, rate=None, bundle=None, window_seconds=0.25)
    assert len(longer.steps) == 44
    assert longer.steps[1].start == pytest.approx(0.25)


def noise(path: Path, seed: int, seconds: float = 1.0, rate: int = 8000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sound = 0.1 * np.random.default_rng(seed).standard_normal(round(seconds * rate))
    soundfile.write(path, sound, rate)


def test_of_a_training_folder_the_healthy_recordings_are_taken(tmp_path: Path) -> None:
    root = tmp_path / "pump7"
    for index in range(80):
        noise(root / "normal" / f"{index}.wav", index)
    for place in ("idle/0.wav", "noise/0.wav", "test/normal/0.wav", "test/anomaly/0.wav"):
        noise(root / place, 99)
    noise(root / "beside.wav", 99)
    out = tmp_path / "found.json"
    done = call(root, "--baseline", 0.5, "--json", out)
    assert done.exit_code == 0, done.output
    assert "left out: ./ (1), idle/ (1), noise/ (1), test/ (2)" in done.stderr
    found = json.loads(out.read_text())
    assert found["n"] == 80
    assert found["left_out"] == {"": 1, "idle": 1, "noise": 1, "test": 2}
    above = call(tmp_path)
    assert "pump7" in str(above.exception)
    assert "one sequence" in str(above.exception)


def test_dcase_training_folder_without_its_test_set(tmp_path: Path) -> None:
    root = tmp_path / "fan"
    for index in range(3):
        noise(root / "train" / f"section_00_source_train_normal_{index:04d}.wav", index)
        noise(root / "test" / f"section_00_source_test_anomaly_{index:04d}.wav", index)
    read = read_sequence(root, rate=None, bundle=None, window_seconds=10.0)
    assert {step.source.split("/")[0] for step in read.steps} == {"train"}
    assert read.left_out == {"test": 3}


@pytest.mark.parametrize("with_bundle", [False, True])
def test_bad_recordings_are_skipped_and_named(tmp_path: Path, with_bundle: bool) -> None:
    from support.bundles import build_bundle

    takes = tmp_path / "takes"
    for index in range(80):
        noise(takes / f"{index}.wav", index)
    (takes / "0broken.wav").write_bytes(b"RIFF")
    cut = (takes / "70.wav").read_bytes()
    (takes / "70.wav").write_bytes(cut[:20] + b"\xff\xff" + cut[22:])
    noise(takes / "a_stump.wav", 1, seconds=0.02)
    noise(takes / "b_other.wav", 1, rate=16000)
    out = tmp_path / "found.json"
    options = ("--bundle", build_bundle(tmp_path / "bundle")) if with_bundle else ()
    done = call(takes, "--baseline", 0.5, "--json", out, *options)
    assert done.exit_code == 0, done.output
    found = json.loads(out.read_text())
    bad = {"0broken.wav", "70.wav"} | (set() if with_bundle else {"a_stump.wav", "b_other.wav"})
    assert {Path(one["file"]).name for one in found["skipped"]} == bad
    for name in bad:
        assert f"{name} is skipped: " in done.stderr
    assert f"{len(bad)} of 83 recordings skipped" in done.stderr
    # A second a step: the stump did not shorten them.
    assert found["n"] == (81 if with_bundle else 79)


def test_not_one_usable_recording_is_said_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    with pytest.raises(DriftError, match=r"a\.wav"):
        read_sequence(tmp_path, rate=None, bundle=None, window_seconds=10.0)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"y": np.zeros((3, 100))}, "no array x"),
        ({"x": np.zeros(5)}, "shape"),
        ({"x": np.array(["a", {}], dtype=object)}, "not an npz of numbers"),
        ({"x": np.zeros((3, 100, 1)), "t": np.array([0.0, 2.0, 1.0])}, "does not grow"),
        ({"x": np.zeros((3, 100, 1)), "t": np.zeros(2)}, "beside 3 snapshots"),
    ],
)
def test_unfit_npz_is_refused_by_name(tmp_path: Path, arrays: dict, words: str) -> None:
    path = tmp_path / "bad.npz"
    np.savez(path, **arrays)
    with pytest.raises(DriftError, match=words) as fault:
        read_sequence(path, rate=1000.0, bundle=None, window_seconds=1.0)
    assert "bad.npz" in str(fault.value)


def test_npz_needs_its_rate(tmp_path: Path) -> None:
    path = saved(tmp_path / "run.npz", snapshots(3))
    with pytest.raises(DriftError, match="--rate"):
        read_sequence(path, rate=None, bundle=None, window_seconds=1.0)


def test_decide_needs_persistence_and_clears() -> None:
    ratio = np.array([0.5, 2, 0.5, 2, 2, 2, 0.5, 0.5, 0.5, 2, 2, 2])
    made = decide(np.arange(12) * 10, ratio, (3, 3))
    assert made.warnings == [50, 110]
    assert made.active.tolist() == [False] * 5 + [True] * 3 + [False] * 3 + [True]


def test_bearings_are_warned_of_in_mid_life_and_not_while_young(
    shared: Path, tmp_path: Path
) -> None:
    # One of the two was warned of at 97 % of its life, when it was too late.
    for path in sorted((shared / "data" / "femto").glob("*.npz")):
        out = tmp_path / f"{path.stem}.json"
        done = call(path, "--rate", 25600, "--json", out)
        assert done.exit_code == 0, done.output
        found = json.loads(out.read_text())
        for monitor in ("verdict", "dtmm", "median"):
            first = found["monitors"][monitor]["first_warning"]
            assert first is not None, path.stem
            assert 0.2 <= first / found["n"] <= 0.9, path.stem


def test_bundle_embeds_a_folder_and_every_channel_of_an_npz(tmp_path: Path) -> None:
    from support.bundles import FAULTY_HZ, build_bundle, tone

    bundle = build_bundle(tmp_path / "bundle")
    info = json.loads((bundle / "manifest.json").read_text())["encoder"]
    rate, dim = info["sample_rate"], info["dim"]
    folder = tmp_path / "takes"
    folder.mkdir()
    for index in range(60):
        sound = tone(1, FAULTY_HZ, seed=index) if index >= 45 else tone(1, seed=index)
        soundfile.write(folder / f"{index}.wav", sound, rate, subtype="FLOAT")
    out = tmp_path / "found.json"
    done = call(folder, "--bundle", bundle, "--baseline", 0.5, "--json", out)
    assert done.exit_code == 0, done.output
    found = json.loads(out.read_text())
    assert found["n"] == 60
    assert 45 <= found["monitors"]["dtmm"]["first_warning"] < 58
    x = np.stack(
        [np.stack([tone(1, seed=2 * i), tone(1, seed=2 * i + 1)], axis=1) for i in range(4)]
    )
    x[2, 5, 0] = np.nan
    opened = open_bundle(bundle)
    path = saved(tmp_path / "run.npz", x)
    read = read_sequence(path, rate=rate, bundle=opened, window_seconds=1.0)
    assert read.features.shape == (4, 2 * dim)
    assert np.isnan(read.features[2]).all()
    np.testing.assert_allclose(
        read.features[0, :dim], opened.encoder.encode(x[0, :, 0][None])[0], rtol=1e-4, atol=1e-5
    )
