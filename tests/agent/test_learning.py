"""A machine without a bundle is heard, recorded and honestly unjudged, until a bundle is put there."""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
import time

import pytest
import yaml
from support.bundles import FAULTY_HZ, tone, write
from support.page import Running, until

from agent.collect.spool import CollectOrder
from agent.commands.run import heartbeat
from agent.config.agent import load_config
from agent.config.capture import MicrophoneSource
from agent.config.chosen import choose_microphone, chosen_microphone
from agent.core.errors import AuscultError, ConfigError
from agent.doctor.examine import check_bundle, check_microphone
from agent.doctor.finding import Grade
from agent.encode.onnx import OnnxEncoder
from agent.pipeline.listen_only import ListenOnly
from agent.pipeline.pipeline import Pipeline
from agent.service import Agent


def config_of(folder, machine=None, **extra):
    write(folder / "sound" / "0.wav", tone(30, FAULTY_HZ, seed=3))
    source = {"kind": "replay", "paths": ["sound"], "speed": "realtime", "loop": True}
    path = folder / "agent.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "device": "dev",
                "state_dir": "state",
                "machines": [
                    {"name": "pump", "decide": {"raise_windows": 2, "of_windows": 3}}
                    | ({"source": source} if machine is None else machine)
                ],
                "bundles": {"watch_seconds": 0.2, "trial_windows": 2},
                "collect": {"free_share": 0, "rate": 8000},
                "jsonl": "told.jsonl",
                **extra,
            }
        )
    )  # fmt: skip
    return path


@pytest.fixture
def running(tmp_path):
    with Running(config_of(tmp_path)) as found:
        yield found


@pytest.fixture(scope="module")
def left_alone(tmp_path_factory):
    """One whose state no test changes."""
    folder = tmp_path_factory.mktemp("learning")
    with Running(config_of(folder)) as found:
        found.folder = folder
        until(lambda: found.agent.pipelines[0].counters.windows > 1)
        yield found


def told(folder):
    return [json.loads(line) for line in (folder / "told.jsonl").read_text().splitlines()]


def put(bundle, place):
    """As a copy over the network arrives: bit by bit, the manifest not last."""
    place.mkdir(parents=True)
    for file in sorted(bundle.iterdir()):
        shutil.copyfile(file, place / file.name)


def test_it_is_heard_and_nothing_is_claimed_of_it(left_alone, caplog):
    agent = left_alone.agent
    (learner,) = agent.pipelines
    assert isinstance(learner, ListenOnly)
    health = agent.health()["machines"]["pump"]
    assert health["unjudged"] == health["windows"] > 1
    assert health["missing"] == ["bundle"]
    assert health["validity"] == "valid"
    assert agent.info()["machines"] == {"pump": None}
    text = agent.exposition()
    assert 'auscult_bundle_missing{machine="pump"} 1' in text
    assert 'auscult_score{machine="pump"}' not in text
    assert 'auscult_alarm_level{machine="pump"}' not in text
    lines = told(left_alone.folder)
    assert lines[0]["unjudged"] == ["pump"]
    assert {line["kind"] for line in lines} == {"status", "sensor"}
    with pytest.raises(AuscultError, match="no bundle yet"):
        agent.answer_alarm("pump")
    feedback = agent.extensions.handlers()["feedback"]
    with pytest.raises(AuscultError, match="not judged yet"):
        feedback({"machine": "pump", "window": 0, "alarm_id": None, "verdict": "normal"})
    with caplog.at_level("INFO"):
        heartbeat(agent)
    assert "no bundle yet" in caplog.text


def test_a_bundle_put_there_takes_over_and_judges_without_a_restart(running, tmp_path, tiny_bundle):
    agent = running.agent
    put(tiny_bundle, tmp_path / "state" / "bundles" / "pump")
    until(lambda: isinstance(agent.pipelines[0], Pipeline))
    until(
        lambda: any(line["kind"] == "alarm" and line["level"] == "alarm" for line in told(tmp_path))
    )
    assert agent.health()["machines"]["pump"]["missing"] == []
    assert agent.info()["machines"]["pump"]["rows"] == 5
    assert 'auscult_bundle_missing{machine="pump"} 0' in agent.exposition()
    (swapped,) = [
        line["data"] for line in told(tmp_path) if line.get("type") == "auscult.bundle.swapped"
    ]
    assert swapped["old_digest"] == ""
    assert swapped["threshold"] == pytest.approx(0.05)
    until((tmp_path / "state" / "bank" / "pump" / "good").is_dir)


def test_it_is_judged_from_the_start_after_that(tmp_path, tiny_bundle):
    path = config_of(tmp_path)
    put(tiny_bundle, tmp_path / "state" / "bundles" / "pump")
    agent = Agent(load_config(path))
    agent.prepare()
    agent.start()
    agent.stop()
    assert isinstance(agent.pipelines[0], Pipeline)


def test_a_damaged_first_bundle_is_refused_and_listening_goes_on(
    running, tmp_path, tiny_bundle, caplog
):
    place = tmp_path / "state" / "bundles" / "pump"
    damaged = tmp_path / "damaged"
    shutil.copytree(tiny_bundle, damaged)
    (damaged / "bank.npy").write_bytes(b"cut short")
    put(damaged, place)
    until(lambda: running.agent.extensions.swapper.refused)
    learner = running.agent.pipelines[0]
    before = learner.counters.windows
    assert isinstance(learner, ListenOnly)
    until(lambda: learner.counters.windows > before)
    (refused,) = [
        line["data"] for line in told(tmp_path) if line.get("type") == "auscult.bundle.refused"
    ]
    assert refused["threshold"] is None
    assert "bank.npy" in refused["reason"]
    assert "in use from now on: none" in caplog.text
    shutil.copyfile(tiny_bundle / "bank.npy", place / "bank.npy")
    until(lambda: isinstance(running.agent.pipelines[0], Pipeline))


def test_a_bundle_that_cannot_keep_the_promise_asked_for_does_not_end_listening(
    tmp_path, tiny_bundle
):
    """It comes without healthy scores, from which such a threshold would be found."""
    machine = {
        "decide": {"false_alarms": {"at_most": 1, "per_days": 30}},
        "source": {"kind": "replay", "paths": ["sound"], "speed": "realtime", "loop": True},
    }
    with Running(config_of(tmp_path, machine)) as running:
        put(tiny_bundle, tmp_path / "state" / "bundles" / "pump")
        until(lambda: running.agent.extensions.swapper.refused)
        learner = running.agent.pipelines[0]
        assert isinstance(learner, ListenOnly)
        assert running.agent.fault() is None
        before = learner.counters.windows
        until(lambda: learner.counters.windows > before)
    (refused,) = [
        line["data"] for line in told(tmp_path) if line.get("type") == "auscult.bundle.refused"
    ]
    assert "false_alarms needs the healthy scores" in refused["reason"]
    # Nor does it keep the agent from starting again: another machine may depend on it.
    config = load_config(tmp_path / "agent.yaml")
    agent = Agent(config)
    agent.prepare()
    agent.start()
    agent.stop()
    assert isinstance(agent.pipelines[0], ListenOnly)
    assert check_bundle(config, config.machines[0])[0].grade is Grade.FAIL


def test_a_damaged_first_bundle_does_not_keep_the_agent_from_starting(tmp_path, tiny_bundle):
    path = config_of(tmp_path)
    put(tiny_bundle, tmp_path / "state" / "bundles" / "pump")
    (tmp_path / "state" / "bundles" / "pump" / "bank.npy").write_bytes(b"")
    agent = Agent(load_config(path))
    agent.prepare()
    assert agent.extensions.judging("pump") is None
    with pytest.raises(AuscultError, match=r"bank\.npy"):
        Agent(load_config(path)).prepare(strict=True)


def test_a_first_bundle_that_fails_its_trial_is_put_away(
    running, tmp_path, tiny_bundle, monkeypatch
):
    encode = OnnxEncoder.encode

    def failing(self, waveforms):
        if threading.current_thread().name == "pump-score":  # in use, not while it is tried out
            raise RuntimeError("out of memory")
        return encode(self, waveforms)

    monkeypatch.setattr(OnnxEncoder, "encode", failing)
    put(tiny_bundle, tmp_path / "state" / "bundles" / "pump")
    until(lambda: running.agent.extensions.swapper.rolled_back)
    until(lambda: isinstance(running.agent.pipelines[0], ListenOnly))
    assert running.agent.fault() is None
    before = running.agent.pipelines[0].counters.windows
    until(lambda: running.agent.pipelines[0].counters.windows > before)


def test_what_is_recorded_meanwhile_has_the_rate_asked_for(left_alone):
    recording = left_alone.agent.extensions.collector.begin(
        CollectOrder(machine="pump", label="healthy", seconds=2.0)
    )
    assert recording.wait(20)
    session = recording.result()
    assert session.rate == 8000
    assert session.kept_seconds == pytest.approx(2.0)


def test_a_configured_bundle_that_is_not_there_is_a_mistake_still(tmp_path):
    config = config_of(tmp_path, {"bundle": "nowhere", "source": "replay:sound"})
    with pytest.raises(AuscultError, match="no bundle here"):
        Agent(load_config(config)).prepare()


def test_doctor_says_what_is_missing_and_where_it_goes(tmp_path):
    config = load_config(config_of(tmp_path, {}))
    finding, share = check_bundle(config, config.machines[0])
    assert finding.grade is Grade.WARN
    assert str(tmp_path / "state" / "bundles" / "pump") in finding.remedy
    assert share == 0.0
    assert "none is chosen" in check_microphone(config, config.machines[0]).text


def test_without_a_microphone_it_waits_for_one_to_be_chosen(tmp_path, monkeypatch):
    class Silence:
        live = True
        stopped = False

        def start(self):
            pass

        def blocks(self):
            while not self.stopped:
                time.sleep(0.01)
            yield from ()

        def stop(self):
            self.stopped = True

        attempts = 0

        def faults(self):
            return {}

    opened = []
    monkeypatch.setattr(
        "agent.listeners.open_source", lambda config, rate: opened.append(config) or Silence()
    )
    path = config_of(tmp_path, {})
    with Running(path) as found:
        assert found.agent.health()["machines"]["pump"]["missing"] == ["microphone", "bundle"]
        assert not opened
        found.agent.listeners.choose_microphone(
            "pump", MicrophoneSource(device="hw:CARD=USB,DEV=0")
        )
        assert found.agent.pipelines[0].missing == ("bundle",)
    (chosen,) = opened
    assert chosen.device == "hw:CARD=USB,DEV=0"
    # It survives a restart, and the configuration was not touched.
    config = load_config(path)
    assert config.source_of(config.machines[0]).device == "hw:CARD=USB,DEV=0"
    assert "USB" not in path.read_text()


@pytest.mark.parametrize(
    ("machine", "missing"), [(None, "no bundle yet"), ({}, "no microphone yet")]
)
def test_systemd_is_told_that_it_is_ready_and_what_is_missing(
    tmp_path, monkeypatch, machine, missing
):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0auscult-{tmp_path.name}-{os.getpid()}")
        manager.settimeout(15)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@auscult-{tmp_path.name}-{os.getpid()}")
        monkeypatch.setenv("WATCHDOG_USEC", "120000000")
        with Running(config_of(tmp_path, machine)):
            found = [manager.recv(4096).decode() for _ in range(3)]
    ready = next(one for one in found if "READY=1" in one)
    assert missing in ready
    # It goes on: by windows where they come, else by the loop that waits for a choice.
    assert any("WATCHDOG=1" in one for one in found)


def test_a_choice_never_outdoes_the_configuration(left_alone):
    with pytest.raises(ConfigError, match="the configuration says"):
        left_alone.agent.listeners.choose_microphone("pump", MicrophoneSource(device="other"))


def test_a_damaged_choice_is_told_and_asked_for_again(tmp_path, caplog):
    choose_microphone(tmp_path, "pump", MicrophoneSource(device="vmic", channel=1))
    assert chosen_microphone(tmp_path, "pump").channel == 1
    (place,) = (tmp_path / "state" / "microphones").iterdir()
    place.write_text('{"kind": "microphone", "device": "3"}')
    assert chosen_microphone(tmp_path, "pump") is None
    assert "choose the microphone again" in caplog.text
