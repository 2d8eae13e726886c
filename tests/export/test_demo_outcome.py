"""What the demonstration concludes from what a subscriber received."""

from __future__ import annotations

from pathlib import Path

import pytest

from export.demo.outcome import Record, judge
from export.demo.stream import Stream

STREAM = Stream(Path("stream.wav"), 16000, 100.0, 60.0, "something")
TOPIC = "auscult/demo/fan"


def play(scores, events=()):
    """A record of 10 s windows a second apart; events as (window, kind)."""
    record = Record(1.0, 10.0)
    for index, score in enumerate(scores):
        record.take(
            f"{TOPIC}/score",
            {
                "window": index,
                "seconds": 10.0,
                "score": score,
                "threshold": 0.5,
                "exceeded": score is not None and score > 0.5,
                "level": "normal",
            },
        )
    for window, kind in events:
        data = {"window": window, "seconds": 10.0, "event": kind}
        record.take(f"{TOPIC}/event", {"type": f"auscult.alarm.{kind}", "data": data})
    return record


def test_detection_delay_counts_from_the_onset():
    scores = [0.1] * 54 + [0.9] * 37
    outcome = judge(play(scores, [(56, "raised")]), STREAM)
    assert outcome.detected
    assert outcome.alarm == 66.0
    assert outcome.delay_seconds == 6.0
    assert outcome.delay_windows == 6
    assert outcome.false_alarms == 0
    assert (outcome.healthy_windows, outcome.healthy_exceeded) == (51, 0)
    assert (outcome.faulty_windows, outcome.faulty_exceeded) == (31, 31)
    assert outcome.missing == 0
    assert "6 s (6 windows)" in outcome.verdict()


def test_what_is_no_alarm_s_event_says_nothing_of_the_alarm():
    record = play([0.1] * 3)
    assert record.take(f"{TOPIC}/event", {"type": "auscult.delivery.probe", "data": {}}) is None
    assert record.raised == []


def test_an_alarm_before_the_onset_is_false_and_no_detection():
    outcome = judge(play([0.1] * 91, [(20, "raised"), (40, "cleared")]), STREAM)
    assert not outcome.detected
    assert outcome.false_alarms == 1
    assert not outcome.standing
    assert "not detected" in outcome.verdict()
    assert "1 false alarm." in outcome.verdict()


def test_an_alert_is_no_alarm_and_an_alarm_that_falls_to_one_is_over():
    record = play([0.1] * 91, [(5, "alert"), (9, "cleared"), (20, "raised"), (25, "realarm")])
    assert (record.raised, record.cleared) == ([30.0], [])
    event = {"seconds": 10.0}
    for window, kind, word in ((30, "lowered", "cleared"), (40, "cleared", None)):
        data = {**event, "window": window, "event": kind}
        assert (
            record.take(f"{TOPIC}/event", {"type": f"auscult.alarm.{kind}", "data": data}) == word
        )
    assert record.cleared == [40.0]


def test_an_alarm_on_the_last_healthy_window_is_false():
    assert not judge(play([0.1] * 91, [(50, "raised")]), STREAM).detected
    assert judge(play([0.1] * 91, [(51, "raised")]), STREAM).detected


def test_a_false_alarm_that_still_stands_hides_the_fault():
    outcome = judge(play([0.9] * 91, [(20, "raised")]), STREAM)
    assert not outcome.detected
    assert outcome.standing
    assert "stood" in outcome.verdict()


def test_invalid_and_lost_windows_are_not_judged():
    record = play([0.1] * 50 + [None] + [0.1] * 39)
    outcome = judge(record, STREAM)
    assert outcome.missing == 1
    assert outcome.healthy_windows == 50
    nothing = judge(Record(1.0, 10.0), STREAM)
    assert (nothing.missing, nothing.healthy_windows, nothing.detected) == (91, 0, False)


@pytest.mark.parametrize("topic", ["auscult/demo/status", f"{TOPIC}/alarm"])
def test_other_topics_are_left_alone(topic):
    record = Record(1.0, 10.0)
    assert record.take(topic, {"level": "alarm"}) is None
    assert not record.windows
    assert not record.raised
