"""`auscult run` as a user meets it: a process with a configuration, files, a broker and signals."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys

import pytest
from support.broker import Broker, Subscriber, free_port
from support.bundles import FAULTY_HZ, tone, write

AUSCULT = (sys.executable, "-m", "agent.cli", "run")


@pytest.fixture
def plant(tmp_path, tiny_bundle):
    """A folder as an engineer would have it; `configure` writes agent.yaml."""
    for n, hertz in enumerate((440, FAULTY_HZ, 440)):
        write(tmp_path / "sound" / f"{n}.wav", tone(10, hertz, seed=n + 50))
    shutil.copytree(tiny_bundle, tmp_path / "bundle")

    def configure(speed="max", extra="", source=None):
        source = source or f"{{kind: replay, paths: [sound], speed: {speed}}}"
        path = tmp_path / "agent.yaml"
        path.write_text(
            f"device: dev\nmachines:\n- name: pump\n  bundle: bundle\n  hop_seconds: 0.5\n"
            "  decide: {raise_seconds: 2, of_seconds: 3, clear_seconds: 5}\n"
            f"  source: {source}\n{extra}"
        )
        return path

    return configure


def run(config, *arguments):
    return subprocess.run(
        [*AUSCULT, "--config", config, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_replay_ends_by_itself_with_a_summary(plant, tmp_path):
    done = run(plant(), "--jsonl", tmp_path / "out.jsonl")
    assert done.returncode == 0, done.stderr
    assert "pump: 59 windows over 0:00:30.0" in done.stdout
    assert re.search(r"alarm raised  at 0:00:1[12]\.\d \(window 2\d, 1\.wav", done.stdout)
    assert "alarm cleared at 0:00:2" in done.stdout
    assert "times real time" in done.stdout
    assert done.stderr.count("ALARM raised") == 1
    assert done.stderr.count("alarm cleared") == 1
    assert "Traceback" not in done.stderr
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert sum(line["kind"] == "score" for line in lines) == 59
    events = [line["data"]["event"] for line in lines if line["kind"] == "event"]
    assert events == ["raised", "cleared"]


def test_alarm_reaches_a_real_broker(plant, tmp_path):
    with Broker(tmp_path / "broker") as broker, Subscriber(broker.port) as live:
        done = run(plant(extra=f"mqtt: {{host: 127.0.0.1, port: {broker.port}}}"))
        assert done.returncode == 0, done.stderr
        live.wait("status", lambda m: m["status"] == "offline" and m["reason"] == "stopped")
        events = [event["data"]["event"] for event in live.of("dev/pump/event")]
        assert events == ["raised", "cleared"]
        assert [alarm["level"] for alarm in live.of("dev/pump/alarm")] == [
            "normal",
            "alarm",
            "normal",
        ]
        assert len(live.of("dev/pump/score")) == 59


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_it_cleanly(plant, tmp_path, number):
    with Broker(tmp_path / "broker") as broker, Subscriber(broker.port) as live:
        config = plant("realtime", f"mqtt: {{host: 127.0.0.1, port: {broker.port}}}")
        process = subprocess.Popen(
            [*AUSCULT, "--config", config],
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            live.wait("score")
            process.send_signal(number)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
        assert process.returncode == 0, err
        assert "Traceback" not in err
        assert "pump: " in out
        assert live.wait("status", lambda m: m["status"] == "offline")["reason"] == "stopped"


def test_commands_reach_a_running_agent(plant, tmp_path):
    """In the very process that listens: answered, told as an event, and part of the alarm's state."""
    with Broker(tmp_path / "broker") as broker, Subscriber(broker.port) as live:
        config = plant("realtime", f"mqtt: {{host: 127.0.0.1, port: {broker.port}}}")
        process = subprocess.Popen(
            [*AUSCULT, "--config", config], stderr=subprocess.PIPE, text=True
        )
        try:
            assert "mute" in live.wait("dev/info")["commands"]
            live.wait("score")
            request = {"transaction": "t1", "machine": "pump", "seconds": 60, "operator": "me"}
            live.publish("auscult/dev/request/mute", request)
            assert live.wait("response/mute")["status"] == "ok"
            assert live.wait("pump/event")["data"]["operator"] == "me"
            assert live.wait("pump/alarm", lambda m: m["muted_until"])["level"] == "normal"
            health = live.wait("dev/health")
            assert health["outbox"]["unsaved"] == 0
            assert "pump" in health["machines"]
        finally:
            process.terminate()
            _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert "Traceback" not in err


def test_scoring_goes_on_without_a_broker(plant):
    done = run(plant(extra=f"mqtt: {{host: 127.0.0.1, port: {free_port()}}}"))
    assert done.returncode == 0
    assert "59 windows" in done.stdout
    assert "not reached (Connection refused)" in done.stderr
    assert "2 alarm events were not delivered; they are kept for the next start" in done.stderr


def test_alarms_of_a_run_without_a_broker_are_delivered_by_the_next(plant, tmp_path):
    port = free_port()
    config = plant(extra=f"mqtt: {{host: 127.0.0.1, port: {port}}}\nstate_dir: state\n")
    assert run(config).returncode == 0
    with Broker(tmp_path / "broker", port=port), Subscriber(port) as live:
        done = run(config)
        assert "2 alarm events of an earlier run" in done.stderr
        ids = [event["id"] for event in live.of("dev/pump/event")]
        assert len(set(ids)) == 4
        info = live.wait("dev/info")["machines"]["pump"]
        assert info["bundle"] == "bundle"
        assert info["rows"] > 0


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("break_it", "extra", "message"),
    [
        (
            lambda place: shutil.rmtree(place / "bundle"),
            "",
            r"bundle: there is no bundle here.*auscult export",
        ),
        (
            lambda place: flip(place / "bundle" / "bank.npy"),
            "",
            r"bank\.npy: is not the file that was exported",
        ),
        (
            lambda place: flip(place / "bundle" / "encoder.onnx"),
            "",
            r"encoder\.onnx: is not the file",
        ),
        (lambda place: shutil.rmtree(place / "sound"), "", r"sound: there is no recording here"),
        (lambda place: None, "heartbeat_second: 3", "did you mean 'heartbeat_seconds'"),
        (
            lambda place: None,
            "mqtt: {host: h, username: u, password_file: secret}",
            r"secret: the password file cannot be read",
        ),
        (lambda place: None, "inference: {providers: [Nope]}", "no execution provider Nope"),
    ],
)
def test_what_cannot_work_ends_with_code_2_and_one_clear_line(
    plant, tmp_path, break_it, extra, message
):
    config = plant(extra=extra)
    break_it(tmp_path)
    done = run(config)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert re.search(message, done.stderr.splitlines()[-1]), done.stderr


def test_a_path_that_is_wrong_is_told_before_a_broker_is_tried(plant, tmp_path):
    config = plant(extra=f"mqtt: {{host: 127.0.0.1, port: {free_port()}}}")
    shutil.rmtree(tmp_path / "sound")
    done = run(config)
    assert done.returncode == 2
    assert "trying again" not in done.stderr
    assert "sound: there is no recording here" in done.stderr.splitlines()[-1]


def test_check_verifies_without_listening(plant, tmp_path):
    config = plant()
    done = run(config, "--check")
    assert (done.returncode, "in order" in done.stdout) == (0, True)
    flip(tmp_path / "bundle" / "rows.npy")
    assert run(config, "--check").returncode == 2


def test_replay_of_unreadable_files_only_ends_with_code_2(plant, tmp_path):
    for file in (tmp_path / "sound").iterdir():
        file.write_bytes(b"junk")
    done = run(plant())
    assert done.returncode == 2
    assert "none of the 3 recordings could be read" in done.stderr


def test_invalid_stretches_are_one_line_at_their_start_and_end(plant, tmp_path):
    import numpy as np

    write(tmp_path / "sound" / "0.wav", np.zeros(80000, np.float32))
    write(tmp_path / "sound" / "1.wav", tone(10))
    done = run(plant())
    assert done.stderr.count("cannot be judged (silent)") == 1
    assert done.stderr.count("can be judged again") == 1
    assert "silent" in done.stdout


def test_two_machines_share_a_bundle_and_a_connection(plant, tmp_path):
    config = plant()
    config.write_text(
        config.read_text()
        + "- {name: fan, bundle: bundle, source: {kind: replay, paths: [sound/0.wav], speed: max}}\nheartbeat_seconds: 0.1\n"
    )
    done = run(config, "--jsonl", tmp_path / "out.jsonl")
    assert done.returncode == 0, done.stderr
    assert "pump: 59 windows" in done.stdout
    assert "fan: 19 windows" in done.stdout
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert {line["machine"] for line in lines if line["kind"] == "alarm"} == {"pump", "fan"}


FORBIDDEN = (
    "torch",
    "trainer",
    "export",
    "sklearn",
    "matplotlib",
    "scipy",
    "onnx",
    "amqtt",
    "pandas",
    "jinja2",
)


def test_a_running_agent_holds_the_agents_code_alone(plant, tmp_path):
    """In the very process that has listened, scored and published."""
    code = (
        "import sys\n"
        "from agent.cli import root\n"
        "root(['run', '--config', sys.argv[1]], standalone_mode=False)\n"
        "print('MODULES', *sorted({name.partition('.')[0] for name in sys.modules}))\n"
    )
    with Broker(tmp_path / "broker") as broker:
        config = plant(extra=f"mqtt: {{host: 127.0.0.1, port: {broker.port}}}")
        done = subprocess.run(
            [sys.executable, "-c", code, config],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    loaded = set(done.stdout.rpartition("MODULES")[2].split())
    assert {"agent", "onnxruntime", "paho", "soxr"} <= loaded
    assert not loaded & set(FORBIDDEN)
