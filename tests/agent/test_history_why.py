"""Why there was no alarm: each reason is told from the history alone."""

from __future__ import annotations

import json
import time

import pytest
from click.testing import CliRunner
from support.told import give

from agent.commands.why import why
from agent.config.decide import DecideConfig
from agent.core.clock import utc
from agent.core.errors import AuscultError
from agent.history.recorder import HistoryRecorder
from agent.history.why import why_of
from agent.request.commands import COMMANDS
from agent.request.why import why_handler

NOW = int(time.time()) - 1000
DECIDE = DecideConfig()


def score(at, value, **changes):
    return {
        "time": utc(at), "score": value, "state": "running", "validity": "valid",
        "threshold": 1.0, "exceeded": value is not None and value > 1.0, "level": "normal",
        **changes,
    }  # fmt: skip


@pytest.fixture
def history(tmp_path):
    return HistoryRecorder(tmp_path / "history" / "history.db")


def hear(history, values, **changes):
    for n, value in enumerate(values):
        give(history, "score", score(NOW + n, value, **changes))


def operate(history, at, kind, **fields):
    data = {"event": kind, "time": utc(NOW + at), "operator": "", "note": "", "alarm_id": ""}
    give(history, "event", {"data": {**data, **fields}})


def asked(history, seconds=100):
    return history.ask(why_of, "pump", NOW, NOW + seconds, DECIDE)


def test_too_little_evidence_is_told_in_seconds(history):
    hear(history, [0.2] * 50 + [3.0] * 12 + [0.2] * 38)
    found = asked(history)
    assert (found.heard_seconds, found.judged_seconds) == (100, 100)
    assert found.exceeded_seconds == found.evidence_seconds == 12
    assert (
        "at most 12 s within 60 s were above the threshold, and an alarm takes 45 s" in found.text
    )
    assert "highest score was 3.00" in found.text


def test_sound_below_the_threshold_sounded_healthy(history):
    hear(history, [0.2] * 100)
    assert "it sounded healthy" in asked(history).text


def test_weak_sound_that_stays_is_not_called_healthy(history):
    """It was, also while an alert stood for it."""
    hear(history, [0.6] * 100)
    found = asked(history)
    assert "healthy:" not in found.verdict
    assert "a mean score of 0.60 is more than healthy sound mostly has" in found.verdict
    assert "an alert after 240 of 300 s" in found.verdict
    never = DECIDE.model_copy(update={"alert": None})
    assert "never told" in history.ask(why_of, "pump", NOW, NOW + 100, never).verdict
    hear(history, [0.6] * 100, level="alert")
    assert "An alert stood already" in asked(history).verdict


def test_an_idle_machine_and_a_microphone_that_cannot_be_judged_are_told(history):
    hear(history, [5.0] * 60, state="idle", exceeded=False)
    for n in range(60, 100):
        give(history, "score", score(NOW + n, None, validity="clipped", state="unknown"))
    found = asked(history)
    assert found.idle_seconds == 60
    assert found.invalid == ("clipped",)
    assert "in 60 s the machine stood still" in found.text
    assert "40 s could not be judged (clipped)" in found.text
    assert "did not count: the machine stood still" in found.text


def test_muting_that_began_before_is_told_with_who_and_why(history):
    operate(history, -500, "muted", operator="Ann", note="bearing greased")
    hear(history, [5.0] * 100, exceeded=False)
    found = asked(history)
    assert "It was muted by Ann (bearing greased)" in found.text
    assert "did not count: It was muted" in found.text
    operate(history, -200, "unmuted")
    assert "muted" not in asked(history).text


def test_shelving_and_an_alarm_are_told(history):
    operate(history, 5, "raised", alarm_id="a1")
    operate(history, 50, "shelved", alarm_id="a1", operator="Bob")
    hear(history, [5.0] * 100, level="alarm")
    found = asked(history)
    assert "Its alarm was shelved by Bob" in found.text
    assert "1 alarm event told" in found.text
    assert [event.split()[1] for event in found.events] == ["raised", "shelved"]


def test_nothing_heard_is_no_silence(history):
    assert "Nothing was heard: the agent was off" in asked(history).text


def test_events_outlive_a_restart_and_are_not_told_twice(history, tmp_path):
    operate(history, 5, "raised", alarm_id="a1")
    operate(history, 5, "raised", alarm_id="a1")
    asked(history)
    again = HistoryRecorder(tmp_path / "history" / "history.db")
    assert len(again.ask(why_of, "pump", NOW, NOW + 100, DECIDE).events) == 1


def test_the_command_answers_over_mqtt_and_api_alike(history):
    hear(history, [0.2] * 50 + [3.0] * 12 + [0.2] * 38)
    request = {"transaction": "t", "machine": "pump", "begin": NOW, "end": NOW + 100}
    fields = COMMANDS["why"].model_validate(request).model_dump()
    answer = why_handler(history, {"pump": DECIDE})(fields)
    assert "Evidence did not suffice" in answer["text"]
    json.dumps(answer)


def test_the_command_line_reads_what_a_stopped_agent_left(history, tmp_path):
    hear(history, [0.2] * 50 + [3.0] * 12 + [0.2] * 38)
    asked(history)
    config = tmp_path / "agent.yaml"
    config.write_text(
        f"state_dir: {tmp_path}\nmachines: [{{name: pump, source: 'replay:sound'}}]\n"
    )
    words = ["--config", str(config), "--from", utc(NOW), "--to", utc(NOW + 100)]
    done = CliRunner().invoke(why, words)
    assert "pump: 100 of 100 s were heard, 100 s judged" in done.output
    told = json.loads(CliRunner().invoke(why, [*words, "--json"]).output)
    assert told["exceeded_seconds"] == 12
    with pytest.raises(AuscultError, match="no machine 'fan'"):
        CliRunner().invoke(why, [*words, "--machine", "fan"], catch_exceptions=False)
