"""Alarms answered "healthy" are set beside the promise."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import pytest

from agent.config.agent import AgentConfig
from agent.doctor.finding import Grade
from agent.doctor.promise import check_promise
from agent.evidence.answers import months
from agent.evidence.record import FEEDBACK, RECORD, EvidenceRecord


@pytest.fixture
def config(tmp_path):
    return AgentConfig.model_validate(
        {
            "state_dir": tmp_path,
            "machines": [
                {"name": "pump", "decide": {"false_alarms": {"at_most": 1, "per_days": 30}}}
            ],
        },
        context={"base": tmp_path},
    )


def keep(tmp_path, number, raised, verdict):
    folder = tmp_path / "evidence" / "pump" / f"a{number}"
    folder.mkdir(parents=True)
    record = EvidenceRecord(
        alarm_id=f"a{number}", device="dev", machine="pump", raised=raised.isoformat(),
        raised_at=1.0, complete=True, threshold=1.0, score=2.0, sound_start=raised.isoformat(),
        rate=16000, seconds=10.0,
    )  # fmt: skip
    (folder / RECORD).write_text(record.model_dump_json())
    if verdict:
        answer = {"verdict": verdict, "time": raised.isoformat()}
        (folder / FEEDBACK).write_text(json.dumps(answer))


def test_months_count_what_was_answered(config, tmp_path):
    assert check_promise(config, config.machines[0]) is None
    now = datetime.now(timezone.utc)
    for number, verdict in enumerate(["normal", "anomalous", ""]):
        keep(tmp_path, number, now, verdict)
    (month,) = months(tmp_path / "evidence" / "pump")
    assert (month.alarms, month.healthy, month.unanswered) == (3, 1, 1)
    finding = check_promise(config, config.machines[0])
    assert finding.grade is Grade.OK
    assert "3 alarms, 1 answered healthy, 1 not answered" in finding.text
    assert "at most 1 false alarm in 30 days" in finding.text


def test_more_than_twice_the_promise_is_a_warning(config, tmp_path):
    now = datetime.now(timezone.utc)
    for number in range(3):
        keep(tmp_path, number, now - timedelta(days=number), "normal")
    keep(tmp_path, 9, now - timedelta(days=200), "normal")
    finding = check_promise(config, config.machines[0])
    assert finding.grade is Grade.WARN
    assert "3 false alarms in the last 30 days" in finding.text


def test_months_are_read_again_after_a_while(tmp_path, monkeypatch):
    from agent.evidence import answers

    now = datetime.now(timezone.utc)
    kept = answers.Answers(tmp_path / "evidence" / "pump")
    assert kept.months == []
    keep(tmp_path, 1, now, "normal")
    assert kept.months == []  # at most a minute old
    monkeypatch.setattr(answers, "_FRESH_SECONDS", 0.0)
    assert [(one.alarms, one.healthy) for one in kept.months] == [(1, 1)]
    assert answers.Answers(None).months == []
