"""Level in a running agent: told once, answered by an operator, kept, and taken back."""

from __future__ import annotations

import json
import threading
import time

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from support.broker import Broker, Subscriber
from support.bundles import RATE, write
from support.levelled import build_levelled_bundle, machine

from agent.bank.sound import alarm_sound, cut
from agent.commands.doctor import doctor
from agent.config.agent import load_config
from agent.core.errors import AuscultError
from agent.deploy.load import open_bundle
from agent.level.baseline import LevelFile, LevelMemory
from agent.service import Agent


@pytest.fixture
def plant(tmp_path):
    build_levelled_bundle(tmp_path / "pump")

    def make(*sounds, speed="max", loop=False, level="judge", name="pump", **extra):
        for n, sound in enumerate(sounds):
            write(tmp_path / "sound" / f"{n}.wav", sound)
        source = {"kind": "replay", "paths": ["sound"], "speed": speed, "loop": loop}
        path = tmp_path / "agent.yaml"
        path.write_text(
            yaml.safe_dump(
                {
                    "device": "dev",
                    "state_dir": "state",
                    "jsonl": "out.jsonl",
                    "machines": [
                        {"name": name, "bundle": "pump", "source": source, "level": level,
                         "decide": {"raise_windows": 4, "of_windows": 6}}
                    ],
                    "evidence": {"before_seconds": 3, "during_seconds": 2, "free_share": 0},
                    "collect": {"free_share": 0},
                    **extra,
                }
            )
        )  # fmt: skip
        return path

    return make


def run_through(path):
    """Run an agent until its sound ends; what it told."""
    agent = Agent(load_config(path))
    agent.prepare()
    agent.start()
    agent.wait()
    agent.stop()
    return told(path), agent


def told(path):
    text = (path.parent / "out.jsonl").read_text()
    whole = text[: text.rfind("\n") + 1]  # the last line may be under way
    return [json.loads(line) for line in whole.splitlines()]


def events(lines):
    return [line["data"] for line in lines if line["kind"] == "event"]


@pytest.fixture
def running():
    """Run agents in the background; ended with the test."""
    agents = []

    def begin(path):
        agent = Agent(load_config(path))
        agent.prepare()
        agent.start()
        thread = threading.Thread(target=agent.wait)
        thread.start()
        agents.append((agent, thread))
        return agent

    yield begin
    for agent, thread in agents:
        agent.request_stop()
        thread.join(5)
        agent.stop()


def until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert condition()


def test_a_louder_machine_is_told_once_as_such_and_raises_no_alarm(plant):
    lines, agent = run_through(
        plant(machine(20, seed=40), machine(60, seed=41, gain_db=6), machine(30, seed=42))
    )
    happened = events(lines)
    assert [event["event"] for event in happened] == ["level", "level_returned"]
    changed = happened[0]
    assert changed["level_change_db"] == pytest.approx(6.0, abs=1.0)
    assert "6 dB louder in every band" in changed["explanation"]["text"]
    assert (changed["level"], changed["alarm_id"]) == ("normal", None)
    # What is heard is said as it is: beyond the threshold, and why that counts for nothing.
    scores = [line for line in lines if line["kind"] == "score"]
    loud = [one for one in scores if one["level_change_db"] is not None]
    assert len(loud) > 80
    assert all(one["score"] > 1.0 and not one["exceeded"] for one in loud)
    states = [line for line in lines if line["kind"] == "alarm"]
    assert [one["level_change_db"] for one in states][-2:] == [
        pytest.approx(6.0, abs=1.0), None
    ]  # fmt: skip
    counters = agent.pipelines[0].counters
    assert counters.raised == 0
    # The summary does not say "0 above the threshold" alone of windows that scored above it.
    assert (counters.exceeded, counters.levelled) == (0, len(loud))
    types = {line["type"] for line in lines if line["kind"] == "event"}
    assert types == {"auscult.alarm.level", "auscult.alarm.level_returned"}


def test_a_fault_of_the_louder_machine_raises_the_alarm(plant):
    lines, _ = run_through(
        plant(machine(30, seed=43, gain_db=6), machine(20, seed=44, gain_db=6, whine=0.02))
    )
    kinds = [event["event"] for event in events(lines)]
    assert kinds[0] == "level"
    assert "raised" in kinds
    assert kinds.count("level") == 1


def test_with_ignore_a_louder_machine_is_not_told_and_a_fault_is(plant):
    path = plant(
        machine(20, seed=45), machine(30, seed=46, gain_db=9),
        machine(20, seed=47, gain_db=-9, whine=0.02), level="ignore",
    )  # fmt: skip
    lines, agent = run_through(path)
    kinds = [event["event"] for event in events(lines)]
    assert not [kind for kind in kinds if kind.startswith("level")]
    assert "raised" in kinds
    raised = next(event for event in events(lines) if event["event"] in {"raised", "alert"})
    assert int(raised["origin"].removesuffix(".wav")) == 2
    assert list((path.parent / "state" / "level-free" / "pump").glob("*.npz"))
    assert agent.pipelines[0].fault is None


def test_an_operator_answers_and_it_is_kept_over_a_restart_and_can_be_undone(plant, running):
    path = plant(machine(60, seed=48, gain_db=6), loop=True)
    agent = running(path)
    until(lambda: any(event["event"] == "level" for event in events(told(path))))
    answer = agent.pipelines[0].take_level("A. Meier", "moved to the other post")
    assert answer.decibels == pytest.approx(6.0, abs=1.0)
    assert answer.windows >= 5
    assert (answer.operator, answer.comment) == ("A. Meier", "moved to the other post")
    seen = len(told(path))
    until(lambda: len(told(path)) > seen + 200)
    after = [line for line in told(path)[seen + 50 :] if line["kind"] == "score"]
    assert np.mean([line["score"] <= 1.0 for line in after]) > 0.97
    assert all(line["level_change_db"] is None for line in after[10:])
    kinds = [event["event"] for event in events(told(path))]
    assert kinds.count("level_baseline") == 1
    taken = next(event for event in events(told(path)) if event["event"] == "level_baseline")
    assert (taken["operator"], taken["level_change_db"]) == ("A. Meier", pytest.approx(6, abs=1))
    info = agent.bundle_infos()["pump"].level
    assert (info.mode, info.baseline.operator) == ("judge", "A. Meier")
    agent.request_stop()
    agent.stop()
    # The bundle knows nothing of it; the state does.
    (kept,) = (path.parent / "state" / "state" / "level").iterdir()
    assert len(LevelMemory.model_validate_json(kept.read_bytes()).answers) == 1
    again = running(path)
    before = len(told(path))
    until(lambda: len(told(path)) > before + 60)
    assert again.pipelines[0].offset_db == pytest.approx(6.0, abs=1.0)
    fresh = [line for line in told(path)[before:] if line["kind"] == "score"]
    assert np.mean([line["score"] <= 1.0 for line in fresh]) > 0.9
    gone = again.pipelines[0].undo_level("B. Roth")
    assert gone.undone_by == "B. Roth"
    assert again.pipelines[0].offset_db == 0.0
    with pytest.raises(AuscultError, match="no level was taken anew"):
        again.pipelines[0].undo_level("B. Roth")
    until(lambda: [e["event"] for e in events(told(path))].count("level") == 2)


def test_doctor_says_what_is_taken_off_and_what_cannot_be(plant, tmp_path):
    path = plant(machine(3, seed=49))
    file = LevelFile(tmp_path / "state" / "state" / "level" / "pump.json")
    bundle = open_bundle(tmp_path / "pump")
    _answer(file, bundle.manifest.digest, 4.5)
    bundle.close()
    shown = CliRunner().invoke(doctor, ["--config", str(path)]).output
    assert "+4.5 dB are taken off" in shown
    assert "A. Meier" in shown
    build_levelled_bundle(tmp_path / "old", views=False)
    path.write_text(
        path.read_text().replace("bundle: pump", "bundle: old").replace("judge", "ignore")
    )
    shown = CliRunner().invoke(doctor, ["--config", str(path)]).output
    assert "names no views" in shown


def _answer(file, origin, decibels):
    from agent.level.baseline import LevelBaseline

    file.load()
    file.add(
        LevelBaseline(
            decibels=decibels, operator="A. Meier", time="2026-01-01T00:00:00.000Z", origin=origin
        )
    )


def test_sound_of_an_alarm_joins_the_bank_at_the_level_it_was_judged_at(plant, tmp_path):
    path = plant(machine(6, seed=50, gain_db=6), machine(8, seed=51, gain_db=6, whine=0.02))
    bundle = open_bundle(tmp_path / "pump")
    _answer(
        LevelFile(tmp_path / "state" / "state" / "level" / "pump.json"),
        bundle.manifest.digest, 6.0,
    )  # fmt: skip
    lines, _ = run_through(path)
    assert "raised" in [event["event"] for event in events(lines)]
    (folder,) = (tmp_path / "state" / "evidence" / "pump").iterdir()
    recording = alarm_sound(folder)
    assert recording.offset_db == 6.0
    taken = [window for _, window in cut(recording, bundle)]
    plain = machine(8, seed=51, whine=0.02)
    assert np.sqrt(np.mean(np.square(taken[-1]))) == pytest.approx(
        np.sqrt(np.mean(np.square(plain[2 * RATE :]))), rel=0.1
    )
    bundle.close()


def test_over_mqtt_the_change_and_the_answer_reach_whoever_listens(plant, running, tmp_path):
    with Broker(tmp_path / "broker") as broker:
        path = plant(
            machine(60, seed=52, gain_db=-8), loop=True,
            mqtt={"host": "127.0.0.1", "port": broker.port, "home_assistant": {"enabled": True}},
            commands={"trust_broker": True},
        )  # fmt: skip
        with Subscriber(broker.port) as live:
            running(path)
            live.wait("pump/event", lambda m: m["type"] == "auscult.alarm.level")
            live.wait("pump/alarm", lambda m: (m["level_change_db"] or 0) < -6)
            live.publish(
                "auscult/dev/request/level_baseline",
                {"transaction": "t1", "machine": "pump", "operator": "A. Meier"},
            )
            answer = live.wait("response/level_baseline")
            assert answer["status"] == "ok", answer
            assert answer["result"]["decibels"] == pytest.approx(-8, abs=1)
            live.wait("pump/event", lambda m: m["type"] == "auscult.alarm.level_baseline")
            live.wait("pump/alarm", lambda m: m["level_change_db"] is None)
            info = live.wait(
                "dev/info", lambda m: m["machines"]["pump"]["level"]["baseline"] is not None
            )
            assert info["machines"]["pump"]["level"]["baseline"]["operator"] == "A. Meier"
