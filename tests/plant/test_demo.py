"""`auscult plant demo`: three machines from an empty folder to a plant, on made sound."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
from click.testing import CliRunner

from plant.commands.demo import demo
from plant.demo.sound import MACHINES, gather, write_machines
from plant.learn.task import PlantError


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("broker", ["mosquitto", "amqtt"])
def test_the_demo_learns_rolls_out_survives_a_kill_and_puts_a_bad_bundle_back(
    tmp_path, broker, monkeypatch
):
    if broker == "mosquitto":
        if not shutil.which("mosquitto") and not shutil.which("mosquitto", path="/usr/sbin"):
            pytest.skip("mosquitto is not installed (apt-get install mosquitto)")
    else:
        pytest.importorskip("amqtt")
        monkeypatch.setattr("plant.demo.scene.MOSQUITTO", "mosquitto-that-is-not-there")
    told = tmp_path / "told.json"
    done = CliRunner().invoke(demo, ["--out", str(tmp_path / "demo"), "--json", str(told)])

    assert done.exit_code == 0, done.output
    found = json.loads(told.read_text())
    assert found["rollouts"] == ["done", "done", "put back"]
    assert "windows are above the threshold" in found["why"]
    assert {one["machine"] for one in found["machines"]} == set(MACHINES)
    assert (found["page"] is not None) == (broker == "mosquitto")
    assert "password" not in told.read_text()
    # Nothing of it goes on.
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    assert str(tmp_path / "demo") not in running.stdout


def test_it_takes_no_folder_that_is_there_and_three_machines_or_none(tmp_path):
    words = [sys.executable, "-m", "agent.cli", "plant", "demo"]
    there = subprocess.run(
        [*words, "--out", str(tmp_path)], capture_output=True, text=True, check=False
    )
    two = subprocess.run(
        [*words, "--out", str(tmp_path / "x"), "--machine", "a=b", "--machine", "c=d"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert there.returncode == 2
    assert "is there already" in there.stderr
    assert two.returncode == 2
    assert not (tmp_path / "x").exists()


def test_made_sound_is_of_three_machines_whose_recordings_differ(tmp_path):
    found = write_machines(tmp_path)

    assert len(found) == 3
    sounds = [path.read_bytes() for folder in found.values() for path in folder.rglob("*.wav")]
    assert len(sounds) == len(set(sounds)) == 36


@pytest.mark.shared
def test_some_of_a_machines_real_recordings_are_taken_spread_over_all(tmp_path, shared):
    data = {"motor": shared / "data/motors/class0", "fan": shared / "data/mimii_fan00"}
    found = gather(tmp_path, data, 16)

    names = {one: sorted((found[one] / "normal").iterdir()) for one in found}
    assert [len(one) for one in names.values()] == [16, 10]
    originals = sorted(path.name for path in data["motor"].iterdir())
    places = [originals.index(path.name[4:]) for path in names["motor"]]
    assert places == sorted(set(places))
    assert places[-1] - places[0] > 0.8 * len(originals)


def test_a_machine_without_recordings_is_named(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(PlantError, match="has no recordings"):
        gather(tmp_path / "x", {"pump": tmp_path / "empty"}, 16)
