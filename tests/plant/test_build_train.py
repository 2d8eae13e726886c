"""`auscult plant build` with `method: train`: what PLANT.yaml says reaches the commands, and pays."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from click.testing import CliRunner
from support.healthy import RATE, folder, hum

from agent.bundle.manifest import HEALTHY_SOUND
from agent.bundle.verify import read_manifest, verify_bundle
from plant.commands.build import build

pytestmark = pytest.mark.slow


def write_plant(root: Path, defaults: dict, machines: list[dict]) -> Path:
    path = root / "plant.yaml"
    path.write_text(yaml.safe_dump({"plant": "hall", "defaults": defaults, "machines": machines}))
    return path


def with_faults(root: Path) -> None:
    """Test recordings: a machine that hums an octave higher is not what it was."""
    for label in ("normal", "anomaly"):
        (root / "test" / label).mkdir(parents=True)
        for n in range(3):
            sound = hum(70 + n)
            if label == "anomaly":
                sound = np.tile(sound[::2], 2)
            soundfile.write(root / f"test/{label}/{n}.flac", sound, RATE)


def logged(path: Path, machine: str, command: str) -> str:
    """The latest line of a machine's log with a command of auscult."""
    log = (path.parent / f"plant/logs/{machine}.log").read_text().splitlines()
    return next(line for line in reversed(log) if line.startswith(f"$ auscult {command} "))


@pytest.mark.timeout(1800)
def test_what_the_file_says_reaches_train_export_and_evaluate(tmp_path):
    for name in ("pump", "fan"):
        folder(tmp_path / name, normal=8, still=0)
    with_faults(tmp_path / "pump")
    path = write_plant(
        tmp_path,
        {"method": "train", "preset": "log_mel", "evaluate": "given", "seed": 7, "sound": False},
        [
            {"name": "pump", "data": "pump", "precision": "float32", "channel": 0},
            {"name": "fan", "data": "fan", "untypical": "leave-out", "select": False},
        ],
    )
    done = CliRunner().invoke(build, [str(path), "--workers", "2"])
    assert done.exit_code == 0, done.output
    out = path.parent / "plant"

    pump, fan = (read_manifest(out / f"machines/{n}/{n}.bundle") for n in ("pump", "fan"))
    assert {one.trained_on.seed for one in (pump, fan)} == {7}
    assert {one.trained_on.preset for one in (pump, fan)} == {"log_mel"}
    assert pump.encoder.precision == "float32"
    assert HEALTHY_SOUND not in {*pump.files, *fan.files}
    for command in ("train", "evaluate"):
        assert "--seed 7" in logged(path, "pump", command)
        assert "--channel 0" in logged(path, "pump", command)
    assert "--float" in logged(path, "pump", "export")
    assert "--float" in logged(path, "pump", "evaluate")
    assert "--untypical leave-out --seed 7 --no-select" in logged(path, "fan", "train")

    # The report is there, and on the page, where there was something to judge; else it is told.
    assert (out / "machines/pump/evaluation/report.html").is_file()
    told = json.loads((out / "machines/pump/evaluation.json").read_text())
    assert told
    rows = {
        one["machine"]: one for one in json.loads((out / "summary.json").read_text())["machines"]
    }
    assert rows["pump"]["judged_on"] == "test recordings"
    assert rows["pump"]["faults"] == 3
    assert "not evaluated: it has no test recordings" in rows["fan"]["notes"]
    page = (out / "summary.html").read_text()
    assert "machines/pump/evaluation/report.html" in page
    assert "not evaluated" in page

    # Judged on the later half, a machine without faults has a report, too; the other is kept.
    text = yaml.safe_load(path.read_text())
    text["machines"][1]["evaluate"] = "time"
    path.write_text(yaml.safe_dump(text))
    assert CliRunner().invoke(build, [str(path)]).exit_code == 0
    rows = {
        one["machine"]: one for one in json.loads((out / "summary.json").read_text())["machines"]
    }
    assert (rows["pump"]["state"], rows["fan"]["state"]) == ("kept", "built")
    assert "--split time" in logged(path, "fan", "evaluate")
    assert (out / "machines/fan/evaluation/report.html").is_file()


def kept() -> int:
    """Embeddings in this user's cache."""
    cache = Path(os.environ["XDG_CACHE_HOME"]) / "auscult/embeddings.sqlite"
    with sqlite3.connect(cache) as base:
        ((count,),) = base.execute("SELECT count(*) FROM embedding")
    return int(count)


def test_windows_are_embedded_once_whichever_machine_and_run_they_are_of(tmp_path):
    folder(tmp_path / "left", normal=6, still=0)
    subprocess.run(["cp", "-r", tmp_path / "left", tmp_path / "right"], check=True)
    how = {"method": "learn", "sound": False}
    path = write_plant(tmp_path, how, [{"name": "left", "data": "left"}])
    assert CliRunner().invoke(build, [str(path)]).exit_code == 0
    first = kept()
    assert first > 0

    # Another machine with the same recordings, and the first with another setting.
    machines = [{"name": name, "data": name} for name in ("left", "right")]
    path = write_plant(tmp_path, {**how, "sound": True}, machines)
    done = CliRunner().invoke(build, [str(path)])
    assert done.exit_code == 0, done.output
    rows = json.loads((path.parent / "plant/summary.json").read_text())["machines"]
    assert {one["state"] for one in rows} == {"built"}
    assert kept() == first


def test_two_builds_at_a_time_do_not_tidy_up_each_others_work(tmp_path):
    folder(tmp_path / "pump", normal=6, still=0)
    path = write_plant(
        tmp_path, {"method": "learn", "sound": False}, [{"name": "pump", "data": "pump"}]
    )
    dead = tmp_path / "plant/work/pump-of-a-build-that-died"
    dead.mkdir(parents=True)
    (dead / "big").write_bytes(b"x" * 1000)
    words = [sys.executable, "-m", "agent.cli", "plant", "build", str(path)]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as first:
        while not (tmp_path / "plant/logs/pump.log").exists():
            assert first.poll() is None
        second = subprocess.run(words, capture_output=True, text=True, check=False)
        assert first.wait(120) == 0
    assert second.returncode != 0
    assert "another build of this plant is under way" in second.stderr
    verify_bundle(tmp_path / "plant/machines/pump/pump.bundle")
    assert not (tmp_path / "plant/work").exists()
