"""Commissioning: in shadow first, answered, then live with the threshold of the place."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from support.broker import Broker, Subscriber
from support.bundles import FAULTY_HZ, RATE, build_bundle, tone, write

from agent.commands.commission import commission as command_line
from agent.commission.memory import Heard, commission_file, commission_state
from agent.commission.place import place_threshold
from agent.config.agent import load_config
from agent.config.commission import CommissionConfig
from agent.core.scale import scale_of
from agent.deploy.load import open_bundle
from agent.evidence.record import FEEDBACK, RECORD
from agent.service import Agent

MINUTE = 1 / 60
DECIDE = {
    "raise_seconds": 2, "of_seconds": 3, "clear_seconds": 3,
    "alert": None,
}  # fmt: skip


def agent_file(folder: Path, bundle: Path, sound, commission, *, port=None, **more) -> Path:
    write(folder / "sound" / "a.wav", sound)
    path = folder / "agent.yaml"
    machine = {
        "name": "pump", "bundle": str(bundle), "decide": DECIDE, "hop_seconds": 0.5,
        "source": {"kind": "replay", "paths": [str(folder / "sound")], "speed": "max"},
        "evidence": None, **more,
    }  # fmt: skip
    machine.pop("evidence")
    if commission is not None:
        machine["commission"] = commission
    config = {
        "device": "hall", "state_dir": str(folder / "state"), "machines": [machine],
        "evidence": {"before_seconds": 5, "during_seconds": 5},
        "jsonl": str(folder / "told.jsonl"),
    }  # fmt: skip
    if port is not None:
        config["mqtt"] = {"host": "127.0.0.1", "port": port, "health_seconds": 1}
        config["commands"] = {"trust_broker": True}
    path.write_text(yaml.safe_dump(config))
    return path


def run(path: Path) -> list[dict]:
    told = path.parent / "told.jsonl"
    told.unlink(missing_ok=True)
    agent = Agent(load_config(path))
    agent.prepare()
    try:
        agent.start()
        agent.wait()
    finally:
        agent.stop()
    assert agent.fault() is None
    return [json.loads(line) for line in told.read_text().splitlines()]


def events(told: list[dict], area: str) -> list[dict]:
    return [m["data"] for m in told if m["kind"] == "event" and m["type"].startswith(area)]


def memory(path: Path):
    return commission_state(commission_file(path.parent / "state", "pump")).load()


def healthy_fault_healthy(fault=20, healthy=20):
    return np.concatenate(
        [tone(healthy, seed=1), tone(fault, FAULTY_HZ, seed=2), tone(healthy, seed=3)]
    )


def test_off_by_default_alarms_are_told_at_once(tmp_path, tiny_bundle):
    path = agent_file(tmp_path, tiny_bundle, healthy_fault_healthy(), None)
    told = run(path)
    assert [one["event"] for one in events(told, "auscult.alarm")] == ["raised", "cleared"]
    assert not commission_file(tmp_path / "state", "pump").exists()


def test_in_shadow_an_alarm_is_listed_with_its_sound_and_not_told(tmp_path, tiny_bundle):
    path = agent_file(tmp_path, tiny_bundle, healthy_fault_healthy(), {"running_hours": 1})
    told = run(path)
    assert not events(told, "auscult.alarm")
    assert {m["level"] for m in told if m["kind"] == "score"} == {"normal"}
    assert any(m["exceeded"] for m in told if m["kind"] == "score")
    (begun,) = events(told, "auscult.bundle")
    assert begun["event"] == "shadow"
    kept = memory(path)
    (alarm,) = kept.alarms
    folder = tmp_path / "state" / "evidence" / "pump" / alarm.alarm_id
    assert {RECORD, "sound.flac", "spectrogram.png"} <= {one.name for one in folder.iterdir()}
    assert kept.heard_seconds == pytest.approx(59, abs=1.5)
    assert kept.live_wall is None
    # Scores are a window's length apart; those of the alarm, and what led to it, say so.
    assert len(kept.heard) == pytest.approx(59, abs=3)
    assert {one.alarm_id for one in kept.heard} == {"", alarm.alarm_id}


def test_it_goes_on_after_a_restart_and_goes_live_by_itself(tmp_path, tiny_bundle):
    asked = {"running_hours": 1.5 * MINUTE}
    path = agent_file(tmp_path, tiny_bundle, healthy_fault_healthy(), asked)
    run(path)
    told = run(path)
    # 59 s were heard before; the second fault comes while it still listens or just after.
    kinds = [one["event"] for one in events(told, "auscult.bundle")]
    assert kinds == ["live"]
    assert memory(path).live_wall is not None
    assert len(memory(path).alarms) >= 1
    assert "would-be alarm" in memory(path).how
    # From then on alarms are alarms.
    told = run(path)
    assert [one["event"] for one in events(told, "auscult.alarm")] == ["raised", "cleared"]
    assert not events(told, "auscult.bundle")


def test_a_strong_lasting_fault_is_told_as_a_warning(tmp_path, tiny_bundle):
    asked = {"running_hours": 1, "strong": 1.5, "strong_seconds": 10}
    path = agent_file(tmp_path, tiny_bundle, healthy_fault_healthy(30), asked)
    told = run(path)
    alarms = events(told, "auscult.alarm")
    assert [one["event"] for one in alarms] == ["alert", "cleared"]
    assert alarms[0]["threshold"] == 1
    assert memory(path).alarms
    # A short one is none.
    other = tmp_path / "other"
    path = agent_file(other, tiny_bundle, healthy_fault_healthy(6), asked)
    assert not events(run(path), "auscult.alarm")
    assert memory(path).alarms


def test_a_bundle_that_changes_begins_its_scores_anew_and_keeps_the_time(tmp_path, tiny_bundle):
    path = agent_file(tmp_path, tiny_bundle, tone(20), {"running_hours": 1})
    run(path)
    before = memory(path)
    other = build_bundle(tmp_path / "other.bundle", threshold=0.06)
    path = agent_file(tmp_path, other, tone(20), {"running_hours": 1})
    run(path)
    after = memory(path)
    assert after.digest != before.digest
    assert after.heard_seconds > before.heard_seconds + 15
    assert len(after.heard) < 25


def heard(count, *, seed=0, alarm="", first=0, shift=0.0):
    rng = np.random.default_rng(seed)
    return [
        Heard(block=first + n // 60, score=float(rng.exponential(0.005) + shift), alarm_id=alarm)
        for n in range(count)
    ]


def test_the_threshold_of_the_place_leaves_out_what_was_not_called_healthy(tiny_bundle):
    bundle = open_bundle(tiny_bundle)
    manifest, scale = bundle.manifest, scale_of(0.05, None)
    bundle.close()
    place = heard(60 * 40)
    plain = place_threshold(place, (), manifest, scale)
    assert plain.value is not None
    # 1 % of the scores: the quantile of that exponential.
    assert plain.value == pytest.approx(0.005 * np.log(100), rel=0.25)
    odd = heard(60, seed=1, alarm="a", first=100, shift=0.03)
    assert place_threshold([*place, *odd], (), manifest, scale).value == plain.value
    told = place_threshold([*place, *odd], {"a"}, manifest, scale)
    assert told.value is not None
    assert told.value > plain.value


def test_too_little_sound_or_a_deaf_threshold_keep_the_bundles_own(tiny_bundle):
    bundle = open_bundle(tiny_bundle)
    manifest, scale = bundle.manifest, scale_of(0.05, None)
    bundle.close()
    few = place_threshold(heard(500), (), manifest, scale)
    assert (few.value, "minutes of running were heard" in few.how) == (None, True)
    deaf = place_threshold(heard(60 * 40, shift=1.0), (), manifest, scale)
    assert (deaf.value, "would be deaf" in deaf.how) == (None, True)


def test_a_threshold_of_the_place_judges_once_it_is_live(tmp_path, tiny_bundle):
    path = agent_file(tmp_path, tiny_bundle, tone(10), {"running_hours": 1})
    run(path)
    place = commission_file(tmp_path / "state", "pump")
    kept = commission_state(place).load()
    assert kept is not None
    kept = kept.model_copy(update={"live_wall": 1.0, "threshold": 0.123})
    place.write_text(kept.model_dump_json())
    scores = [m for m in run(path) if m["kind"] == "score"]
    assert {round(m["raw_threshold"], 6) for m in scores} == {0.123}
    # One that is configured goes before, and another bundle has its own.
    config = yaml.safe_load(path.read_text())
    config["machines"][0]["decide"]["threshold"] = 0.2
    path.write_text(yaml.safe_dump(config))
    scores = [m for m in run(path) if m["kind"] == "score"]
    assert {round(m["raw_threshold"], 6) for m in scores} == {0.2}


def test_damage_begins_anew_and_is_kept(tmp_path, tiny_bundle):
    path = agent_file(tmp_path, tiny_bundle, tone(5), {"running_hours": 1})
    place = commission_file(tmp_path / "state", "pump")
    place.parent.mkdir(parents=True)
    place.write_text('{"heard_seconds": -1}')
    run(path)
    assert place.with_name("pump.json.damaged").is_file()
    assert memory(path).heard_seconds > 0


def test_the_command_line_lists_answers_and_goes_live(tmp_path, tiny_bundle):
    path = agent_file(tmp_path, tiny_bundle, healthy_fault_healthy(), {"running_hours": 1})
    run(path)
    (alarm,) = memory(path).alarms

    def command(*options):
        found = CliRunner().invoke(command_line, ["--config", str(path), *options])
        return found.exit_code, found.output

    code, text = command()
    assert code == 0
    assert alarm.alarm_id in text
    assert "1 not answered" in text
    code, text = command("--answer", f"{alarm.alarm_id}=fault", "--by", "Ada")
    assert code == 0, text
    said = tmp_path / "state" / "evidence" / "pump" / alarm.alarm_id / FEEDBACK
    assert json.loads(said.read_text())["verdict"] == "anomalous"
    assert "1 a fault" in command()[1]
    assert command("--answer", "nonsense=fault")[0] != 0
    assert command("--answer", alarm.alarm_id)[0] != 0
    code, text = command("--live")
    assert code == 0
    told = run(path)
    assert [one["event"] for one in events(told, "auscult.bundle")] == ["live"]
    # The very first window let it go live: the fault is an alarm.
    assert [one["event"] for one in events(told, "auscult.alarm")] == ["raised", "cleared"]
    code, text = command("--again")
    assert code == 0
    assert events(run(path), "auscult.bundle")[0]["event"] == "shadow"


def test_healthy_answers_grow_the_bank(tmp_path):
    bundle = tmp_path / "pump.bundle"
    build_bundle(bundle)
    path = agent_file(tmp_path, bundle, healthy_fault_healthy(), {"running_hours": 1})
    run(path)
    (alarm,) = memory(path).alarms
    found = CliRunner().invoke(
        command_line,
        ["--config", str(path), "--all", "healthy", "--max-rise", "1000"],
    )  # fmt: skip
    assert found.exit_code == 0, found.output
    assert "version 1" in found.output
    rows = next((tmp_path / "state").rglob("rows.json")).read_text()
    assert f"alarm/{alarm.alarm_id}" in rows


def test_it_is_told_and_answered_over_mqtt(tmp_path, tiny_bundle):
    with Broker(tmp_path / "broker") as broker, Subscriber(broker.port) as heard_:
        path = agent_file(
            tmp_path, tiny_bundle, healthy_fault_healthy(5, 6), {"running_hours": 1, "go_live": "click"},
            port=broker.port,
            source={
                "kind": "replay", "paths": [str(tmp_path / "sound")], "speed": "realtime",
                "loop": True,
            },
        )  # fmt: skip
        agent = Agent(load_config(path))
        agent.prepare()
        agent.start()
        try:
            heard_.wait("pump/event", lambda one: one["data"]["event"] == "shadow")
            heard_.wait(
                "hall/health",
                lambda one: "1 would-be alarm" in str(one["machines"]["pump"]["remarks"]),
                seconds=60,
            )
            time.sleep(6)  # until the evidence is written
            ask(heard_, "status")
            status = heard_.wait("response/commission")["result"]
            assert status["listening"]
            assert [one["answer"] for one in status["alarms"]] == ["open"]
            ask(heard_, "answer", verdict="anomalous")
            heard_.wait(
                "response/commission",
                lambda one: [a["answer"] for a in one["result"]["alarms"]] == ["fault"],
            )
            ask(heard_, "live", operator="Ada")
            live = heard_.wait("pump/event", lambda one: one["data"]["event"] == "live")
            assert "Ada" in live["data"]["reason"]
            assert "1 a fault" in live["data"]["reason"]
        finally:
            agent.stop()


def ask(heard_: Subscriber, action: str, **more) -> None:
    heard_.publish(
        "auscult/hall/request/commission",
        {"transaction": f"t-{action}", "machine": "pump", "action": action, **more},
    )


def test_the_defaults_are_two_days_of_running():
    assert CommissionConfig().running_hours == 48
    assert CommissionConfig().go_live == "auto"
    assert RATE
