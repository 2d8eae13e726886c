"""The stream as windows of what the machine does: its running sound, or its standing still.

Windows follow each other as `RollingWindow` cuts them. Where the machine can be told to stand still
by half seconds, each says what it does; one that is RUNNING holds settled sound alone. A machine
whose runs are shorter than a window has windows too: they are filled from the runs before, joined
over the pauses.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from agent.activity.edges import Edges
from agent.activity.levels import StreamLevels
from agent.activity.runs import Runs
from agent.activity.sound import RunningSound
from agent.activity.still import StillGate
from agent.core.lasting import lasting
from agent.core.levels import LevelRange
from agent.core.records import Activity, AudioBlock, Matrix, Samples, Validity, Window
from agent.window.rolling import RollingWindow
from agent.window.validity import assess, level_dbfs

# Sound lost for longer, seconds: the machine may have stopped and started meanwhile.
_UNKNOWN_AFTER = 2.0
# Runs longer ago than this, seconds of the stream, help no window of the present one.
_JOIN_WITHIN = 6 * 3600.0
_DEAD = frozenset({Validity.SILENT, Validity.NOT_FINITE, Validity.GAP, Validity.WARM_UP})

Running = Callable[[], bool | None]


@dataclass(frozen=True, slots=True)
class Following:
    """How a machine's activity is followed.

    Attributes:
        gate: Tells half seconds of standing still; None of a bundle without.
        levels: Half seconds quieter than these allow are still, whatever the gate says.
        running: What the plant says: whether it runs; None when it doesn't say (any more).
        settle_seconds: Time that a start takes; None to learn it.
        offset_db: Taken off what is heard, dB: an operator has said that the microphone was moved.
        bands_db: Taken off each band of half a second beside that, dB; empty for nothing.
    """

    gate: StillGate | None
    levels: LevelRange | None
    running: Running | None = None
    settle_seconds: float | None = None
    offset_db: float = 0.0
    bands_db: tuple[float, ...] = ()

    @property
    def sure(self) -> bool:
        """Whether standing still can be told by more than a very low level."""
        return self.gate is not None or self.running is not None


class RunningWindows:
    """Cuts blocks into windows, and says what the machine does in each.

    Args:
        rolling: Cuts the stream, whatever the machine does.
        edges: Learns how long starts and stops take.
        following: How its activity is told; None doesn't follow it. May be replaced.
        levels: Measures the stream's half seconds; its own when None.
    """

    def __init__(
        self,
        rolling: RollingWindow,
        edges: Edges,
        following: Following | None,
        levels: StreamLevels | None = None,
    ) -> None:
        self.rolling = rolling
        self._edges = edges
        self._bands = levels or StreamLevels(rolling.rate)
        self._following: Following | None = None
        self._runs: Runs | None = None
        self._position = 0  # of the next sample
        self._end: float | None = None  # monotonic, of the latest sample
        self._raw: deque[tuple[int, Samples]] = deque()
        self._framed = 0  # from where on no frame was made yet
        self._sound = RunningSound(rolling.window_samples, rolling.rate)
        self.follow(following)

    def follow(self, following: Following | None) -> None:
        """Follow the machine in another way from now on."""
        if following == self._following:
            return
        self._following = following
        self._runs = None
        if following is None:
            return
        seconds = self.rolling.window_samples / self.rolling.rate
        self._runs = Runs(
            self._bands.frame_samples,
            self.rolling.rate,
            self._edges,
            settle_seconds=following.settle_seconds,
            unlearnt_start=seconds,
            # A very low level comes at once, or never: nothing is waited for.
            unlearnt_stop=seconds if following.sure else 0.0,
        )
        self._restart(unknown=following.sure)

    def push(self, block: AudioBlock) -> Iterator[Window]:
        """Take a block, and give the windows it completes; see `RollingWindow.push`.

        Raises:
            AudioError: The block has another rate.
        """
        raw = self.rolling.push(block)
        if self._runs is None:
            self._position += len(block.samples)
            return raw
        lost = 0.0 if self._end is None else block.monotonic - self._end
        if block.gap_before:
            self._sound.forget()
            sure = self._following is not None and self._following.sure
            self._restart(unknown=sure and (lost > _UNKNOWN_AFTER or block.settling))
        self._end = block.monotonic + len(block.samples) / block.rate
        self._raw.append((self._position, lasting(block.samples)))
        self._position += len(block.samples)
        self._follow_frames()
        return (self._told(window) for window in raw)

    def _restart(self, *, unknown: bool) -> None:
        assert self._runs is not None
        self._raw.clear()
        self._framed = self._position
        self._runs.resume(self._position, unknown=unknown)

    def _follow_frames(self) -> None:
        runs, size = self._runs, self._bands.frame_samples
        assert runs is not None
        count = (self._position - self._framed) // size
        if count > 0:
            frames = self._between(self._framed, self._framed + count * size).reshape(count, size)
            levels = self._bands.measure(frames, self._framed)
            still = self._still(frames, levels)
            for n in range(count):
                ended = runs.see(bool(still[n]), levels[n], self._framed + n * size)
                self._take(ended - runs.tail_samples if ended is not None else None)
            self._framed += count * size
        self._trim()

    def _still(self, frames: Matrix, levels: Matrix) -> npt.NDArray[np.bool_]:
        following = self._following
        assert following is not None
        said = None if following.running is None else following.running()
        if said is not None:
            return np.full(len(frames), not said)
        found = np.zeros(len(frames), bool)
        if following.gate is not None:
            taken = np.float32(following.offset_db) + np.array(
                following.bands_db or 0.0, np.float32
            )
            found |= following.gate.still(levels - taken)
        if following.levels is not None:
            offset = following.offset_db
            found |= [following.levels.too_quiet(level_dbfs(frame) - offset) for frame in frames]
        return found

    def _take(self, ended: int | None) -> None:
        """Take in what is settled by now, or of a run that has ended what was."""
        runs = self._runs
        assert runs is not None
        if ended is None:
            if runs.began is None:
                return
            frontier = runs.known_running - runs.stop_samples
        else:
            frontier = ended
            if self._sound.end > runs.settled:
                self._sound.cut(frontier)
        start = runs.settled
        if self._sound.end > start:
            start = self._sound.end
        elif self._sound.end and start - self._sound.end > _JOIN_WITHIN * self.rolling.rate:
            self._sound.forget()
        if frontier > start:
            self._sound.add(start, *self._parts(start, frontier))

    def _told(self, raw: Window) -> Window:
        """A window with what the machine does in it, and of a running machine its settled sound."""
        runs = self._runs
        if runs is None or raw.validity in _DEAD:
            return raw
        wait = runs.stop_samples
        end = raw.position + len(raw.samples)
        target = end - wait
        found: tuple[Samples, float] | None = None
        if wait:
            found = self._sound.ending(target)
        elif runs.began is not None and self._sound.end > runs.settled:
            target = min(end, self._sound.end)
            if runs.steady and self._sound.covers(raw.position, target):
                found, target = (raw.samples, self._sound.skipped), end
            else:
                found = self._sound.ending(target)
        if found is None:
            doing = Activity.STILL if runs.began is None else Activity.CHANGING
            return replace(raw, activity=doing)
        samples, skipped = found
        late = (end - target) / raw.rate
        validity, reason, level = raw.validity, raw.reason, raw.level_dbfs
        if samples is not raw.samples:
            level = level_dbfs(samples)
            validity, reason = assess(samples, raw.rate, min_seconds=0.0, level=level)
        return replace(
            raw,
            samples=samples,
            monotonic=raw.monotonic - late,
            wall=raw.wall - late,
            validity=validity,
            reason=reason,
            activity=Activity.RUNNING,
            level_dbfs=level,
            run_clock=raw.end_monotonic - late - skipped,
            joined=not self._sound.covers(target - len(samples), target)
            and samples is not raw.samples,
        )

    def _between(self, start: int, end: int) -> Samples:
        parts = self._parts(start, end)
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def _parts(self, start: int, end: int) -> list[Samples]:
        """The sound in the pieces that it came in, not copied."""
        return [
            samples[max(0, start - at) : max(0, end - at)]
            for at, samples in self._raw
            if at < end and at + len(samples) > start
        ]

    def _trim(self) -> None:
        """Keep the sound that may still be taken."""
        runs = self._runs
        assert runs is not None
        wanted = self._framed
        if runs.began is not None:
            wanted = min(wanted, max(runs.settled, self._sound.end))
        while self._raw and self._raw[0][0] + len(self._raw[0][1]) <= wanted:
            self._raw.popleft()
