"""A window's score and what the machine does in it, by the bundle in use at that moment."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from agent.core.errors import AuscultError, BundleError
from agent.core.foreign import ForeignSound
from agent.core.levels import LevelRange
from agent.core.records import Activity, MachineState, Score, Validity, Window
from agent.deploy.load import Bundle
from agent.drift.service import Heard
from agent.encode.frames import SharedFrames
from agent.foreign.ear import ForeignEar
from agent.level.check import LevelCheck
from agent.level.hearing import AS_HEARD, Hearing
from agent.window.conditions import compare_conditions, unfit
from agent.window.validity import level_dbfs

log = logging.getLogger(__name__)

# So many windows in a row that the encoder fails on are not the sound's fault.
_FAILURES_ALLOWED = 10
_CHOOSE = " (choose another one by the source's `channel`)"


@dataclass(frozen=True, slots=True, eq=False)
class ScoredWindow:
    """A window, judged or found impossible to judge.

    Attributes:
        score: Its score.
        state: What the machine does in it.
        bundle: What it was judged with.
        vector: Its embedding, float32 `(dim,)`; None when it could not be judged.
        level_dbfs: How loud it is, as judged; None but of a running machine's.
    """

    score: Score
    state: MachineState
    bundle: Bundle
    vector: npt.NDArray[np.float32] | None = None
    level_dbfs: float | None = None

    @property
    def heard(self) -> Heard | None:
        """The window as the drift monitor takes it; None when it could not be judged."""
        if self.vector is None:
            return None
        return Heard(self.score.window, self.vector, self.bundle.drift)


class WindowScorer:
    """Judges with one bundle, which may be exchanged between two windows.

    Args:
        name: The machine, for the log.
        bundle: Opened.
    """

    def __init__(self, name: str, bundle: Bundle) -> None:
        self._name = name
        self._bundle = bundle
        self._in_use = threading.Lock()  # held while the bundle judges a window
        self._failures = 0
        #: Levels at which a window may be judged; None for any.
        self.levels: LevelRange | None = None
        self._frames = SharedFrames()
        #: Tells a pure change of level of a window that exceeds; None tells none.
        self.level: LevelCheck | None = None
        #: Tells sounds from elsewhere of a window that exceeds; None tells none.
        self.foreign: ForeignEar | None = None
        #: From this raw score on a window exceeds; infinite before anybody has said.
        self.asked_from = float("inf")
        #: How sound is heard before it is judged.
        self.hearing: Hearing = AS_HEARD

    @property
    def bundle(self) -> Bundle:
        """The bundle judged with from the next window on."""
        return self._bundle

    def judge(self, window: Window) -> ScoredWindow:
        """Judge a window. One that the encoder fails on counts as one that cannot be judged.

        Raises:
            AuscultError: The encoder has failed on too many windows in a row.
            ValueError: Likewise.
            RuntimeError: Likewise.
            MemoryError: Likewise.
        """
        try:
            judged, self._failures = self._judge(window), 0
        except (AuscultError, ValueError, RuntimeError, MemoryError) as fault:
            self._failures += 1
            if self._failures >= _FAILURES_ALLOWED:
                raise
            log.warning("%s: window %d not scored: %s", self._name, window.index, fault)
            return _unjudged(window, f"scoring failed: {fault}", self._bundle)
        return judged

    def use(self, bundle: Bundle, then: Callable[[], None]) -> Bundle:
        """Judge with another bundle from the next window on.

        Args:
            bundle: Opened; it takes windows like those of the present one.
            then: Called in between, before any window is judged with it.

        Returns:
            The bundle used so far, of no more use here.

        Raises:
            BundleError: Its windows are others.
        """
        new, old = bundle.manifest.encoder, self._bundle.manifest.encoder
        if (new.sample_rate, new.window_samples) != (old.sample_rate, old.window_samples):
            raise BundleError(
                f"takes windows of {new.window_samples} samples at {new.sample_rate} Hz, where the "
                f"present bundle takes {old.window_samples} at {old.sample_rate} Hz",
                where=bundle.path,
                remedy="Restart the agent to change to it.",
            )
        with self._in_use:
            previous, self._bundle = self._bundle, bundle
            then()
        return previous

    def _judge(self, window: Window) -> ScoredWindow:
        if window.validity is not Validity.VALID:
            return ScoredWindow(Score(window, None), MachineState.UNKNOWN, self._bundle)
        trained = self._bundle.manifest.conditions
        channels = compare_conditions(trained, faults=window.channel_faults, live=True)
        told = [one.fault for one in channels if one.fault and one.validity is Validity.VALID]
        window = replace(window, channel_faults=tuple(told))
        lost = unfit(one for one in channels if one.fault and one.fault.ruins_average)
        if lost is not None:
            return _unjudged(window, lost.text + _CHOOSE, self._bundle, lost.validity)
        hearing = self.hearing
        window = hearing.window(window)
        with self._in_use:
            bundle = self._bundle
            began = time.perf_counter()
            (vector,) = hearing.vectors(self._frames.encode(bundle.encoder, window)[None])
            took = time.perf_counter() - began
            (value,), (neighbour,) = bundle.scorer.score(vector[None])
            if not np.isfinite(value):
                # Nothing is above a NaN: taken for a score, it would be silence for ever.
                return _unjudged(window, "the encoder gave no finite number for it", bundle)
            idle = window.activity is Activity.STILL or (
                bundle.gate is not None and bool(bundle.gate.idle(vector[None])[0])
            )
            level = None
            if self.level is not None and not idle and window.activity is not Activity.CHANGING:
                level = self.level.change(vector, window.samples, float(value))
        changing, loud = window.activity is Activity.CHANGING, None
        if not idle and not changing:
            # Only now: the sound of a quiet hall, or of half a start, is no fault of the
            # microphone, and of a machine that stands still no channel need hear anything.
            known = window.level_dbfs
            loud = level_dbfs(window.samples) if known is None else known
            heard = compare_conditions(trained, level_dbfs=loud, levels=self.levels)
            bad = unfit((*heard, *channels))
            if bad is not None:
                text = bad.text + (_CHOOSE if bad.fault else "")
                return _unjudged(window, text, bundle, bad.validity)
        varies, foreign = self._elsewhere(bundle, window, value if level is None else level.value)
        # Not every way of scoring knows a nearest row.
        nearest = int(neighbour) if neighbour >= 0 else None
        p_value = None
        if bundle.significance is not None:
            p_value = float(bundle.significance.windows(value))
        score = Score(
            window, float(value), nearest, took, p_value, level, hearing.offset_db, varies, foreign,
            loud, hearing.points,
        )  # fmt: skip
        state = MachineState.RUNNING
        if idle:
            state = MachineState.IDLE
        elif changing:
            state = MachineState.CHANGING
        return ScoredWindow(score, state, bundle, vector, loud)

    def _elsewhere(
        self, bundle: Bundle, window: Window, value: float
    ) -> tuple[bool, tuple[ForeignSound, ...]]:
        """What else is heard, of a window that exceeds."""
        if self.foreign is None or value <= self.asked_from:
            return False, ()
        try:
            return self.foreign.hear(bundle, window.samples)
        except Exception as fault:  # noqa: BLE001 - the runtime's exceptions have no common base
            log.warning("%s: what else is heard is not known: %s", self._name, fault)
            return False, ()


def _unjudged(
    window: Window, reason: str, bundle: Bundle, validity: Validity = Validity.NOT_FINITE
) -> ScoredWindow:
    unfit = replace(window, validity=validity, reason=reason)
    return ScoredWindow(Score(unfit, None), MachineState.UNKNOWN, bundle)
