"""Bundles, grown banks and state directories of schema version 2 open in every later version."""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from support.bundles import FAULTY_HZ, tone, write

from agent.bundle.facts import (
    ConditionsInfo,
    LevelInfo,
    ParityGraph,
    ParityInfo,
    ProcessorInfo,
    ScaleInfo,
    ViewInfo,
)
from agent.bundle.manifest import MANIFEST, SCHEMA_VERSION, Manifest
from agent.bundle.report import ReportInfo
from agent.bundle.seal import seal
from agent.bundle.verify import read_manifest
from agent.commands.bank import bank
from agent.commands.doctor import doctor
from agent.commands.score import score
from agent.config.agent import load_config
from agent.deploy.load import open_bundle
from agent.deploy.trust import Opening, TrustedBundle
from agent.offline.clips import score_clip
from agent.service import Agent

FIXTURE = Path(__file__).parents[1] / "fixtures" / "schema_2"
# What version 2 itself gave for one second of each tone.
SCORES = {440.0: 0.0, FAULTY_HZ: 0.4984}


@pytest.fixture
def device(tmp_path):
    """The device as it was left, and its configuration."""
    shutil.copytree(FIXTURE, tmp_path / "device", symlinks=True)
    place = tmp_path / "device"
    play = place / "play.py"
    play.write_text(
        "import sys, time\n"
        "while True:\n"
        "    sys.stdout.buffer.write(bytes(range(200)) * 8)\n"
        "    sys.stdout.buffer.flush()\n"
        "    time.sleep(0.1)\n"
    )
    source = {
        "kind": "pipe", "command": [sys.executable, str(play)], "format": "s16le", "rate": 8000,
    }  # fmt: skip
    machine = {"name": "pump", "bundle": "pump", "hop_seconds": 0.5, "source": source}
    config = {"device": "dev", "state_dir": "state", "machines": [machine]}
    (place / "agent.yaml").write_text(yaml.safe_dump(config))
    return place


@pytest.mark.parametrize("name", ["pump", "state/bank/pump/0001", "state/bank/pump/good"])
def test_bundles_and_grown_banks_open(name):
    manifest = read_manifest(FIXTURE / name)
    assert manifest.schema_version == 2
    assert manifest.parity is None
    assert manifest.float_encoder is None
    bundle = open_bundle(FIXTURE / name)
    try:
        assert bundle.gate is not None
        assert bundle.drift is not None
        assert bundle.healthy is not None
        assert bundle.spectrum is not None
        for hertz, wanted in SCORES.items():
            found = score_clip(bundle, tone(1, hertz, seed=9)).value
            assert found == pytest.approx(wanted, rel=0.01, abs=1e-6)
    finally:
        bundle.close()


def test_the_grown_version_is_what_the_agent_opens(device):
    trusted = TrustedBundle(device / "pump", device / "state", "pump", Opening())
    bundle = trusted.open_any()
    bundle.close()
    assert trusted.refusal == ""
    assert bundle.manifest.growth is not None
    assert len(bundle.rows) == 15


def test_growing_it_again_writes_this_version_and_keeps_the_rest(device, tmp_path):
    for n in range(2):
        write(tmp_path / "more" / f"more{n}.wav", tone(3, 480, seed=200 + n))
    done = CliRunner().invoke(
        bank,
        ["add", str(tmp_path / "more"), "--label", "healthy", "--max-rise", "1e9",
         "--config", str(device / "agent.yaml")],
    )  # fmt: skip
    assert done.exit_code == 0, (done.output, done.exception)
    manifest = read_manifest(device / "state/bank/pump/current")
    assert manifest.schema_version == SCHEMA_VERSION
    assert manifest.growth.version == 2
    assert manifest.growth.origin == read_manifest(FIXTURE / "pump").digest
    # ... and back to the version of schema 2.
    done = CliRunner().invoke(bank, ["rollback", "--config", str(device / "agent.yaml")])
    assert done.exit_code == 0, (done.output, done.exception)
    assert (device / "state/bank/pump/current").readlink().name == "0001"


def test_commands_take_it(device, tmp_path):
    sound = write(tmp_path / "sound.wav", tone(3, FAULTY_HZ))
    done = CliRunner().invoke(score, [str(sound), "--bundle", str(device / "pump")])
    assert done.exit_code == 0, (done.output, done.exception)
    asked = CliRunner().invoke(doctor, ["--config", str(device / "agent.yaml"), "--json"])
    found = {one["name"]: one for one in json.loads(asked.output)}
    assert found["bundle of pump"]["grade"] != "fail"
    assert "0001: verified" in found["bundle of pump"]["text"]


def test_the_agent_goes_on_where_it_was_stopped(device, caplog):
    caplog.set_level("INFO")
    agent = Agent(load_config(device / "agent.yaml"))
    agent.prepare()
    agent.start()
    try:
        deadline = time.monotonic() + 30
        while agent.pipelines[0].counters.windows < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert agent.pipelines[0].counters.windows >= 2
        assert agent.fault() is None
    finally:
        agent.request_stop()
        agent.stop()
    stood = json.loads((FIXTURE / "state/state/pump.json").read_text())["alarm_id"]
    assert f"alarm {stood} stood when the agent ended, and stands" in caplog.text
    assert "0001" in caplog.text
    assert not [record for record in caplog.records if "not read" in record.getMessage()]


def test_what_version_3_adds_is_read_as_it_was_written(tiny_bundle, tmp_path):
    folder = shutil.copytree(tiny_bundle, tmp_path / "new")
    added = {
        "views": (ViewInfo(name="levels", start=0, stop=8, level=True, low_hz=20, high_hz=4000),),
        "processor": ProcessorInfo(machine="x86_64", model="a", flags=("avx2",)),
        "level": LevelInfo(median_dbfs=-17.0, spread_db=0.2),
        "scale": ScaleInfo(median=0.01, zones=(0.02, 0.05, 0.1)),
        "conditions": ConditionsInfo(channel=0, sample_rates=(8000,), bandwidth_hz=3900.0,
                                     clip_seconds=(1.0, 2.0)),
        "report": ReportInfo(number="001", system="System1", deviations=("no augmentation",)),
        "counter": 3,
    }  # fmt: skip
    manifest = read_manifest(folder)
    written = seal(folder, manifest.model_copy(update=added))
    found = read_manifest(folder)
    assert found == written
    assert {name: getattr(found, name) for name in added} == added
    text = json.loads((folder / MANIFEST).read_text())
    assert text["schema_version"] == SCHEMA_VERSION == 3
    assert Manifest.model_validate(text) == found


def test_parity_names_files_of_the_folder_only():
    graph = {"graph": "../encoder.onnx", "embeddings": "a.npy", "scores": "b.npy",
             "cosine": 0.99, "score": 0.1}  # fmt: skip
    with pytest.raises(ValueError, match="graph"):
        ParityInfo(
            seed=0, made_up=1, made_up_sha256="0" * 64, median=0.0, span=1.0,
            graphs=(ParityGraph(**graph),),
        )  # fmt: skip
