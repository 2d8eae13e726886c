"""Through a restart, and through commands while it runs, an alarm is neither lost nor doubled."""

from __future__ import annotations

import time

import numpy as np
import pytest
from support.bundles import FAULTY_HZ, RATE, tone
from support.told import Listener, to

from agent.config.agent import MachineConfig
from agent.config.decide import DecideConfig
from agent.core.records import AudioBlock, Level, MachineState, Score, Window
from agent.decide.alarm import AlarmDecider
from agent.decide.service import AlarmService
from agent.decide.state import AlarmFile
from agent.decide.state_machine import CommandError
from agent.deploy.load import open_bundle
from agent.pipeline.pipeline import Pipeline

DECIDE = {"raise_windows": 2, "of_windows": 3, "clear_windows": 4, "alert": None}


class Live:
    """A live source of a given sound, quickly; then it goes on with nothing, until stopped."""

    live = True

    def __init__(self, sound) -> None:
        self.sound, self.stopped, self.drained = sound, False, False

    def start(self) -> None: ...

    def blocks(self):
        begin, size = time.monotonic(), RATE // 2
        for start in range(0, len(self.sound), size):
            part = self.sound[start : start + size]
            yield AudioBlock(
                part, RATE, begin + start / RATE, time.time() + start / RATE, origin="mic"
            )
            time.sleep(0.01)
        self.drained = True
        while not self.stopped:
            time.sleep(0.005)

    def stop(self) -> None:
        self.stopped = True

    attempts = 0

    def faults(self):
        return {}


@pytest.fixture
def run(tmp_path, tiny_bundle):
    bundle = open_bundle(tiny_bundle)
    running = []

    def begin(sound, **decide):
        config = MachineConfig(
            name="pump", bundle=tiny_bundle, source={"kind": "microphone"}, hop_seconds=0.5,
            queue_windows=100, decide={**DECIDE, **decide},
        )  # fmt: skip
        listener, source = Listener(), Live(sound)
        pipeline = Pipeline(config, bundle, source, to(listener), state=tmp_path / "state")
        running.append(pipeline)
        pipeline.start()
        windows = max(0, (len(sound) - RATE) // (RATE // 2) + 1)
        until(lambda: len(listener.decisions) == windows)
        return pipeline, listener

    yield begin
    for pipeline in running:
        end(pipeline)
    bundle.close()


def until(true, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def end(pipeline):
    pipeline.stop()
    assert pipeline.join(60)


def test_an_alarm_outlives_the_process_and_is_not_raised_again(run):
    first, heard = run(tone(4, FAULTY_HZ))
    assert heard.kinds == ["raised"]
    first.alarm.acknowledge(operator="ann")
    end(first)
    second, again = run(tone(4, FAULTY_HZ, seed=5))
    assert again.kinds == []
    status = second.alarm.status
    assert (status.level, status.alarm_id) == (Level.ALARM, heard.events[0].alarm_id)
    assert status.acknowledged
    end(second)
    _, last = run(tone(6))
    assert last.kinds == ["cleared"]
    assert last.events[0].alarm_id == heard.events[0].alarm_id


def test_a_shelved_alarm_stays_shelved_and_rises_when_brought_back(run):
    first, heard = run(tone(1))
    first.alarm.shelve(3600.0, operator="ann", note="bearing ordered")
    assert heard.events[0].note == "bearing ordered"
    end(first)
    second, again = run(tone(4, FAULTY_HZ))
    assert again.kinds == []
    assert second.alarm.status.level is Level.ALARM
    second.alarm.shelve(0.0)
    assert again.kinds == ["unshelved", "raised"]
    assert second.counters.raised == 1


def test_time_passes_for_an_alarm_although_no_window_comes(run):
    pipeline, heard = run(tone(1))
    pipeline.alarm.shelve(0.2)
    until(lambda: heard.kinds == ["shelved", "unshelved"], 5)
    with pytest.raises(CommandError):
        pipeline.alarm.acknowledge()


def test_the_microphones_condition_is_told_when_it_changes(run):
    sound = np.concatenate([tone(3), np.zeros(3 * RATE, np.float32)])
    _, heard = run(sound)
    states = [condition.status.value for condition in heard.conditions]
    assert states[-1] == "failure"
    assert len(states) == len(set(states))


def test_another_bundle_is_taken_up_while_running_and_the_alarm_stands(run, tmp_path):
    from support.bundles import build_bundle

    pipeline, heard = run(tone(4, FAULTY_HZ))
    new = open_bundle(build_bundle(tmp_path / "new", threshold=9.0))
    old = pipeline.use_bundle(new)
    assert old is not new
    assert pipeline.alarm.status.level is Level.ALARM
    assert heard.kinds == ["raised"]
    new.close()


def score(value, index=0):
    return Score(Window(np.zeros(8, np.float32), 8, index, float(index), 1e9 + index), value)


def test_a_crash_before_telling_tells_it_after_the_restart_with_the_same_id(tmp_path):
    """The process dies in the publisher: the state was saved before, and so was the event."""
    config = DecideConfig(raise_windows=1, of_windows=1, alert=None)
    path, told = tmp_path / "pump.json", []

    class CrashError(Exception):
        pass

    def die(event):
        told.append(event)
        raise CrashError

    keeper = AlarmService(AlarmDecider(config, 1.0), die, AlarmFile(path))
    with pytest.raises(CrashError):
        keeper.decide(score(5.0), MachineState.RUNNING)
    for _ in range(2):
        memory = AlarmFile(path).load()
        decider = AlarmDecider(config, 1.0, memory=memory)
        file = AlarmFile(path)
        file.load()
        again = AlarmService(decider, told.append, file)
        again.resume()
        assert again.status.level is Level.ALARM
    # Told once more, not twice more: the first restart struck it off.
    assert [event.kind.value for event in told] == ["raised", "raised"]
    assert len({event.id for event in told}) == 1
