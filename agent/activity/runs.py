"""A machine's runs, frame by frame: where each began and ended, and which of its sound is settled.

Positions are samples of the stream. What is told of the past never changes but at its end: that a
run is over is known only once the machine has been still for a second.
"""

from __future__ import annotations

from collections import deque

import numpy as np
import numpy.typing as npt

from agent.activity.edges import Edges

# So many still frames in a row end a run; a single one is no stop.
STOP_FRAMES = 2
# Frames kept of a run's beginning and of its end, to learn settling from.
_EDGE_FRAMES = 60


class Runs:
    """Follows one machine.

    Args:
        frame_samples: Length of a frame.
        rate: Samples a second.
        edges: Learns how long starts and stops take.
        settle_seconds: Time a start takes, where somebody has said; None to learn it.
        unlearnt_start: Time a start is given as long as it isn't learnt, seconds.
        unlearnt_stop: The same of a stop.
    """

    def __init__(
        self,
        frame_samples: int,
        rate: int,
        edges: Edges,
        *,
        settle_seconds: float | None,
        unlearnt_start: float,
        unlearnt_stop: float,
    ) -> None:
        self._frame, self._rate, self._edges = frame_samples, rate, edges
        self._settle = settle_seconds
        self._unlearnt = (unlearnt_start, unlearnt_stop)
        #: Where the present run began; None while the machine stands still.
        self.began: int | None = None
        #: Where the present run's settled sound begins.
        self.settled = 0
        self._stills = 0  # still frames in a row
        self._whole = False  # its start was heard
        self._new = True
        self._first: list[npt.NDArray[np.float32]] = []
        self._last: deque[npt.NDArray[np.float32]] = deque(maxlen=_EDGE_FRAMES + STOP_FRAMES)
        self.end = 0  # of the latest frame

    @property
    def steady(self) -> bool:
        """Whether it runs, in the latest frame too."""
        return self.began is not None and self._stills == 0

    @property
    def known_running(self) -> int:
        """Where the latest frame ends in which it ran; of use while it runs."""
        return self.end - self._stills * self._frame

    @property
    def start_seconds(self) -> float:
        """Time that a start is given."""
        learnt = self._edges.start_seconds if self._settle is None else self._settle
        return self._unlearnt[0] if learnt is None else learnt

    @property
    def stop_samples(self) -> int:
        """Length of the sound before a stop that is not the running machine's."""
        learnt = self._edges.stop_seconds
        return round((self._unlearnt[1] if learnt is None else learnt) * self._rate)

    @property
    def tail_samples(self) -> int:
        """Length of the end of a run, now over, that is not settled.

        A stop that isn't learnt yet is given as long as a start: what sounds like it shall be in no
        window that is filled from this run later.
        """
        learnt = self._edges.stop_seconds
        return round((max(self._unlearnt) if learnt is None else learnt) * self._rate)

    def see(self, still: bool, levels: npt.NDArray[np.float32], start: int) -> int | None:
        """Take the next frame.

        Args:
            still: Whether the machine stands still in it.
            levels: Its band levels, float32 `(BANDS,)`.
            start: Where it begins.

        Returns:
            Where a run ended, when this frame shows that one did.
        """
        self.end = start + self._frame
        if self.began is None:
            if not still:
                self._begin(start, whole=True)
                self._keep(levels)
            return None
        self._keep(levels)
        self._stills = self._stills + 1 if still else 0
        if self._stills < STOP_FRAMES:
            return None
        ended = self.end - STOP_FRAMES * self._frame
        self._learn()
        self.began = None
        return ended

    def resume(self, start: int, *, unknown: bool) -> None:
        """Sound begins, or was lost before this.

        Args:
            start: Where it goes on.
            unknown: What the machine did meanwhile is not known: it may be starting up.
        """
        first, self._stills = self._new, 0
        self.end, self._new = start, False
        if unknown:
            self._begin(start, whole=False)
        elif first:  # nothing says that it stands still, or starts up
            self.began = self.settled = start
        elif self.began is not None:
            self.settled = max(self.settled, start)
            self._whole = False

    def _begin(self, start: int, *, whole: bool) -> None:
        self.began, self._stills, self._whole = start, 0, whole
        self.settled = start + round(self.start_seconds * self._rate)
        self._first = []
        self._last.clear()

    def _keep(self, levels: npt.NDArray[np.float32]) -> None:
        if len(self._first) < _EDGE_FRAMES:
            self._first.append(levels)
        self._last.append(levels)

    def _learn(self) -> None:
        """From a run that was heard whole."""
        last = list(self._last)[: -STOP_FRAMES or None]
        first = self._first
        if len(first) < _EDGE_FRAMES:
            first = first[: len(first) - STOP_FRAMES]
        if self._whole and first and last:
            self._edges.learn(np.stack(first), np.stack(last))
