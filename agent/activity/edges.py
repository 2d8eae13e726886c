"""How long a machine takes to start up and to stop, learnt from its own runs.

The recordings that a detector is trained on seldom hold starts and stops. What follows a start is
therefore held against the same run's own steady sound: the machine has started up once its half
seconds differ from that no more than those of the steady sound do among themselves. Nothing of
training is asked, so that a fault, which is in all of a run, changes nothing here.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field, FiniteFloat

from agent.activity.levels import FRAME_SECONDS
from agent.core.records import Matrix
from agent.core.schema import Strict
from agent.core.state_file import StateFile

log = logging.getLogger(__name__)

# Runs remembered, and how many it takes before they are believed.
_RUNS, _FEWEST = 10, 3
# Frames of a run that its steady sound is sought in, from 40 % of its length on at the most.
_STEADY_FRAMES = 40
_SHORTEST_FRAMES = 8
_MIDDLE = 0.4
# Half seconds of steady sound differ: their spread in a band is taken for at least this, dB.
_LEAST_SPREAD_DB = 1.0
_STEADY_QUANTILE, _ALLOWED = 0.95, 1.25
# A half second lies across the edge itself.
_MARGIN_SECONDS = FRAME_SECONDS


class EdgeMemory(Strict):
    """What is kept of a machine's starts and stops from one run of the agent to the next."""

    starts: Annotated[
        tuple[FiniteFloat, ...], Field(description="Time the latest starts took, seconds")
    ] = ()
    stops: Annotated[
        tuple[FiniteFloat, ...], Field(description="Time the latest stops took, seconds")
    ] = ()


class Edges:
    """Settling times of one machine.

    Args:
        most_seconds: Nothing takes longer: the length of a window.
        path: Where they are kept; None for nowhere.
    """

    def __init__(self, most_seconds: float, path: Path | None = None) -> None:
        self._most = most_seconds
        self._file = StateFile(
            path, EdgeMemory, what="how long starts and stops take", otherwise="it is learnt anew"
        )
        self._memory = self._file.load_or_new()

    @property
    def start_seconds(self) -> float | None:
        """Time that a start takes; None while too few have been heard."""
        return self._bounded(self._memory.starts)

    @property
    def stop_seconds(self) -> float | None:
        """Time that a stop takes before the machine stands still; None as above."""
        return self._bounded(self._memory.stops)

    def learn(self, first: Matrix, last: Matrix) -> None:
        """Take a run that is over.

        Args:
            first: Band levels of its first frames, float32 `(n, BANDS)`, dB.
            last: Of its last ones, in order of time; the same where it was short.
        """
        if len(first) < _SHORTEST_FRAMES or len(last) < _SHORTEST_FRAMES:
            return
        before = (self.start_seconds, self.stop_seconds)
        memory = self._memory
        self._memory = EdgeMemory(
            starts=(*memory.starts, settled_after(first))[-_RUNS:],
            stops=(*memory.stops, settled_after(last[::-1]))[-_RUNS:],
        )
        # A machine that starts each minute for years need not write each time.
        few = len(self._memory.starts) <= _FEWEST
        if few or before != (self.start_seconds, self.stop_seconds):
            self._file.save(self._memory)

    def _bounded(self, taken: Sequence[float]) -> float | None:
        if len(taken) < _FEWEST:
            return None
        # The slowest but one, once there are enough: one run may have been spoilt from outside.
        slowest = sorted(taken)[-1 if len(taken) < _RUNS // 2 else -2]
        return min(self._most, slowest + _MARGIN_SECONDS)


def settled_after(levels: Matrix) -> float:
    """Time from the first frame until the sound is the steady one, seconds.

    Args:
        levels: Band levels of a run's frames, from its edge inwards, float32 `(n, BANDS)`, dB.
    """
    count = len(levels)
    begin = min(int(_MIDDLE * count), _STEADY_FRAMES // 2)
    # The far end of a short run is its other edge.
    steady = levels[begin : min(begin + _STEADY_FRAMES, max(begin + 3, round(0.8 * count)))]
    middle = np.median(steady, axis=0)
    spread = np.maximum(1.4826 * np.median(np.abs(steady - middle), axis=0), _LEAST_SPREAD_DB)
    apart = np.sqrt(np.mean(np.square((levels - middle) / spread), axis=1))
    allowed = _ALLOWED * float(np.quantile(apart[begin : begin + len(steady)], _STEADY_QUANTILE))
    inside = apart[: begin + 1] <= allowed
    both = np.flatnonzero(inside[:-1] & inside[1:])
    return float(FRAME_SECONDS * (both[0] if len(both) else begin))
