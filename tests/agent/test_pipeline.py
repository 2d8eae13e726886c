"""The stages wired: what a stream becomes, under load and under faults."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from support.bundles import FAULTY_HZ, RATE, tone, write
from support.told import Listener, to

from agent.bundle.manifest import Gate
from agent.capture.source import open_source
from agent.config.agent import MachineConfig
from agent.config.capture import ReplaySource
from agent.config.decide import DecideConfig
from agent.core.errors import AudioError, BundleError
from agent.core.records import AudioBlock, Level, MachineState, Validity
from agent.deploy.load import open_bundle
from agent.pipeline.pipeline import Pipeline
from agent.score.gate import IdleGate
from agent.score.space import Space
from agent.window.queue import WindowQueue


class Feed:
    """A source of given blocks, live or not."""

    def __init__(self, blocks, *, live=False, pause=0.0) -> None:
        self._blocks, self.live, self._pause = blocks, live, pause
        self.taken = 0
        self._stop = threading.Event()

    def start(self) -> None: ...

    def blocks(self):
        for block in self._blocks:
            if self._stop.wait(self._pause):
                return
            self.taken += 1
            yield block

    def stop(self) -> None:
        self._stop.set()

    attempts = 0

    def faults(self):
        return {}


def blocks(sound, size=2000, gaps=()):
    for n, start in enumerate(range(0, len(sound), size)):
        yield AudioBlock(
            sound[start : start + size], RATE, start / RATE, 1e9 + start / RATE, n in gaps, "feed"
        )


@pytest.fixture
def bundle(tiny_bundle):
    bundle = open_bundle(tiny_bundle)
    yield bundle
    bundle.close()


def machine(tiny_bundle, **config):
    return MachineConfig(
        name="toy", bundle=tiny_bundle, source={"kind": "replay", "paths": ["x"]}, **config
    )


def finish(pipeline, seconds=120):
    pipeline.start()
    deadline = time.monotonic() + seconds
    while not pipeline.ended and time.monotonic() < deadline:
        time.sleep(0.01)
    assert pipeline.ended
    assert pipeline.join(60)
    return pipeline.counters


def test_a_fault_in_a_replayed_stream_raises_and_clears_the_alarm(tmp_path, tiny_bundle, bundle):
    for n, hertz in enumerate((440, FAULTY_HZ, 440)):
        write(tmp_path / f"{n}.wav", tone(20, hertz, seed=n + 50))
    config = machine(
        tiny_bundle,
        hop_seconds=0.5,
        decide=DecideConfig(raise_windows=3, of_windows=5, clear_windows=6),
    )
    source = open_source(ReplaySource(paths=(str(tmp_path),), speed="max"), RATE)
    listener = Listener()
    counters = finish(Pipeline(config, bundle, source, to(listener)))
    # 60 s, windows of 1 s every 0.5 s, none lost at full speed.
    assert counters.windows == 119
    assert counters.dropped == 0
    assert counters.stream_seconds == pytest.approx(60)
    assert listener.firsts == [True] + [False] * 118
    raised, cleared = counters.alarms
    assert raised.raised
    assert not cleared.raised
    assert raised.alarm_id == cleared.alarm_id
    # Third window that holds any of the fault, which began at 20 s: they end at 20.5, 21, 21.5.
    assert raised.stream_seconds == pytest.approx(21.5, abs=0.5)
    assert raised.origin == "1.wav"
    # The last window with any fault ends at 40.5; six quiet ones follow.
    assert cleared.stream_seconds == pytest.approx(44, abs=0.6)
    levels = [decision.level for decision in listener.decisions]
    assert levels[0] is levels[-1] is Level.NORMAL


def test_a_hop_that_varies_is_wide_while_calm_and_tells_a_fault_as_soon(tiny_bundle, bundle):
    healthy = tone(90, seed=60)
    sound = np.concatenate([healthy, tone(60, FAULTY_HZ, seed=61)])
    raised = {}
    for hop in (0.5, "auto"):
        listener = Listener()
        counters = finish(
            Pipeline(machine(tiny_bundle, hop=hop), bundle, Feed(blocks(sound)), to(listener)), 40
        )
        raised[hop] = next(one.stream_seconds for one in counters.alarms if one.raised)
    ends = np.array([one.score.window.end_monotonic for one in listener.decisions])
    # Windows of 1 s: a second apart at most, so that no sound is left out.
    calm = np.diff(ends[(ends > 45) & (ends <= 90)])
    assert set(calm.round(3)) == {1.0}
    assert set(np.diff(ends[ends > 92]).round(3)) == {0.5}
    assert raised["auto"] <= raised[0.5]


def test_invalid_stretches_are_counted_not_scored(tiny_bundle, bundle):
    sound = np.concatenate([tone(3), np.zeros(3 * RATE, np.float32), tone(3)])
    sound[100] = np.nan
    listener = Listener()
    counters = finish(
        Pipeline(machine(tiny_bundle, hop_seconds=1), bundle, Feed(blocks(sound)), to(listener))
    )
    assert dict(counters.invalid) == {"not_finite": 1, "silent": 3}
    scored = [decision.score.value is not None for decision in listener.decisions]
    assert scored == [False, True, True, False, False, False, True, True, True]


def test_no_window_spans_a_gap(tiny_bundle, bundle):
    listener = Listener()
    feed = Feed(blocks(tone(4), gaps=(6,)))
    finish(Pipeline(machine(tiny_bundle, hop_seconds=0.5), bundle, feed, to(listener)))
    starts = [decision.score.window.monotonic for decision in listener.decisions]
    assert starts == [0, 0.5, 1.5, 2, 2.5, 3]


@pytest.mark.parametrize(
    ("number", "live", "starts"),
    [
        (0, True, [0, 1, 2, 3]),
        (1, True, [0.25, 1.25, 2.25]),
        (3, True, [0.75, 1.75, 2.75]),
        (4, True, [0, 1, 2, 3]),
        (3, False, [0, 1, 2, 3]),  # a recording's windows stay where they are in it
    ],
)
def test_machines_of_one_device_have_their_windows_one_after_the_other(
    tiny_bundle, bundle, number, live, starts
):
    listener, feed = Listener(), Feed(blocks(tone(4)), live=live)
    config = machine(tiny_bundle, hop=1.0)
    finish(Pipeline(config, bundle, feed, to(listener), number=number))
    assert [decision.score.window.monotonic for decision in listener.decisions] == starts


def test_live_sound_drops_the_oldest_windows_and_counts_them(tiny_bundle, bundle):
    feed = Feed(blocks(tone(100)), live=True, pause=0.001)
    listener = Listener(delay=0.03)
    config = machine(tiny_bundle, hop_seconds=0.5, queue_windows=4)
    counters = finish(Pipeline(config, bundle, feed, to(listener)))
    assert counters.dropped > 20
    assert counters.windows + counters.dropped == 199
    indices = [decision.score.window.index for decision in listener.decisions]
    assert indices == sorted(indices)
    assert indices[-1] == 198  # the newest are those kept


def test_replay_at_full_speed_waits_for_scoring(tiny_bundle, bundle):
    feed = Feed(blocks(tone(10)))
    listener = Listener(delay=0.05)
    pipeline = Pipeline(
        machine(tiny_bundle, hop_seconds=0.5, queue_windows=2), bundle, feed, to(listener)
    )
    pipeline.start()
    time.sleep(0.2)
    # Two wait, one is scored, one is being put: not the whole stream.
    assert feed.taken < 30
    assert finish_started(pipeline).windows == 19


def finish_started(pipeline):
    deadline = time.monotonic() + 60
    while not pipeline.ended and time.monotonic() < deadline:
        time.sleep(0.01)
    assert pipeline.ended
    return pipeline.counters


def test_stop_ends_both_threads_at_once(tiny_bundle, bundle):
    feed = Feed(blocks(tone(1000)), pause=0.005)
    pipeline = Pipeline(machine(tiny_bundle), bundle, feed, to())
    pipeline.start()
    time.sleep(0.3)
    pipeline.stop()
    assert pipeline.join(60)
    assert feed.taken < 1000 * RATE / 2000  # of them all
    assert pipeline.fault is None


def test_a_failing_publisher_silences_neither_scoring_nor_the_others(tiny_bundle, bundle, caplog):
    class Broken(Listener):
        def handle(self, telling):
            raise RuntimeError("broken")

    listener = Listener()
    counters = finish(
        Pipeline(machine(tiny_bundle), bundle, Feed(blocks(tone(3))), to(Broken(), listener))
    )
    assert len(listener.decisions) == counters.windows == 5
    assert "Broken failed" in caplog.text


def test_an_encoder_that_fails_for_good_ends_the_pipeline(tiny_bundle, bundle, monkeypatch):
    def fail(_):
        raise BundleError("the graph failed")

    ends = []
    monkeypatch.setattr(bundle.encoder, "encode", fail)
    listener = Listener()
    pipeline = Pipeline(
        machine(tiny_bundle),
        bundle,
        Feed(blocks(tone(100))),
        to(listener),
        on_end=lambda: ends.append(1),
    )
    finish(pipeline)
    assert isinstance(pipeline.fault, BundleError)
    assert ends == [1]
    assert len(listener.decisions) == 9
    assert all(d.score.window.validity is not Validity.VALID for d in listener.decisions)


def test_an_encoder_that_fails_once_costs_one_window(tiny_bundle, bundle, monkeypatch):
    encode, calls = bundle.encoder.encode, []

    def flaky(waveforms):
        calls.append(1)
        if len(calls) == 2:
            raise BundleError("out of memory")
        return np.full((1, 16), np.nan, np.float32) if len(calls) == 3 else encode(waveforms)

    monkeypatch.setattr(bundle.encoder, "encode", flaky)
    listener = Listener()
    pipeline = Pipeline(machine(tiny_bundle), bundle, Feed(blocks(tone(4))), to(listener))
    assert finish(pipeline).windows == 7
    assert pipeline.fault is None
    scored = [decision.score.value is not None for decision in listener.decisions]
    assert scored == [True, False, False, True, True, True, True]


def test_a_source_that_fails_is_a_fault(tiny_bundle, bundle):
    def bad():
        yield from blocks(tone(2))
        raise AudioError("gone")

    pipeline = Pipeline(machine(tiny_bundle), bundle, Feed(bad()), to())
    finish(pipeline)
    assert isinstance(pipeline.fault, AudioError)


def test_queue_gives_in_order_and_closes():
    queue = WindowQueue(2, drop=True)
    assert [queue.put(n) for n in range(4)] == [True] * 4
    assert queue.dropped == 2
    queue.close()
    assert not queue.put(9)
    assert [queue.get(), queue.get(), queue.get()] == [2, 3, None]


def test_an_idle_machine_raises_nothing_and_its_state_is_told(tiny_bundle, bundle):
    """The idle machine hums at another pitch, which the healthy bank has never heard."""
    idle_hz = 800.0
    idle = bundle.encoder.encode(np.stack([tone(1, idle_hz, seed=seed) for seed in range(6)]))
    limits = Gate(
        margin=1.0, reach=0.01, rows=6, recordings=6, healthy_as_idle=0.0, idle_as_idle=1.0
    )
    gated = replace(bundle, gate=IdleGate(idle, bundle.scorer.ready, Space("cosine"), limits))
    sound = np.concatenate([tone(6), tone(6, idle_hz, seed=9), tone(6, seed=8)])
    heard = {}
    for idle_means in ("suppress", "ignore"):
        listener = heard[idle_means] = Listener()
        config = machine(
            tiny_bundle,
            hop_seconds=0.5,
            decide=DecideConfig(raise_windows=1, of_windows=1, clear_windows=2, idle=idle_means),
        )
        counters = finish(Pipeline(config, gated, Feed(blocks(sound)), to(listener)))
        assert counters.idle == 11
    assert [event.kind.value for event in heard["suppress"].events] == []
    assert [event.kind.value for event in heard["ignore"].events] == ["raised", "cleared"]
    states = [decision.state.value for decision in heard["suppress"].decisions]
    # At first, and after idling, it may be starting up: for the length of a window.
    assert [*dict.fromkeys(states)] == ["changing", "running", "idle"]
    assert [states.index("running"), states.index("idle")] == [2, 12]
    assert set(states[12:23]) == {"idle"}
    assert states[23:] == ["changing"] * 3 + ["running"] * 9


def test_each_condition_of_a_microphone_is_told_by_a_real_stream(tiny_bundle, bundle):
    """NAMUR NE 107: all four, and good, from sound alone; the machine's alarm is none of theirs."""
    loud, lost = np.clip(8 * tone(6), -1, 1), np.zeros(round(0.6 * RATE), np.float32)
    parts = [
        ("check_function", tone(3), {"settling": True}),
        ("good", tone(6), {}),
        ("out_of_specification", loud, {}),
        ("good", tone(6), {}),
        ("failure", np.zeros(3 * RATE, np.float32), {}),
        ("good", tone(6), {}),
        ("maintenance_required", np.concatenate([tone(2), lost] * 4), {}),
    ]

    def stream():
        at = 0
        for _, sound, how in parts:
            for start in range(0, len(sound), 2000):
                piece = sound[start : start + 2000]
                yield AudioBlock(
                    piece, RATE, at / RATE, 1e9 + at / RATE, settling="settling" in how
                )
                at += len(piece)

    listener = Listener()
    validity = {
        "condition": {
            "specification_on_seconds": 2, "specification_off_seconds": 2,
            "failure_off_seconds": 2, "gaps_allowed": 2,
        }
    }  # fmt: skip
    config = machine(tiny_bundle, hop_seconds=0.5, validity=validity)
    finish(Pipeline(config, bundle, Feed(stream()), to(listener)))
    told = [condition.status.value for condition in listener.conditions]
    assert told == [kind for kind, *_ in parts]
    assert all(one.reason for one in listener.conditions if one.status.value != "good")
    assert listener.events == []


@pytest.mark.parametrize("gap", [False, True])
def test_a_quiet_hall_is_an_idle_machine_and_no_fault_of_the_microphone(tiny_bundle, bundle, gap):
    # It used to be "34 dB quieter than any training recording": out of specification, and an alarm
    # by the windows across each start.
    hall = np.random.default_rng(0).normal(0, 10 ** (-54 / 20), 40 * RATE).astype(np.float32)
    fan = [tone(30, seed=seed) for seed in range(4)]
    sound = np.concatenate([fan[0], hall, fan[1], hall, fan[2], hall, fan[3]])
    listener = Listener()
    config = machine(tiny_bundle, hop_seconds=0.25)
    gaps = {120 + 55, 440} if gap else ()
    pipeline = Pipeline(config, bundle, Feed(blocks(sound, gaps=gaps)), to(listener))
    counters = finish(pipeline)
    assert not counters.raised
    assert not counters.exceeded
    assert not counters.invalid
    assert {condition.status.value for condition in listener.conditions} == {"good"}
    quiet = [one.state for one in listener.decisions if 32 < one.score.window.monotonic < 68]
    assert set(quiet) == {MachineState.IDLE}
    states = [one.state for one in listener.decisions if 73 < one.score.window.monotonic < 98]
    assert set(states) == {MachineState.RUNNING}


def test_a_fault_in_runs_between_quiet_is_raised(tiny_bundle, bundle):
    hall = np.random.default_rng(0).normal(0, 10 ** (-54 / 20), 20 * RATE).astype(np.float32)
    runs = [tone(3, 440 if n < 6 else FAULTY_HZ, seed=n) for n in range(18)]
    sound = np.concatenate([part for run in runs for part in (hall, run)])
    listener = Listener()
    config = machine(tiny_bundle, hop_seconds=0.25)
    counters = finish(Pipeline(config, bundle, Feed(blocks(sound)), to(listener)))
    assert counters.raised == 1
    # The seventh run is the first that is faulty. 20 s of faulty sound are ten runs at the most.
    assert 6 * 23 + 20 <= counters.alarms[0].stream_seconds <= 16 * 23
