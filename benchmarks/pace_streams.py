"""Streams scored once at a hop of 1 s, then heard at any pace: what a hop changes and nothing else.

A stream is kept as the agent's own numbers: each window's score and state, and the levels of each
half second, by which `HopPace` is called. So another pace is tried in seconds.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from pace_occasions import Occasions
from service_sounds import LEAD, RATE, Place, Stream, with_events

from agent.activity.cutter import RunningWindows
from agent.activity.edges import Edges
from agent.capture.convert import Converter
from agent.config.agent import MachineConfig
from agent.core.foreign import ForeignKind, ForeignSound
from agent.core.level_change import LevelChange
from agent.core.records import (
    Activity,
    AudioBlock,
    Decision,
    EventKind,
    Level,
    MachineState,
    Score,
    Validity,
    Window,
)
from agent.decide.alarm import AlarmDecider
from agent.deploy.load import Bundle
from agent.foreign.ear import ForeignEar
from agent.level.baseline import LevelFile
from agent.level.machine import MachineLevel
from agent.machine.scoring import ScoredWindow, WindowScorer
from agent.machine.settings import MachineSettings, settings_of
from agent.pace.pace import HopPace
from agent.pace.trigger import LevelTrigger
from agent.window.rolling import Due, RollingWindow

BLOCK, BEGIN = RATE // 4, 4_000_000.0
STATES, ACTIVITIES = list(MachineState), [None, *Activity]
# Of a noisy hall: seconds from one sound to the next, with a healthy machine and with a fault.
_APART, _APART_FAULTY = 60.0, 30.0
_CYCLED = 900.0
# Faults that are heard, in a quiet and a noisy hall.
_STRENGTHS = ("0.25", "1", "real")


@dataclass(frozen=True)
class Kept:
    """A stream as it was judged.

    Attributes:
        kind: `healthy`, `noisy`, `cycles`, `fault`, `fault, noisy`, or of `pace_occasions`: `gain`,
            `knocks`, `starts` and `fault, slow`.
        seconds: Its length.
        onset: When its fault, or its other gain, begins, seconds; NaN without one.
        strength: Of the fault; empty without one.
        windows: One row each: the block it came with, end, clock of running, position, score (NaN
            for none), state, activity, change of level (dB, score without it, passing), whether it
            varies, level.
        foreign: Sounds from elsewhere by window.
        blocks: Samples of each block, at the encoder's rate.
        measures: What the trigger measured, one row a half second.
    """

    name: str
    kind: str
    seconds: float
    onset: float
    strength: str
    windows: np.ndarray
    foreign: dict[int, tuple[ForeignSound, ...]]
    blocks: np.ndarray
    measures: np.ndarray


@dataclass
class Heard:
    """What one way made of a stream.

    Attributes:
        windows: Judged.
        called: Of them before their time, on a trigger.
        alarms: When each rose, seconds.
        alerts: The same of what rose from normal to alert or alarm.
        levels: When a change of level was told, seconds.
        waits: From each trigger while all was calm to the end of the next window, seconds.
    """

    windows: int = 0
    called: int = 0
    alarms: list[float] = field(default_factory=list)
    alerts: list[float] = field(default_factory=list)
    levels: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)


# --- what is heard


def streams_of(place: Place) -> Iterator[Stream]:
    """A machine's healthy hours, in a quiet and a noisy hall and in cycles; faults; occasions.

    Faults begin anywhere between two places of the calm hop.
    """
    occasions = Occasions(place.name)
    for number, stream in enumerate(place.streams()):
        occasions.take(stream)
        rng = np.random.default_rng([zlib.crc32(place.name.encode()), number])
        if stream.kind == "healthy":
            yield stream
            half = stream.sound[: max(len(stream.sound) // 2, int(1200 * RATE))]
            each = int(len(half) / RATE / _APART / 4)
            noisy = with_events(half, f"{stream.name}, noisy", rng, each, _APART)
            yield replace(noisy, kind="noisy")
        elif stream.kind == "cycles":
            yield replace(stream, sound=stream.sound[: int(_CYCLED * RATE)])
        elif stream.kind == "fault" and stream.events[0].start == LEAD:
            late, (event,) = float(rng.uniform(0.0, 5.0)), stream.events
            event = replace(event, start=event.start - late, end=event.end - late)
            sound = stream.sound[int(late * RATE) :]
            if event.strength in _STRENGTHS:
                yield replace(stream, sound=sound, events=(event,))
                each = int(len(sound) / RATE / _APART_FAULTY / 4) + 1
                noisy = with_events(sound, f"{stream.name}, noisy", rng, each, _APART_FAULTY)
                yield replace(noisy, kind="fault, noisy", events=(event,))
    yield from occasions.streams()


class _Measuring(LevelTrigger):
    """A trigger that keeps what it measured."""

    def __init__(self, rate: int) -> None:
        super().__init__(rate)
        self.measured: list[np.ndarray] = []

    def calls(self, measures: np.ndarray) -> bool:
        """Keep them."""
        self.measured.append(measures)
        return False


def terms_of(bundle: Bundle) -> MachineSettings:
    """What the bundle means at `hop: auto`."""
    return settings_of(MachineConfig(name="bench", hop="auto"), bundle)


def lowered(terms: MachineSettings, fraction: float) -> MachineSettings:
    """Settings with thresholds at a fraction of their height above the healthy median."""
    found = terms.thresholds
    median = found.scale.median

    def low(raw: float) -> float:
        return median + fraction * (raw - median)

    steady = found.steady
    thresholds = replace(
        found, alarm=low(found.alarm), alert=None if found.alert is None else low(found.alert),
        steady=None if steady is None else replace(steady, threshold=low(steady.threshold)),
        scale=replace(
            found.scale, threshold=low(found.scale.threshold), severe=low(found.scale.severe),
            usual=min(found.scale.usual, low(found.scale.threshold)),
        ),
    )  # fmt: skip
    return replace(terms, thresholds=thresholds)


def score(bundle: Bundle, terms: MachineSettings, stream: Stream) -> Kept:
    """Judge all of a stream at a hop of 1 s."""
    encoder, config = bundle.manifest.encoder, MachineConfig(name="bench", hop="auto")
    convert = Converter(None, encoder.sample_rate, "bench")
    rolling = RollingWindow(encoder.window_samples, terms.hop_samples, encoder.sample_rate)
    windows = RunningWindows(rolling, Edges(bundle.manifest.window_seconds, None), terms.following)
    judge, found = WindowScorer("bench", bundle), terms.thresholds
    judge.levels = terms.levels
    judge.level = MachineLevel("bench", LevelFile(None), config.level).begin(bundle, *found.each)
    judge.foreign = ForeignEar("bench", config.foreign)
    judge.foreign.start()
    judge.asked_from = found.alarm if found.alert is None else min(found.alarm, found.alert)
    measuring = _Measuring(encoder.sample_rate)
    rows: list[tuple[float, ...]] = []
    foreign: dict[int, tuple[ForeignSound, ...]] = {}
    blocks: list[int] = []
    for at in range(0, len(stream.sound), BLOCK):
        block = convert(stream.sound[at : at + BLOCK, None], RATE, BEGIN + at / RATE)
        measuring.hear(block)
        for window in windows.push(block):
            judged = judge.judge(window)
            if judged.score.foreign:
                foreign[len(rows)] = judged.score.foreign
            rows.append((len(blocks), *_row(judged)))
        blocks.append(len(block.samples))
    event = stream.events[0] if stream.kind.startswith(("fault", "gain")) else None
    return Kept(
        stream.name, stream.kind, len(stream.sound) / RATE,
        float("nan") if event is None else event.start, "" if event is None else event.strength,
        np.array(rows).reshape(len(rows), -1), foreign, np.array(blocks),
        np.array(measuring.measured),
    )  # fmt: skip


def _row(judged: ScoredWindow) -> tuple[float, ...]:
    one, nan = judged.score, float("nan")
    window, change = one.window, one.level
    return (
        window.end_monotonic,
        nan if window.run_clock is None else window.run_clock,
        window.position,
        nan if one.value is None else one.value,
        STATES.index(judged.state),
        ACTIVITIES.index(window.activity),
        *((nan, nan, 0.0) if change is None else (change.decibels, change.value, change.passing)),
        one.varies,
        nan if one.level_dbfs is None else one.level_dbfs,
    )


def save(one: Kept, path: Path) -> None:
    """Keep it in a file."""
    told = {
        number: [(s.kind.value, s.share, s.by) for s in sounds]
        for number, sounds in one.foreign.items()
    }
    np.savez_compressed(
        path, name=one.name, kind=one.kind, seconds=one.seconds, onset=one.onset,
        strength=one.strength, windows=one.windows, foreign=json.dumps(told), blocks=one.blocks,
        measures=one.measures,
    )  # fmt: skip


def read(path: Path) -> Kept:
    """A kept stream."""
    d = np.load(path, allow_pickle=False)
    foreign = {
        int(number): tuple(ForeignSound(ForeignKind(kind), share, by) for kind, share, by in sounds)
        for number, sounds in json.loads(str(d["foreign"])).items()
    }
    return Kept(
        str(d["name"]), str(d["kind"]), float(d["seconds"]), float(d["onset"]), str(d["strength"]),
        d["windows"], foreign, d["blocks"], d["measures"],
    )  # fmt: skip


# --- at a pace


class _Remembering(LevelTrigger):
    """A trigger that hears what was measured."""

    def __init__(self, rate: int, kept: Kept) -> None:
        super().__init__(rate)
        self._kept, self._came, self._seen, self._size = kept, 0, 0, self.frame_samples
        #: Samples heard at the latest call.
        self.called_at = -1

    def hear(self, block: AudioBlock) -> bool:
        """Judge the half seconds that the block completes."""
        self._came += len(block.samples)
        whole = min(self._came // self._size, len(self._kept.measures))
        called = [self.calls(self._kept.measures[n]) for n in range(self._seen, whole)]
        self._seen = whole
        if any(called):
            self.called_at = self._came
        return any(called)


class _Way:
    """One decider and what it is given."""

    def __init__(self, terms: MachineSettings) -> None:
        found = terms.thresholds
        self.heard = Heard()
        self._level = Level.NORMAL
        self.decider = AlarmDecider(
            MachineConfig(name="bench").decide, found.alarm, alert_threshold=found.alert,
            lasting=found.lasting, steady=found.steady, hop_seconds=terms.hop_seconds,
            overlap_seconds=terms.overlap_seconds, scale=found.scale,
        )  # fmt: skip

    def take(self, judged: Score, state: MachineState, *, called: bool = False) -> Decision:
        """Decide on a window."""
        window = replace(judged.window, called=called)
        decision = self.decider.decide(replace(judged, window=window), state)
        self.heard.windows += 1
        self.heard.called += called
        at, before, self._level = window.end_monotonic - BEGIN, self._level, decision.level
        if decision.level is Level.ALARM and before is not Level.ALARM:
            self.heard.alarms.append(at)
        if decision.level is not Level.NORMAL and before is Level.NORMAL:
            self.heard.alerts.append(at)
        self.heard.levels += [at for event in decision.events if event.kind is EventKind.LEVEL]
        return decision


def hear(
    bundle: Bundle,
    terms: MachineSettings,
    kept: Kept,
    pace_of: Callable[..., HopPace] = HopPace,
    *,
    phases: bool = True,
) -> dict[str, Heard]:
    """Hear a stream at 1 s, at each phase of 5 s if those are wanted, and as the pace takes it."""
    encoder, calm = bundle.manifest.encoder, terms.calm_hops
    fixed = [_Way(terms) for _ in range(1 + phases * calm)]
    auto, trigger = _Way(terms), _Remembering(encoder.sample_rate, kept)
    pace = pace_of(
        encoder.sample_rate, encoder.window_samples, terms.hop_samples, calm, trigger=trigger
    )
    waits_from = -1
    windows, number = _windows(bundle, terms, kept), 0
    came = np.searchsorted(kept.windows[:, 0], np.arange(len(kept.blocks)), side="right")
    nothing = np.zeros(int(kept.blocks.max()), np.float32)
    for index, size in enumerate(kept.blocks):
        calm_before, called_before = pace.calm, trigger.called_at
        pace.hear(AudioBlock(nothing[:size], encoder.sample_rate, 0.0, 0.0))
        if calm_before and trigger.called_at > called_before:
            waits_from = trigger.called_at
        while number < came[index]:
            one, state = next(windows)
            fixed[0].take(one, state)
            if phases:
                fixed[1 + number % calm].take(one, state)
            end = one.window.position + encoder.window_samples
            due = pace.due(end)
            if due is not Due.NO:
                pace.take(auto.take(one, state, called=due is Due.CALLED))
                if 0 <= waits_from <= end:
                    auto.heard.waits.append((end - waits_from) / encoder.sample_rate)
                    waits_from = -1
            number += 1
    each = {f"{calm} s, phase {n}": way.heard for n, way in enumerate(fixed[1:])}
    return {"1 s": fixed[0].heard, **each, "auto": auto.heard}


def _windows(
    bundle: Bundle, terms: MachineSettings, kept: Kept
) -> Iterator[tuple[Score, MachineState]]:
    encoder = bundle.manifest.encoder
    nothing = np.zeros(encoder.window_samples, np.float32)
    seconds = encoder.window_samples / encoder.sample_rate
    for number, row in enumerate(kept.windows):
        (
            _,
            end,
            clock,
            position,
            value,
            state,
            activity,
            decibels,
            without,
            passing,
            varies,
            loud,
        ) = row
        known = bool(np.isfinite(value))
        window = Window(
            nothing, encoder.sample_rate, number, end - seconds, 1e9 + end - BEGIN - seconds,
            Validity.VALID if known else Validity.OUT_OF_RANGE, step=terms.hop_samples,
            position=int(position), activity=ACTIVITIES[int(activity)],
            run_clock=float(clock) if np.isfinite(clock) else None,
        )  # fmt: skip
        change = None
        if np.isfinite(without):
            change = LevelChange(float(decibels), float(without), passing=bool(passing))
        yield Score(
            window, float(value) if known else None, level=change, varies=bool(varies),
            foreign=kept.foreign.get(number, ()),
            level_dbfs=float(loud) if np.isfinite(loud) else None,
        ), STATES[int(state)]  # fmt: skip
