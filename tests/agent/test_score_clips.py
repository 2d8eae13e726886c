"""Windows beside idle ones: a recording is scored as the agent would have heard it."""

from __future__ import annotations

import numpy as np
import pytest

from agent.config.decide import DecideConfig
from agent.core.records import MachineState, Score, Window
from agent.decide.alarm import AlarmDecider
from agent.decide.evidence import Evidence
from agent.offline.clips import beside_idle

LENGTH, HOP = 10, 2


def counted_by_the_agent(idle: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> set[float]:
    """Which windows an alarm decider takes for evidence, by their scores."""
    decider = AlarmDecider(DecideConfig(), 1e9, hop_seconds=HOP, overlap_seconds=LENGTH)
    heard: list[float] = []
    monkeypatch.setattr(Evidence, "observe", lambda _, value, *__, **___: heard.append(value))
    for index, still in enumerate(idle):
        window = Window(np.zeros(LENGTH, np.float32), 1, index, HOP * index, HOP * index)
        state = MachineState.IDLE if still else MachineState.RUNNING
        decider.decide(Score(window, float(index), None, 0.0), state)
    return set(heard)


@pytest.mark.parametrize("seed", range(8))
def test_what_counts_is_what_the_agent_counts(seed, monkeypatch):
    random = np.random.default_rng(seed)
    idle = np.repeat(random.random(30) < 0.2, random.integers(1, 12, 30))
    # Windows count a length later, so the stream goes on after the last that is looked at.
    running = np.concatenate([idle, np.zeros(LENGTH // HOP, bool)])
    starts = HOP * np.arange(len(running))
    ours = ~running & ~beside_idle(starts, running, LENGTH)
    theirs = counted_by_the_agent(running, monkeypatch)
    # What an agent hears first may be a machine that starts up; a recording was begun on purpose.
    begin = LENGTH // HOP
    assert {float(i) for i in np.flatnonzero(ours[: len(idle)]) if i >= begin} == {
        index for index in theirs if index < len(idle)
    }
    assert 0 < ours[: len(idle)].sum() < (~idle).sum()


def test_a_long_recording_takes_no_table_of_all_pairs():
    # 30 days of windows: every pair would be 5 TB.
    idle = np.arange(2_600_000) % 2 == 0
    assert beside_idle(np.arange(len(idle)), idle, 1).sum() == (~idle).sum()
