"""The board that a page on the device reads: the messages of MQTT, the latest and the recent."""

from __future__ import annotations

import json
import threading
import time

import numpy as np
import pytest
from support.told import tell

from agent.bundle.events import BundleEvent, BundleEventKind
from agent.config.publish import JsonlConfig
from agent.core.records import Decision, Level, Score, Window
from agent.publish.jsonl import JsonlPublisher
from agent.publish.live import LiveBoard


def decision(index):
    window = Window(np.zeros(800, np.float32), 800, index, float(index), 1e9 + index)
    return Decision(
        Score(window, 0.5), 0.4, exceeded=True, level=Level.NORMAL, changed=False, since_wall=1e9
    )


def swapped(number):
    return BundleEvent(
        id=f"b{number}", kind=BundleEventKind.SWAPPED, wall=1e9, reason="asked for",
        old_digest="a", new_digest="b", bundle="pump", rows=5, version=0, threshold=0.4,
    )  # fmt: skip


@pytest.fixture
def board():
    return LiveBoard(recent=8, events=3)


def test_it_tells_what_the_json_lines_tell(board, tmp_path):
    lines = JsonlPublisher(JsonlConfig(path=tmp_path / "out.jsonl"), "dev", ["pump"])
    lines.start()
    for publisher in (lines, board):
        tell(publisher, decision(0))
        tell(publisher, swapped(1))
        tell(publisher, decision(1))
    lines.stop()
    written = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    told = [{"kind": one.kind, **one.message} for one in board.after(0)]
    assert told == [line for line in written if line["kind"] != "status"]
    assert [one["kind"] for one in told] == ["score", "alarm", "event", "score"]
    latest = board.latest()["pump"]
    assert latest["score"]["window"] == 1
    assert latest["alarm"]["level"] == "normal"


def test_a_slow_reader_sees_by_the_numbers_that_it_missed_something(board):
    tell(board, decision(0))
    at = board.number
    for n in range(1, 20):
        tell(board, decision(n))
    newer = board.after(at)
    assert [one.number for one in newer] == list(range(board.number - 7, board.number + 1))
    assert newer[0].number > at + 1
    assert board.after(board.number) == ()


def test_scores_do_not_push_out_events(board):
    for n in range(5):
        tell(board, swapped(n))
    for n in range(50):
        tell(board, decision(n))
    assert [one.message["id"] for one in board.events()] == ["b2", "b3", "b4"]


def test_a_reader_waits_for_news_and_is_let_go_at_the_end(board):
    got = []
    reader = threading.Thread(target=lambda: got.append(board.after(0, 10)))
    reader.start()
    time.sleep(0.05)
    assert not got
    tell(board, decision(0))
    reader.join(5)
    assert got[0][0].kind == "score"
    last = threading.Thread(target=lambda: got.append(board.after(board.number, 10)))
    last.start()
    board.stop()
    last.join(5)
    assert got[1] == ()
    assert board.closed
