"""The wall clock's quality, and log lines as the journal wants them."""

from __future__ import annotations

import io
import logging
import os
import sys

from agent.core.clock import ClockQuality, WallClock, kernel_synchronised
from agent.core.logs import JournalFormatter, to_journal


class Time:
    """Two clocks in one's hand."""

    def __init__(self) -> None:
        self.now, self.offset, self.synchronised, self.asked = 1000.0, 1.7e9, True, 0

    def clock(self):
        return WallClock(lambda: self.now + self.offset, lambda: self.now, self._ask)

    def _ask(self):
        self.asked += 1
        return self.synchronised


def test_synchronised_or_not_and_asked_now_and_then():
    time = Time()
    clock = time.clock()
    assert clock.quality is ClockQuality.UNSYNCHRONISED  # before anybody looked
    for _ in range(50):
        assert clock.look() is ClockQuality.SYNCHRONISED
        time.now += 0.2
    assert time.asked == 1
    time.now, time.synchronised = time.now + 10, None
    assert clock.look() is ClockQuality.UNSYNCHRONISED


def test_a_step_is_a_jump_for_a_while_and_slewing_is_not():
    time = Time()
    clock = time.clock()
    clock.look()
    for _ in range(100):  # 500 ppm, which is what a time service does
        time.now += 1.0
        time.offset += 0.0005
        assert clock.look() is ClockQuality.SYNCHRONISED
    time.offset -= 3600
    assert clock.look() is ClockQuality.JUMPED
    assert clock.jumps == 1
    time.now += 599
    assert clock.look() is ClockQuality.JUMPED
    time.now += 2
    assert clock.look() is ClockQuality.SYNCHRONISED
    assert clock.jumps == 1


def test_the_real_clocks_do_not_jump_by_themselves():
    clock = WallClock(synchronised=lambda: True)
    assert clock.look() is ClockQuality.SYNCHRONISED
    assert clock.look() is ClockQuality.SYNCHRONISED
    assert clock.jumps == 0


def test_the_kernel_is_asked_without_a_fault():
    assert kernel_synchronised() in {True, False, None}


def format_of(level, text, fault=None):
    record = logging.LogRecord("x", level, "", 0, text, (), fault)
    return JournalFormatter().format(record)


def test_every_line_has_its_priority():
    assert format_of(logging.INFO, "a\nb") == "<6>a\n<6>    b"
    assert format_of(logging.WARNING, "a") == "<4>a"
    assert format_of(logging.DEBUG, "") == "<7>"
    try:
        _ = 1 / 0
    except ZeroDivisionError:
        lines = format_of(logging.ERROR, "failed", sys.exc_info()).splitlines()
    assert len(lines) > 2
    assert all(line.startswith("<3>") for line in lines)


def test_the_journal_is_known_by_its_stream_not_by_the_variable_alone(tmp_path):
    with (tmp_path / "a").open("w") as file:
        status = os.fstat(file.fileno())
        mine = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        assert to_journal(file, mine)
        assert not to_journal(file, {"JOURNAL_STREAM": "1:2"})
        assert not to_journal(file, {})
    assert not to_journal(io.StringIO(), mine)
