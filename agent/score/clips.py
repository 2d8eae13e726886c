"""Scores a whole recording: its windows one by one, and the recording as one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from agent.activity.levels import BandLevels
from agent.activity.runs import STOP_FRAMES
from agent.bundle.load import Bundle
from agent.frames import MachineState, Samples, Validity
from agent.window.clip import clip_windows
from agent.window.validity import assess

# Windows held at once: bounds the memory a long recording takes.
_BATCH = 16


class ClipWindow(NamedTuple):
    """One window of a recording.

    Attributes:
        start: Where it starts, seconds from the recording's beginning.
        score: Its anomaly score, None when it is invalid.
        reason: Why it is invalid or does not count, in words; else empty.
        p_value: Conformal p-value of the score; None without one.
        state: What the machine does in it.
        counts: Whether it says anything of the machine: neither invalid nor, where the idle gate is
            asked, idle or across a start or stop.
    """

    start: float
    score: float | None
    reason: str
    p_value: float | None = None
    state: MachineState = MachineState.UNKNOWN
    counts: bool = False


@dataclass(frozen=True, slots=True)
class ClipScore:
    """The windows of a recording and its score as one.

    Attributes:
        windows: In order of time.
        validity: Whether each of them may be judged.
        value: Mean or maximum of the scores of the windows that count (`manifest.scorer.clip`), of
            all that could be judged where none counts; None when none could be.
        p_value: Conformal p-value of that; None without one.
    """

    windows: tuple[ClipWindow, ...]
    validity: tuple[Validity, ...]
    value: float | None
    p_value: float | None = None


def score_clip(
    bundle: Bundle,
    samples: Samples,
    *,
    hop_seconds: float | None = None,
    idle_gate: bool = False,
) -> ClipScore:
    """Score a recording.

    Args:
        bundle: An opened bundle.
        samples: Mono float32, shape `(n,)`, at `manifest.encoder.sample_rate`.
        hop_seconds: Step between windows, seconds; when None the manifest's `clip_hop_seconds`,
            with which its `clip_value` was calibrated.
        idle_gate: Leave out, as the agent does, windows in which the bundle's idle gate finds the
            machine standing still, and those across its starts and stops.

    Returns:
        The scores. A recording shorter than a window is repeated to fill it; one that is empty
        has no window.
    """
    encoder = bundle.manifest.encoder
    hop = bundle.manifest.clip_hop_seconds if hop_seconds is None else hop_seconds
    if len(samples) == 0:
        return ClipScore((), (), None)
    # Judged before it is repeated: a fraction of a second stays too short however often it is.
    verdict, reason = assess(samples, encoder.sample_rate)
    if verdict is Validity.TOO_SHORT:
        return ClipScore((ClipWindow(0.0, None, reason),), (verdict,), None)
    cut = clip_windows(
        beginning(bundle, samples),
        window_samples=encoder.window_samples,
        hop_samples=max(1, round(hop * encoder.sample_rate)),
    )
    starts = np.array([start for start, _ in cut])
    verdicts = [assess(window, encoder.sample_rate, min_seconds=0.0) for _, window in cut]
    valid = [i for i, (verdict, _) in enumerate(verdicts) if verdict is Validity.VALID]
    scores: dict[int, float] = {}
    idle = np.zeros(len(cut), bool)
    for first in range(0, len(valid), _BATCH):
        part = valid[first : first + _BATCH]
        vectors = bundle.encoder.encode(np.stack([cut[i][1] for i in part]))
        values, _ = bundle.scorer.score(vectors)
        for i, value in zip(part, values, strict=True):
            if np.isfinite(value):
                scores[i] = float(value)
            else:
                verdicts[i] = (Validity.NOT_FINITE, "the encoder gave no finite number for it")
        if bundle.gate is not None:
            idle[part] = bundle.gate.idle(vectors)
    share = still_share(bundle, samples, starts, encoder.window_samples)
    idle |= share == 1.0
    beside = beside_idle(starts, idle, encoder.window_samples) | (share > 0.0)
    rarity = bundle.significance

    def told(i: int) -> ClipWindow:
        start = float(starts[i]) / encoder.sample_rate
        if i not in scores:
            return ClipWindow(start, None, verdicts[i][1])
        why = ""
        if idle_gate and (idle[i] or beside[i]):
            why = "the machine is idle" if idle[i] else "the machine stops or starts up"
        return ClipWindow(
            start,
            scores[i],
            why,
            None if rarity is None else float(rarity.windows(scores[i])),
            MachineState.IDLE if idle[i] else MachineState.RUNNING,
            counts=not why,
        )

    windows = tuple(told(i) for i in range(len(cut)))
    combine = np.mean if bundle.manifest.scorer.clip == "mean" else np.max
    counted = [w.score for w in windows if w.counts and w.score is not None]
    value = float(combine(counted or list(scores.values()))) if scores else None
    return ClipScore(
        windows,
        tuple(verdict for verdict, _ in verdicts),
        value,
        None if rarity is None or value is None else float(rarity.clips(value)),
    )


def beginning(bundle: Bundle, samples: Samples) -> Samples:
    """As much of a recording as the bundle scores, `(n,)` to `(m,)`."""
    seconds = bundle.manifest.clip_seconds
    return (
        samples
        if seconds is None
        else samples[: round(seconds * bundle.manifest.encoder.sample_rate)]
    )


def still_share(
    bundle: Bundle, samples: Samples, starts: npt.NDArray[np.int64], length: int
) -> npt.NDArray[np.float64]:
    """Share of each window in which the machine stands still, by half seconds.

    Args:
        bundle: Opened; one that does not tell half seconds apart finds none.
        samples: The recording, float32 `(n,)`.
        starts: Where each window begins, samples.
        length: Of a window, samples.

    Returns:
        0 to 1 for each; 0 for less than a second, which no stop is.
    """
    if bundle.still is None:
        return np.zeros(len(starts))
    bands = BandLevels(bundle.manifest.encoder.sample_rate)
    frames = bands.frames_of(samples)
    if not len(frames):
        return np.zeros(len(starts))
    still = bundle.still.still(bands.measure(frames))
    still = np.concatenate([[0], np.cumsum(still)])
    first = np.minimum(starts // bands.frame_samples, len(frames))
    last = np.minimum(-(-(starts + length) // bands.frame_samples), len(frames))
    found = still[last] - still[first]
    found[found < STOP_FRAMES] = 0
    share: npt.NDArray[np.float64] = found / np.maximum(1, last - first)
    return share


def beside_idle(
    starts: npt.NDArray[np.int64], idle: npt.NDArray[np.bool_], length: int
) -> npt.NDArray[np.bool_]:
    """Windows that say nothing for an idle one beside them, as `AlarmDecider` leaves them out.

    Args:
        starts: Where each begins, samples, ascending.
        idle: Which are idle.
        length: Of a window, samples.

    Returns:
        Those that reach an idle window, or begin within a window's length after one (the machine
        starts up); not the idle ones themselves.
    """
    # Only the idle window before and the one behind can be near: a day of windows is many.
    edges = np.concatenate([[-np.inf], starts[idle], [np.inf]])
    place = np.searchsorted(edges, starts)
    near: npt.NDArray[np.bool_] = (edges[place] - starts <= length) | (
        starts - edges[place - 1] < 2 * length
    )
    return near & ~idle
