"""Work spread over cores: in order, only a little ahead, and faults in their turn."""

from __future__ import annotations

import os
import threading
import time

import pytest

from agent.core import cores
from agent.core.cores import limit_cores, on_cores, usable_cores


@pytest.fixture
def two(monkeypatch):
    monkeypatch.setattr(cores, "usable_cores", lambda: 2)


@pytest.mark.usefixtures("two")
def test_results_come_in_order_from_several_threads():
    together = threading.Barrier(2, timeout=30)

    def work(number):
        if number < 2:
            together.wait()  # passes only if two are worked on at once
        time.sleep(0.01 * (number % 3 == 0))
        return number

    assert list(on_cores(work, range(20))) == list(range(20))


@pytest.mark.usefixtures("two")
def test_no_more_is_begun_than_a_few_ahead_of_what_was_taken():
    begun = []
    results = on_cores(lambda number: begun.append(number) or number, iter(range(100)))
    assert next(results) == 0
    time.sleep(0.2)
    assert len(begun) <= 6
    assert list(results) == list(range(1, 100))


@pytest.mark.usefixtures("two")
def test_a_fault_is_raised_in_its_turn_and_what_waits_never_begins():
    begun = []

    def work(number):
        begun.append(number)
        if number == 3:
            raise ValueError("the third")
        return number

    results = on_cores(work, range(1000))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="the third"):
        next(results)
    assert len(begun) < 12


def test_on_one_core_it_is_done_here(monkeypatch):
    monkeypatch.setattr(cores, "usable_cores", lambda: 1)
    here = threading.get_ident()
    assert set(on_cores(lambda _: threading.get_ident(), range(5))) == {here}


def test_a_process_among_several_takes_its_share():
    have = len(os.sched_getaffinity(0))
    try:
        limit_cores(1)
        assert usable_cores() == 1
        limit_cores(have + 5)
        assert usable_cores() == have
    finally:
        limit_cores(None)
    assert usable_cores() == have
