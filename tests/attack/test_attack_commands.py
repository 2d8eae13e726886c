"""Attacks by whoever the broker lets write to `request/#`."""

from __future__ import annotations

import json
import time

import pytest
from attack.target import PATIENCE, TOKEN
from faults.plant import MACHINE, wait_until

from agent.request.audit import AuditTrail

pytestmark = [pytest.mark.attack, pytest.mark.real_trial]
TAUGHT = {
    "feedback": {"window": 1, "verdict": "normal"},
    "drift_accept": {"operator": "eve"},
    "level_baseline": {"operator": "eve", "decibels": 60},
    "level_baseline_undo": {"operator": "eve"},
    "commission": {"action": "again"},
    "reload": {"allow_older": True},
}


TARGET = {
    "name": "commands",
    "evidence": {"keep_alarms": 200, "keep_windows": 20, "during_seconds": 0},
}


@pytest.fixture
def operator(target):
    with target.operator() as found:
        yield found
    target.alarms_go_on()


def test_nobody_teaches_or_manages_without_the_token(target, operator):
    known = operator.heard.wait("info")["commands"]
    for command, fields in TAUGHT.items():
        if command not in known:
            continue
        for token in ({}, {"token": ""}, {"token": TOKEN[::-1]}):
            answer = operator.ask(command, **fields, **token)
            assert answer["status"] == "error"
            assert "is for those who" in answer["error"]
    assert TOKEN not in target.log.read_text()


def test_a_thousand_answers_remove_no_alarms_evidence(target, operator):
    root = target.state / "evidence" / MACHINE
    wait_until(lambda: len(alarms(root)) >= 8, PATIENCE, "no evidence")
    target.calm()
    time.sleep(2)
    before = alarms(root)
    given = 0
    while given < 942:
        window = operator.heard.of(f"{MACHINE}/score")[-1]["window"]
        asked = [
            operator.say(
                "feedback", window=max(0, window - n), token=TOKEN,
                verdict="anomalous" if n % 3 else "normal",
            )
            for n in range(30)
        ]  # fmt: skip
        given += len(asked)
        operator.answer("feedback", asked[-1])
    assert alarms(root) >= before
    assert len(list(root.glob("window-*"))) <= 20
    target.calm(quiet=False)


def alarms(root):
    return {one.name for one in root.glob("*") if not one.name.startswith("window-")}


def test_what_a_sender_writes_forges_no_line_and_acts_upon_no_terminal(target, operator):
    name = "eve\r\n2030-01-01T00:00:00Z ERROR   forged\x1b[2J\u202e"
    for seconds in (60, 0):  # the end of a mute that nobody asked for is not told
        answer = operator.ask("mute", seconds=seconds, operator=name, comment=name)
        assert answer["status"] == "ok"
    wait_until(lambda: "\\x1b[2J" in target.log.read_text(), PATIENCE, "the mute")
    log = target.log.read_text()
    assert "\x1b" not in log
    assert not [line for line in log.splitlines() if line.startswith("2030")]
    assert "\\x1b[2J" in log


def test_every_command_is_in_the_trail_and_a_flood_pushes_nothing_out(target, operator):
    operator.ask("mute", seconds=0, operator="ada")
    for n in range(500):
        operator.heard.client.publish(
            f"auscult/{target.name}/request/reload", json.dumps({"transaction": f"x{n}"}), qos=0
        )
    operator.settled(3)  # 32 wait at most; the rest is refused unread
    operator.ask("mute", seconds=0, operator="bob")
    found = list(AuditTrail(target.state / "audit").read())
    assert {"ada", "bob"} <= {one.operator for one in found}
    assert len([one for one in found if one.outcome == "refused"]) < 200


def test_a_command_that_the_broker_retained_while_the_agent_was_away_is_not_carried_out(
    target, operator
):
    topic = f"auscult/{target.name}/request/mute"
    target.stop()
    request = {"transaction": "kept", "machine": MACHINE, "seconds": 3600}
    operator.heard.client.publish(topic, json.dumps(request), qos=1, retain=True).wait_for_publish(
        5
    )
    target.start()
    target.more(2, PATIENCE)
    assert not [
        one for one in operator.heard.of(f"{MACHINE}/alarm") if one.get("muted_until") is not None
    ]
    operator.heard.client.publish(topic, b"", qos=1, retain=True).wait_for_publish(5)
