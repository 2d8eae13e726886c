"""One fault costs one machine: the agent goes on with the others, and tells it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading

import pytest
import yaml
from support.bundles import FAULTY_HZ, tone, write
from support.page import Running, until

from agent.config.agent import load_config
from agent.core.errors import AuscultError
from agent.doctor.examine import examine
from agent.encode.onnx import OnnxEncoder
from agent.pipeline import mending
from agent.pipeline.listen_only import ListenOnly
from agent.pipeline.pipeline import Pipeline
from agent.service import Agent

AUSCULT = (sys.executable, "-m", "agent.cli", "run")


@pytest.fixture
def plant(tmp_path, tiny_bundle):
    """Two machines, each with a bundle of its own; the second breaks."""
    for name in ("good", "bad"):
        shutil.copytree(tiny_bundle, tmp_path / name)
        write(tmp_path / f"{name}-sound" / "0.wav", tone(12, FAULTY_HZ, seed=3))

    def configure(speed="max", loop=False, **extra):
        machines = [
            {
                "name": name,
                "bundle": name,
                "source": {
                    "kind": "replay", "paths": [f"{name}-sound"], "speed": speed, "loop": loop,
                },
                "decide": {"raise_windows": 2, "of_windows": 3},
            }
            for name in ("good", "bad")
        ]  # fmt: skip
        path = tmp_path / "agent.yaml"
        path.write_text(
            yaml.safe_dump(
                {
                    "device": "dev", "state_dir": "state", "machines": machines,
                    "bundles": {"watch_seconds": 0.2, "trial_windows": 2},
                    "jsonl": "told.jsonl", "collect": {"free_share": 0}, **extra,
                }
            )
        )  # fmt: skip
        return path

    return configure


def run(config):
    return subprocess.run(
        [*AUSCULT, "--config", config], capture_output=True, text=True, timeout=120, check=False
    )


def events(folder, kind):
    lines = [json.loads(line) for line in (folder / "told.jsonl").read_text().splitlines()]
    return [line for line in lines if line.get("type", "").endswith(kind)]


@pytest.mark.parametrize("how", ["damaged", "missing"])
def test_a_bundle_without_a_good_copy_leaves_the_other_machine_listened_to(plant, tmp_path, how):
    path = plant()
    if how == "damaged":
        (tmp_path / "bad" / "bank.npy").write_bytes(b"")
    else:
        shutil.rmtree(tmp_path / "bad")
    done = run(path)
    assert done.returncode == 0, done.stderr
    assert re.search(r"good: \d+ windows .* 0 invalid", done.stdout)
    assert "bad: heard, and not judged" in done.stderr
    assert [one["subject"] for one in events(tmp_path, "raised")] == ["good"]
    (told,) = events(tmp_path, f"bundle.{'refused' if how == 'damaged' else 'missing'}")
    assert told["subject"] == "bad"
    assert str(tmp_path / "bad") in told["data"]["reason"]
    if how == "missing":
        # Nothing is wrong with a bundle that is not there: where it was looked for, and what to do.
        assert "bundle missing: " in done.stderr
        assert "bundle refused" not in done.stderr
        assert "`bundle:` of its configuration" in told["data"]["reason"]
    grades = {one.name: one.grade.value for one in examine(path)}
    assert (grades["bundle of good"], grades["bundle of bad"]) == ("ok", "fail")


def test_nothing_left_to_judge_ends_it(plant, tmp_path):
    path = plant()
    for name in ("good", "bad"):
        (tmp_path / name / "bank.npy").write_bytes(b"")
    done = run(path)
    assert done.returncode == 2
    assert "bank.npy" in done.stderr.splitlines()[-1]
    shutil.rmtree(tmp_path / "state", ignore_errors=True)
    shutil.rmtree(tmp_path / "bad")
    with pytest.raises(AuscultError, match=r"bank\.npy"):
        Agent(load_config(path)).prepare(strict=True)


def test_a_mended_bundle_is_taken_up_without_a_restart(plant, tmp_path, tiny_bundle):
    (tmp_path / "bad" / "bank.npy").write_bytes(b"")
    path = plant("realtime", loop=True)
    with Running(path) as running:
        good, bad = running.agent.pipelines
        assert isinstance(good, Pipeline)
        assert isinstance(bad, ListenOnly)
        (remark,) = running.agent.health()["machines"]["bad"]["remarks"]
        assert "bank.npy" in remark
        until(lambda: bad.counters.windows > 0)
        shutil.copyfile(tiny_bundle / "bank.npy", tmp_path / "bad" / "bank.npy")
        until(lambda: isinstance(running.agent.pipelines[1], Pipeline))
        assert running.agent.health()["machines"]["bad"]["remarks"] == []


def test_a_machine_that_fails_begins_anew_while_the_other_is_listened_to(
    plant, tmp_path, monkeypatch
):
    monkeypatch.setattr(mending, "FIRST_SECONDS", 0.3)
    encode, broken = OnnxEncoder.encode, threading.Event()

    def failing(self, waveforms):
        if broken.is_set() and threading.current_thread().name == "bad-score":
            raise RuntimeError("out of memory")
        return encode(self, waveforms)

    monkeypatch.setattr(OnnxEncoder, "encode", failing)
    # A replay is dead for good; a live source is not.
    monkeypatch.setattr("agent.pipeline.listener.Listener.live", property(lambda _: True))
    with Running(plant("realtime", loop=True)) as running:
        agent = running.agent
        until(lambda: all(one.counters.windows > 2 for one in agent.pipelines))
        # No trial any more: it is no new bundle that fails.
        until(lambda: all(use.trial is None for use in agent.extensions.swapper.uses.values()))
        waiting = threading.Thread(target=agent.wait, daemon=True)
        waiting.start()
        good, bad = agent.pipelines
        broken.set()
        until(lambda: bad.fault is not None)
        lines = map(json.loads, (tmp_path / "told.jsonl").read_text().splitlines())
        sensors = [line for line in lines if line["kind"] == "sensor" and line["machine"] == "bad"]
        told = sensors[-1]
        assert told["status"] == "failure"
        assert "not listened to" in told["reason"]
        heard = good.counters.windows
        until(lambda: good.counters.windows > heard)
        assert waiting.is_alive()
        broken.clear()
        until(lambda: agent.pipelines[1] is not bad and agent.pipelines[1].counters.windows > 1)
        assert agent.fault() is None
        assert agent.pipelines[0] is good
        agent.request_stop()
        waiting.join(5)
        assert not waiting.is_alive()


def test_a_record_that_cannot_be_written_costs_the_record_alone(plant, tmp_path):
    path = plant(jsonl="/proc/nope/told.jsonl")
    done = run(path)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("/proc/nope/told.jsonl: cannot be written") == 1
    assert done.stderr.count("ALARM raised") == 2
    grades = {one.name: one.grade.value for one in examine(path)}
    assert grades["jsonl"] == "fail"


def test_a_record_is_written_again_once_it_can_be(plant, tmp_path):
    place = tmp_path / "records"
    place.write_text("no folder")
    path = plant("realtime", loop=True, jsonl="records/told.jsonl")
    with Running(path) as running:
        until(lambda: "records/told.jsonl" in running.agent.publisher_states())
        assert "still cannot be" in running.agent.health()["remarks"]
        place.unlink()
        until((place / "told.jsonl").is_file)
        until(lambda: "still cannot be" not in running.agent.publisher_states())
