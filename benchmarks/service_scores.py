"""Streams heard as the agent hears them: cut, followed, scored; the scores are kept on disk.

A stream may restart the agent: cutter and decider begin anew with what the agent keeps on disk.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import service_sounds as sounds

from agent.activity.cutter import RunningWindows
from agent.activity.edges import Edges
from agent.calibrate.rules import find_limit
from agent.capture.convert import Converter
from agent.config.agent import MachineConfig
from agent.config.decide import DecideConfig
from agent.config.threshold import ThresholdRule
from agent.core.records import (
    Activity,
    EventKind,
    Level,
    LevelChange,
    MachineState,
    Score,
    Validity,
    Window,
)
from agent.decide.alarm import AlarmDecider
from agent.deploy.load import Bundle
from agent.level.baseline import LevelFile
from agent.level.machine import MachineLevel
from agent.machine.scoring import ScoredWindow, WindowScorer
from agent.machine.settings import settings_of
from agent.window.rolling import RollingWindow

BLOCK = 16_000
BEGIN = 4_000_000.0  # monotonic time of the first sample, far from zero as in service
_STATES, _ACTIVITIES = list(MachineState), [None, *Activity]
# Settings of bundles seen: a promise takes seconds to find.
_TERMS: dict = {}
# One row a window: what the decider needs of it.
COLUMNS = ("end", "run_clock", "value", "state", "activity", "change_db", "change_value", "passing")


@dataclass(frozen=True)
class Scored:
    """A stream's windows, one row each (`COLUMNS`; NaN where there is no such thing)."""

    name: str
    kind: str
    seconds: float
    events: tuple[sounds.Event, ...]
    restarts: tuple[float, ...]
    rows: np.ndarray
    # Seconds of different sound; less than `seconds` where clips are repeated.
    distinct: float


def _row(judged: ScoredWindow) -> tuple[float, ...]:
    score, nan = judged.score, float("nan")
    window, change = score.window, score.level
    return (
        window.end_monotonic - BEGIN,
        nan if window.run_clock is None else window.run_clock,
        nan if score.value is None else score.value,
        _STATES.index(judged.state),
        _ACTIVITIES.index(window.activity),
        nan if change is None else change.decibels,
        nan if change is None else change.value,
        0.0 if change is None else change.passing,
    )


def score_stream(bundle: Bundle, stream: sounds.Stream, hop: float) -> Scored:
    """Hear a stream as the agent does, up to its score.

    Args:
        bundle: Opened.
        stream: The sound.
        hop: Step between windows, seconds.
    """
    encoder = bundle.manifest.encoder
    config = MachineConfig(name="bench", hop_seconds=hop)
    terms = settings_of(config, bundle)
    rows: list[tuple[float, ...]] = []
    with tempfile.TemporaryDirectory() as state:
        starts = [0, *(int(at * sounds.RATE) for at in stream.restarts)]
        for first, last in zip(starts, [*starts[1:], len(stream.sound)], strict=True):
            # As a microphone at 16 kHz is heard by an encoder at another rate.
            convert = Converter(None, encoder.sample_rate, "bench")
            rolling = RollingWindow(encoder.window_samples, terms.hop_samples, encoder.sample_rate)
            edges = Edges(bundle.manifest.window_seconds, Path(state) / "edges.json")
            windows = RunningWindows(rolling, edges, terms.following)
            judge = WindowScorer("bench", bundle)
            judge.levels = terms.levels
            judge.level = MachineLevel("bench", LevelFile(None), config.level).begin(
                bundle, *terms.thresholds.each
            )
            for at in range(first, last, BLOCK):
                clock = BEGIN + at / sounds.RATE
                part = stream.sound[at : min(at + BLOCK, last), None]
                block = convert(part, sounds.RATE, clock)
                rows += [_row(judge.judge(window)) for window in windows.push(block)]
    return Scored(
        stream.name, stream.kind, len(stream.sound) / sounds.RATE, stream.events, stream.restarts,
        np.array(rows, np.float64).reshape(-1, len(COLUMNS)),
        len(stream.sound) / sounds.RATE if stream.distinct is None else stream.distinct,
    )  # fmt: skip


def save(one: Scored, path: Path) -> None:
    """Keep a stream's scores."""
    np.savez_compressed(
        path, name=one.name, kind=one.kind, seconds=one.seconds, rows=one.rows,
        distinct=one.distinct,
        restarts=np.array(one.restarts, float), events=json.dumps([vars(e) for e in one.events]),
    )  # fmt: skip


def read(folder: Path) -> Iterator[Scored]:
    """The kept scores of a machine's streams."""
    for path in sorted(folder.glob("*.npz")):
        d = np.load(path, allow_pickle=False)
        events = tuple(sounds.Event(**e) for e in json.loads(str(d["events"])))
        yield Scored(
            str(d["name"]), str(d["kind"]), float(d["seconds"]), events,
            tuple(float(at) for at in d["restarts"]), d["rows"],
            float(d["distinct"] if "distinct" in d else d["seconds"]),
        )  # fmt: skip


@dataclass(frozen=True)
class Told:
    """What the agent tells of a stream, seconds from its start.

    Attributes:
        alarms: (raised, cleared); infinity for one that stands.
        levels: When a change of level alone was told.
    """

    alarms: list[tuple[float, float]]
    levels: list[float]


def alarms(
    bundle: Bundle, stream: Scored, decide: DecideConfig, hop: float
) -> list[tuple[float, float]]:
    """When alarms rise and clear; see `judged`."""
    return judged(bundle, stream, decide, hop).alarms


def before(bundle: Bundle) -> DecideConfig:
    """The rule of commit 4b3d144: 3 of the latest 5 windows above the 1 % threshold.

    It knew of no change of level; `judged(..., levels=False)`.
    """
    assert bundle.healthy is not None
    healthy, rows = bundle.healthy.known()
    rule = ThresholdRule(kind="tail", false_alarm_rate=0.01)
    groups, domains = [row.group for row in rows], [row.domain for row in rows]
    limit = find_limit(healthy, groups, domains, rule).value
    return DecideConfig(
        threshold=limit, raise_windows=3, of_windows=5, clear_windows=10, alert=None
    )


def judged(
    bundle: Bundle, stream: Scored, decide: DecideConfig, hop: float, *, levels: bool = True
) -> Told:
    """What the agent's decider tells of a stream.

    Args:
        bundle: What the scores are of: its thresholds and scale.
        stream: The scores.
        decide: When alarms are raised.
        hop: Step between windows, seconds.
        levels: Whether changes of level are told apart.
    """
    config = MachineConfig(name="bench", hop_seconds=hop, decide=decide)
    terms = settings_of(config, bundle)
    seconds = bundle.manifest.window_seconds
    nothing = np.zeros(round(seconds * sounds.RATE), np.float32)
    memory, begun = None, None
    found: list[tuple[float, float]] = []
    changes: list[float] = []
    restarts = [*stream.restarts, float("inf")]
    decider = None
    for number, row in enumerate(stream.rows):
        end, run_clock, value, state, activity, change_db, change_value, passing = row
        if decider is None or end - seconds >= restarts[0]:
            memory = None if decider is None else decider.memory()
            restarts = restarts[1:] if decider is not None else restarts
            decider = AlarmDecider(
                decide, terms.thresholds.alarm, alert_threshold=terms.thresholds.alert,
                lasting=terms.thresholds.lasting, steady=terms.thresholds.steady,
                hop_seconds=terms.hop_seconds, overlap_seconds=terms.overlap_seconds,
                memory=memory, scale=terms.thresholds.scale,
            )  # fmt: skip
        valid = bool(np.isfinite(value))
        window = Window(
            nothing, sounds.RATE, number, BEGIN + end - seconds, 1e9 + end - seconds,
            Validity.VALID if valid else Validity.OUT_OF_RANGE,
            activity=_ACTIVITIES[int(activity)],
            run_clock=run_clock if np.isfinite(run_clock) else None,
        )  # fmt: skip
        change = None
        if levels and np.isfinite(change_value):
            change = LevelChange(float(change_db), float(change_value), passing=bool(passing))
        decision = decider.decide(
            Score(window, float(value) if valid else None, level=change), _STATES[int(state)]
        )
        if any(event.kind is EventKind.LEVEL for event in decision.events):
            changes.append(float(end))
        standing = decision.level is Level.ALARM
        if standing and begun is None:
            begun = float(end)
        elif not standing and begun is not None:
            found.append((begun, float(end)))
            begun = None
    return Told(found if begun is None else [*found, (begun, float("inf"))], changes)
