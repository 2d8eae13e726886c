"""The soak in short; `make test-soak` runs a week's windows."""

from __future__ import annotations

from dataclasses import replace

import pytest
from faults.soak import FILES, MEMORY_MIB, State, judge, soak

STATE = State(windows=0, memory_mib=90.0, files=12, threads=9, outbox_bytes=1_000_000)


def steady(**last):
    states = [replace(STATE, windows=number) for number in range(20)]
    return [*states, *(replace(STATE, windows=20 + number, **last) for number in range(5))]


@pytest.mark.parametrize(
    "grown",
    [
        {"memory_mib": STATE.memory_mib + MEMORY_MIB + 1},
        {"files": STATE.files + FILES + 1},
        {"threads": STATE.threads + 1},
        {"outbox_bytes": 7_000_000},
    ],
)
def test_growth_is_noticed(grown):
    assert judge(steady(), (1000, 0))[2] == []
    _, _, found = judge(steady(**grown), (1000, 0))
    assert len(found) == 1
    assert len(judge(steady(), (5000, 1))[2]) == 2


@pytest.mark.slow
def test_nothing_grows(tmp_path):
    states, outbox = soak(tmp_path, 1_000_000, 20.0)
    _, last, grown = judge(states, outbox)
    assert grown == []
    assert last.windows > 1000
    assert outbox[0] > 0
