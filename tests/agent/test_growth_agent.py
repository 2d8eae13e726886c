"""The whole agent: an alarm leaves evidence, sound is collected, a grown bank is taken up."""

from __future__ import annotations

import json
import shutil
import threading
import time

import pytest
import yaml
from click.testing import CliRunner
from support.bundles import FAULTY_HZ, build_graph, tone, write

from agent.bundle.load import read_manifest
from agent.bundle.manifest import ENCODER
from agent.bundle.seal import seal
from agent.commands.bank import bank
from agent.commands.collect import collect
from agent.config import load_config
from agent.errors import BundleError
from agent.evidence.record import read_record
from agent.service import Agent


@pytest.fixture
def plant(tmp_path, tiny_bundle):
    shutil.copytree(tiny_bundle, tmp_path / "pump")

    def make(sounds, *, speed="max", loop=False, **extra):
        for n, (seconds, hertz) in enumerate(sounds):
            write(tmp_path / "sound" / f"{n}.wav", tone(seconds, hertz, seed=n + 50))
        source = {"kind": "replay", "paths": ["sound"], "speed": speed, "loop": loop}
        path = tmp_path / "agent.yaml"
        path.write_text(
            yaml.safe_dump(
                {
                    "device": "dev",
                    "state_dir": "state",
                    "jsonl": "out.jsonl",
                    "machines": [
                        {"name": "pump", "bundle": "pump", "source": source,
                         "decide": {"raise_windows": 2, "of_windows": 3}}
                    ],
                    "bundles": {"watch_seconds": 0.3, "trial_windows": 2},
                    "evidence": {"before_seconds": 3, "during_seconds": 2, "free_share": 0},
                    "collect": {"free_share": 0},
                    **extra,
                }
            )
        )  # fmt: skip
        return path

    return make


def until(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert condition()


@pytest.fixture
def run():
    """Run an agent until it is told to stop, or its sound ends."""
    agents = []

    def begin(path):
        agent = Agent(load_config(path))
        agent.prepare()
        agent.start()
        thread = threading.Thread(target=agent.wait)
        thread.start()
        agents.append((agent, thread))
        return agent, thread

    yield begin
    for agent, thread in agents:
        agent.request_stop()
        thread.join(5)
        agent.stop()


def test_an_alarm_leaves_evidence_that_its_event_names(tmp_path, plant, run):
    agent, thread = run(plant([(8, 440), (8, FAULTY_HZ), (12, 440)]))
    thread.join(20)
    agent.stop()
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    text = json.dumps(lines)
    (folder,) = (tmp_path / "state" / "evidence" / "pump").iterdir()
    assert f"evidence/pump/{folder.name}" in text
    record = read_record(folder)
    assert record.alarm_id == folder.name
    assert record.complete
    assert any(window.exceeded for window in record.windows)
    assert record.windows[-1].neighbour.startswith("h")
    assert {path.name for path in folder.iterdir()} == {
        "evidence.json", "sound.flac", "spectrogram.png",
    }  # fmt: skip


def test_collect_and_grow_while_it_runs(tmp_path, plant, run):
    config = str(plant([(6, 700)], speed="realtime", loop=True))
    agent, _ = run(config_path := tmp_path / "agent.yaml")
    assert str(config_path) == config
    until(lambda: agent.pipelines[0].tally.windows > 2)
    assert agent.pipelines[0].tally.exceeded > 0
    done = CliRunner().invoke(collect, ["--config", config, "--label", "healthy", "--seconds", "4"])
    assert done.exit_code == 0, done.output
    assert "the agent is recording" in done.output
    (session,) = (tmp_path / "state" / "collected" / "pump" / "healthy").iterdir()
    # The alarm that this sound raised is known by now: it must be named to be silenced.
    options = ["add", str(session), "--config", config, "--max-rise", "1e9"]
    until(lambda: list((tmp_path / "state/evidence/pump").glob("*/evidence.json")))
    refused = CliRunner().invoke(bank, options)
    assert "silence known alarms" in str(refused.exception)
    (alarm,) = (path.name for path in (tmp_path / "state/evidence/pump").iterdir())
    done = CliRunner().invoke(bank, [*options, "--force", alarm])
    assert done.exit_code == 0, (done.output, done.exception)
    until(lambda: agent._growth.bundle("pump").manifest.growth is not None)
    before = agent.pipelines[0].tally.exceeded
    until(lambda: agent._growth._swapper._uses["pump"].trial is None)
    time.sleep(1)
    assert agent.pipelines[0].tally.exceeded <= before + 3
    assert agent.pipelines[0].fault is None


def test_a_bundle_of_other_windows_begins_the_machine_anew(tmp_path, plant, run):
    agent, thread = run(plant([(6, 440)], speed="realtime", loop=True))
    until(lambda: agent.pipelines[0].tally.windows > 1)
    first = agent.pipelines[0]
    manifest = read_manifest(tmp_path / "pump")
    shutil.copytree(tmp_path / "pump", tmp_path / "half")
    build_graph(tmp_path / "half" / ENCODER, window=4000)
    encoder = manifest.encoder.model_copy(update={"window_samples": 4000})
    seal(tmp_path / "half", manifest.model_copy(update={"encoder": encoder, "window_seconds": 0.5}))
    (tmp_path / "pump").rename(tmp_path / "old")
    (tmp_path / "half").rename(tmp_path / "pump")
    until(lambda: agent.pipelines[0] is not first and agent.pipelines[0].tally.windows > 2)
    assert not first.running
    assert thread.is_alive()
    assert agent.fault() is None


def test_a_damaged_bundle_at_start_is_replaced_by_what_worked(tmp_path, plant, run):
    path = plant([(6, 440)], speed="realtime", loop=True)
    agent, thread = run(path)
    until((tmp_path / "state" / "bank" / "pump" / "good").is_dir)
    agent.request_stop()
    thread.join(5)
    agent.stop()
    (tmp_path / "pump" / "bank.npy").write_bytes(b"")
    agent, _ = run(path)
    until(lambda: agent.pipelines[0].tally.windows > 1)
    with pytest.raises(BundleError, match=r"bank\.npy"):
        Agent(load_config(path)).prepare(strict=True)
