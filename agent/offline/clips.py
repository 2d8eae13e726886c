"""Scores a whole recording: its windows one by one, and the recording as one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from agent.activity.levels import BandLevels
from agent.activity.runs import STOP_FRAMES
from agent.calibrate.clip_limits import limit_for
from agent.core.records import MachineState, Samples, Validity
from agent.deploy.load import Bundle
from agent.level.hearing import AS_HEARD, Hearing
from agent.offline.recording import too_short, unfit_level
from agent.window.clip import stream_windows
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
        limit: What the value is held against, for its number of windows.
        seconds: Length of the recording.
    """

    windows: tuple[ClipWindow, ...]
    validity: tuple[Validity, ...]
    value: float | None
    p_value: float | None = None
    limit: float = 0.0
    seconds: float = 0.0


def score_clip(
    bundle: Bundle,
    samples: Samples | Iterable[Samples],
    *,
    hop_seconds: float | None = None,
    idle_gate: bool = False,
    hearing: Hearing = AS_HEARD,
) -> ClipScore:
    """Score a recording.

    Args:
        bundle: An opened bundle.
        samples: Mono float32, shape `(n,)`, at `manifest.encoder.sample_rate`; or blocks of it,
            of which only a few windows are held however many there are.
        hop_seconds: Step between windows, seconds; when None the manifest's `clip_hop_seconds`,
            with which its `clip_value` was calibrated.
        idle_gate: Leave out, as the agent does, windows in which the bundle's idle gate finds the
            machine standing still, and those across its starts and stops.
        hearing: Leaves bands out that its microphone does not hear; the samples are as the
            microphone of training would hear them already (`Hearing.blocks`).

    Returns:
        The scores. A recording shorter than a window is repeated to fill it; one that is empty
        has no window.
    """
    encoder = bundle.manifest.encoder
    hop = bundle.manifest.clip_hop_seconds if hop_seconds is None else hop_seconds
    heard = _Heard(bundle, [samples] if isinstance(samples, np.ndarray) else samples)
    batch: list[tuple[int, Samples]] = []
    verdicts: list[tuple[Validity, str]] = []
    places: list[int] = []
    scores: dict[int, float] = {}
    idle_at: list[bool] = []

    def flush() -> None:
        """Judge the windows held."""
        judged = [assess(window, encoder.sample_rate, min_seconds=0.0) for _, window in batch]
        first = len(places)
        places.extend(start for start, _ in batch)
        verdicts.extend(judged)
        idle_at.extend([False] * len(batch))
        part = [i for i, (verdict, _) in enumerate(judged) if verdict is Validity.VALID]
        if part:
            vectors = bundle.encoder.encode(np.stack([batch[i][1] for i in part]))
            vectors = hearing.vectors(vectors)
            values, _ = bundle.scorer.score(vectors)
            still = [False] * len(part)
            if bundle.gate is not None:
                still = [bool(one) for one in bundle.gate.idle(vectors)]
            for i, value, rests in zip(part, values, still, strict=True):
                idle_at[first + i] = rests
                if not np.isfinite(value):
                    why = "the encoder gave no finite number for it"
                    verdicts[first + i] = (Validity.NOT_FINITE, why)
                    continue
                # A machine that stands still may be as quiet as it likes.
                if not rests:
                    fit, why = unfit_level(bundle.manifest, batch[i][1])
                    if fit is not Validity.VALID:
                        verdicts[first + i] = (fit, why)
                        continue
                scores[first + i] = float(value)
        batch.clear()

    for window in stream_windows(
        heard,
        window_samples=encoder.window_samples,
        hop_samples=max(1, round(hop * encoder.sample_rate)),
    ):
        batch.append(window)
        if len(batch) == _BATCH:
            flush()
    seconds = heard.length / encoder.sample_rate
    # Judged before it is repeated: a fraction of a second stays too short however often it is.
    if heard.length and seconds < encoder.window_samples / encoder.sample_rate:
        fault = too_short(bundle.manifest, seconds)
        if fault:
            return ClipScore(
                (ClipWindow(0.0, None, fault),), (Validity.TOO_SHORT,), None, None, 0.0, seconds
            )
    flush()
    if not places:
        return ClipScore((), (), None, seconds=seconds)
    starts = np.array(places)
    idle = np.array(idle_at)
    share = heard.still_share(starts, encoder.window_samples)
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

    windows = tuple(told(i) for i in range(len(places)))
    combine = np.mean if bundle.manifest.scorer.clip == "mean" else np.max
    counted = [w.score for w in windows if w.counts and w.score is not None]
    value = float(combine(counted or list(scores.values()))) if scores else None
    return ClipScore(
        windows,
        tuple(verdict for verdict, _ in verdicts),
        value,
        None if rarity is None or value is None else float(rarity.clips(value)),
        limit_for(bundle.manifest.threshold, len(counted or scores)),
        seconds,
    )


class _Heard:
    """The blocks of a recording on their way: as much as is scored, and half seconds at rest."""

    def __init__(self, bundle: Bundle, blocks: Iterable[Samples]) -> None:
        self._blocks = blocks
        self._still = bundle.still
        rate = bundle.manifest.encoder.sample_rate
        self._bands = BandLevels(rate)
        self._rest: Samples = np.empty(0, np.float32)
        self._flags: list[npt.NDArray[np.bool_]] = []
        seconds = bundle.manifest.clip_seconds
        self._most = None if seconds is None else round(seconds * rate)
        self.length = 0

    def __iter__(self) -> Iterator[Samples]:
        for block in self._blocks:
            if self._still is not None:
                joined = np.concatenate([self._rest, block])
                frames = self._bands.frames_of(joined)
                if len(frames):
                    self._flags.append(self._still.still(self._bands.measure(frames)))
                self._rest = joined[frames.size :].copy()
            left = block if self._most is None else block[: max(0, self._most - self.length)]
            self.length += len(left)
            if len(left):
                yield left

    def still_share(self, starts: npt.NDArray[np.int64], length: int) -> npt.NDArray[np.float64]:
        """Share of each window in which the machine stands still, by half seconds.

        Args:
            starts: Where each window begins, samples.
            length: Of a window, samples.

        Returns:
            0 to 1 for each; 0 for less than a second, which no stop is, and from a bundle that does
            not tell half seconds apart.
        """
        if not self._flags:
            return np.zeros(len(starts))
        flags = np.concatenate(self._flags)
        still = np.concatenate([[0], np.cumsum(flags)])
        size = self._bands.frame_samples
        first = np.minimum(starts // size, len(flags))
        last = np.minimum(-(-(starts + length) // size), len(flags))
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
