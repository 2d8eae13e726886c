"""`auscult plant build`: many machines learnt by the command line, kept, resumed, summed up."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import soundfile
import yaml
from click.testing import CliRunner
from support.healthy import RATE, folder, hum

from agent.bundle.verify import verify_bundle
from agent.core.errors import ConfigError
from plant.commands.build import build
from plant.learn.inputs import gather, unpack
from plant.learn.schema import load_plant
from plant.learn.task import PlantError, read_outcome, tasks_of
from plant.learn.work import auscult


def write_plant(root: Path, machines: list[dict], **more) -> Path:
    path = root / "plant.yaml"
    data = {"plant": "hall", "defaults": {"method": "learn", "sound": False}, **more}
    path.write_text(yaml.safe_dump({**data, "machines": machines}))
    return path


def zipped(source: Path, to: Path) -> Path:
    with zipfile.ZipFile(to, "w") as archive:
        for path in sorted(source.rglob("*.flac")):
            archive.write(path, f"{source.name}/{path.relative_to(source)}")
    return to


@pytest.fixture(scope="module")
def plant(tmp_path_factory):
    """Three machines of which one has no recordings, built once."""
    root = tmp_path_factory.mktemp("plant")
    folder(root / "pump", normal=6, still=2)
    folder(root / "first", normal=3, still=2)
    (root / "more/normal").mkdir(parents=True)
    for n in range(3):
        soundfile.write(root / f"more/normal/m{n}.flac", hum(50 + n), RATE)
    zipped(root / "first", root / "fan.zip")
    path = write_plant(
        root,
        [
            {"name": "pump", "data": "pump"},
            {"name": "fan", "data": ["fan.zip", "more"]},
            {"name": "lost", "data": "nowhere"},
        ],
    )
    return path, CliRunner().invoke(build, [str(path), "--workers", "2"])


def outcomes(path: Path) -> dict[str, dict]:
    told = json.loads((path.parent / "plant/summary.json").read_text())
    return {one["machine"]: one for one in told["machines"]}


def test_a_failure_stops_no_other_machine_and_is_told_at_the_end(plant):
    path, result = plant
    out = path.parent / "plant"

    assert result.exit_code == 1, result.output
    for name in ("pump", "fan"):
        verify_bundle(out / f"machines/{name}/{name}.bundle")
    assert "nowhere: there are no recordings" in result.output
    assert "nowhere" in (out / "logs/lost.log").read_text()
    assert not (out / "machines/lost").exists()
    assert not (out / "work").exists()


def test_zips_and_folders_are_learnt_together(plant):
    path, _ = plant
    manifest = json.loads(
        (path.parent / "plant/machines/fan/fan.bundle/manifest.json").read_bytes()
    )

    assert manifest["trained_on"]["recordings"] == 6
    assert manifest["machine"] == "fan"
    assert manifest["gate"] is not None or any("idle" in note for note in manifest["notes"])


def test_the_summary_has_the_worst_first_on_page_table_and_json(plant):
    path, _ = plant
    out = path.parent / "plant"
    page = (out / "summary.html").read_text()
    table = list(csv.DictReader((out / "summary.csv").open()))
    told = json.loads((out / "summary.json").read_text())

    assert table[0]["machine"] == "lost"
    assert [row["machine"] for row in table] == [one["machine"] for one in told["machines"]]
    assert page.index("<h2>lost") < page.index("<h2>pump")
    # One look with all reports: the verdict first, and three numbers.
    assert page.index('<section class="verdict bad">') < page.index('<dl class="numbers">')
    assert page.count("<dt>Fit to deploy</dt>") == 1
    assert not re.search(r"<(?:img|link|script)", page)
    assert told["levels"]["failed"] == 1
    pump = outcomes(path)["pump"]
    assert pump["false_alarms"] is not None
    assert pump["healthy"] == 6
    assert "logs/pump.log" in page


def test_machines_share_an_encoders_file(plant):
    path, _ = plant
    out = path.parent / "plant/machines"
    one, other = (out / f"{name}/{name}.bundle/encoder.onnx" for name in ("pump", "fan"))

    assert one.samefile(other)
    assert one.stat().st_ino != (out / "pump/pump.bundle/bank.npy").stat().st_ino


def test_what_is_done_is_kept_and_what_changed_is_learnt_anew(plant):
    path, _ = plant
    before = outcomes(path)
    # The same bytes at another time are the same recordings.
    os.utime(path.parent / "pump/normal/00.flac")
    soundfile.write(path.parent / "more/normal/m3.flac", hum(60), RATE)
    result = CliRunner().invoke(build, [str(path)])
    after = outcomes(path)

    assert result.exit_code == 1
    assert after["pump"]["state"] == "kept"
    assert after["pump"]["finished"] == before["pump"]["finished"]
    assert after["fan"]["state"] == "built"
    assert after["fan"]["recordings"] == 7
    assert after["fan"]["digest"] != before["fan"]["digest"]


def test_another_way_of_learning_is_learnt_anew(plant):
    path, _ = plant
    told = load_plant(path)
    (task,) = tasks_of(told, threads=1, only=("pump",))
    other = task.model_copy(update={"how": task.how.model_copy(update={"channel": 0})})

    assert read_outcome(task).recipe == task.recipe()
    assert other.recipe() != task.recipe()


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("echo 'auscult: pump: is no folder. Mend it.'", "failed: pump: is no folder. Mend it."),
        (
            "echo 'failed: pump: no anomaly'; echo 'verdict: nothing'",
            "with code 1: failed: pump: no",
        ),
        ("kill -9 $$", "was ended by SIGKILL"),
    ],
)
def test_a_command_that_fails_is_told_in_its_own_words(tmp_path, monkeypatch, said, told):
    monkeypatch.setattr(
        "plant.learn.work.running", lambda *_: ["sh", "-c", f"{said}; exit 1", "sh"]
    )
    with (tmp_path / "log").open("ab") as log, pytest.raises(PlantError, match=told):
        auscult(("evaluate", "pump"), log, cwd=tmp_path, threads=1)


@pytest.mark.slow
def test_a_build_that_is_killed_leaves_nothing_half_done_and_goes_on(tmp_path):
    for name in ("a", "b"):
        folder(tmp_path / name, normal=6)
    path = write_plant(tmp_path, [{"name": n, "data": n} for n in ("a", "b")])
    words = [sys.executable, "-m", "agent.cli", "plant", "build", str(path), "--workers", "1"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    log = tmp_path / "plant/logs/a.log"
    limit = time.monotonic() + 120
    while not (log.exists() and "$ auscult learn" in log.read_text()):
        assert time.monotonic() < limit
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(1.0)
    # The command that was under way ended with it.
    running = subprocess.run(
        ["ps", "-eo", "args"], capture_output=True, text=True, check=True
    ).stdout
    assert str(tmp_path) not in running
    assert not (tmp_path / "plant/machines").exists()

    result = CliRunner().invoke(build, [str(path)])

    assert result.exit_code == 0, result.output
    assert {one["state"] for one in outcomes(path).values()} == {"built"}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"machines": [{"name": "a", "data": "a"}, {"name": "A", "data": "b"}]}, "there twice"),
        ({"machines": [{"name": "a", "data": []}]}, "machines.0.data"),
        ({"machines": [{"name": "a/b", "data": "a"}]}, "machines.0.name"),
        ({"machines": [{"name": "a", "data": "a", "method": "guess"}]}, "machines.0.method"),
        ({"machines": [{"name": "a", "data": "a", "encoder_from": "b"}]}, "method: learn"),
        ({"machines": []}, "machines"),
    ],
)
def test_a_faulty_file_names_the_field(tmp_path, more, said):
    path = tmp_path / "plant.yaml"
    path.write_text(yaml.safe_dump({"plant": "hall", **more}))

    with pytest.raises(ConfigError, match=said):
        load_plant(path)


def test_paths_count_from_the_files_own_folder(tmp_path):
    path = write_plant(tmp_path, [{"name": "a", "data": "a", "preset": "own.yaml"}])
    told = load_plant(path)

    assert told.machines[0].data == (tmp_path / "a",)
    assert told.out == tmp_path / "plant"
    assert told.how(told.machines[0]).preset == str(tmp_path / "own.yaml")


def test_a_zip_that_leads_out_of_its_folder_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr("../outside.wav", b"x")

    with pytest.raises(ConfigError, match="leads out of it"):
        unpack(tmp_path / "bad.zip", tmp_path / "into")
    assert not (tmp_path / "outside.wav").exists()


def test_a_damaged_zip_and_a_folder_of_something_else_are_named(tmp_path):
    (tmp_path / "half.zip").write_bytes(b"PK\x03\x04 and no more")
    (tmp_path / "other/one").mkdir(parents=True)
    (tmp_path / "other/two").mkdir()
    (tmp_path / "x").mkdir()
    (tmp_path / "y").mkdir()

    with pytest.raises(ConfigError, match=r"half\.zip: is not a whole zip"):
        gather("pump", [tmp_path / "half.zip"], tmp_path / "x")
    with pytest.raises(ConfigError, match="none is normal/"):
        gather("pump", [tmp_path / "other"], tmp_path / "y")
