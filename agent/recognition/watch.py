"""Watches whether a bundle recognises its machine, in any direction: also one that never alarms.

It does not where

- what is heard lies far from all that it learnt, though few windows or none exceed;
- windows that differ all get the same score;
- windows that the bundle before judged are a machine that stands still to it.

One that has judged nothing yet is told as well: the machine is off, or the bundle is another's.
One that has known the machine for long is asked no more: a fault that lasts is the machine's.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from pathlib import Path
from typing import Literal
from zlib import crc32

import numpy as np

from agent.bundle.manifest import ENCODER
from agent.core.levels import LevelRange
from agent.core.recognition import Recognition
from agent.core.records import Decision, MachineState, Validity, Window
from agent.core.said import RENEWED, SaidFile
from agent.deploy.load import Bundle
from agent.machine.scoring import ScoredWindow
from agent.recognition.reference import Floats, Reference
from agent.window.validity import level_dbfs

log = logging.getLogger(__name__)

# So many windows tell something, and so many are told to people.
FEWEST, _TOLD = 10, 30
# That nothing was judged is told after so many seconds: no machine need start with its agent.
_NOTHING_SECONDS = 300.0
# After these it is looked at once in so many.
_LOOKS = 10
# What is heard is the mean of so many windows, the latest: an hour at 10 s.
_LATEST = 360
# Another machine's sound is so far away whatever its scores are...
FAR = 4.0
# ...and from here on where they lie outside of all healthy ones, too: chosen by measurement.
ODD = 2.0
# Scores this close together, as a share of their size, are one score.
_SAME = 1e-6
# One sample in so many tells whether two windows are the very same.
_MARK_STEP = 97
# A window at a level that the bundle before was trained on, give or take this, dB.
_LEVEL_DB = 3.0
# The bundle before judged so great a share of the latest windows, or it is no witness...
_JUDGED_BEFORE, _WITNESSED = 0.5, 20
# ...and this one no more than so great a share, or it does judge the machine.
_JUDGED_NOW = 0.1
_REMEDY = (
    "see that the bundle, the microphone and its place are this machine's; put the bundle before "
    "back, or learn the machine anew where it hangs"
)


class RecognitionWatch:
    """Watches one machine. Called by the thread that judges; read by any.

    Args:
        machine: The machine, for the log.
        path: Where it is said for other programs on this device; None for nowhere.
    """

    def __init__(self, machine: str, path: Path | None = None) -> None:
        self._machine, self._file = machine, SaidFile(path)
        self._file.forget()
        self._lock = threading.Lock()
        self._digest = ""
        self._encoder = ""  # digest of its graph
        self._reference: Reference | None = None
        self._reference_before: Reference | None = None
        self._before: LevelRange | None = None
        self._lately: deque[bool] = deque(maxlen=2 * _WITNESSED)
        self._mean: Floats | None = None
        self._scores: deque[float] = deque(maxlen=_LATEST)
        self._marks: deque[int] = deque(maxlen=_LATEST)  # of the windows' samples
        self._heard = self._judged = self._lost = 0
        self._reasons: Counter[str] = Counter()  # why windows were not judged
        self._first: float | None = None  # end of the first window, monotonic
        self._seconds = self._said = 0.0
        self._settled = False
        self._found: Recognition | None = None
        self._answer: object = None

    def use(self, bundle: Bundle, before: LevelRange | None = None) -> None:
        """Watch another bundle from now on.

        Args:
            bundle: Opened.
            before: Levels that the bundle before judged; None without one.
        """
        with self._lock:
            self._begin(bundle, before)

    def _begin(self, bundle: Bundle, before: LevelRange | None) -> None:
        witness = len(self._lately) >= _WITNESSED and np.mean(self._lately) >= _JUDGED_BEFORE
        self._before = before if witness else None
        encoder = bundle.manifest.files[ENCODER].sha256
        # The same windows are held against both, where both see them alike.
        self._reference_before = self._reference if encoder == self._encoder else None
        self._digest, self._encoder = bundle.manifest.digest, encoder
        self._reference = Reference.of(bundle)
        self._forget()

    def _forget(self) -> None:
        """What was heard so far says nothing of what comes."""
        self._mean = None
        self._heard = self._judged = self._lost = 0
        for one in (self._scores, self._marks, self._lately, self._reasons):
            one.clear()
        self._first, self._seconds = None, 0.0
        self._found = self._look()
        self._said, self._settled = 0.0, False
        self._file.forget()

    @property
    def found(self) -> Recognition | None:
        """How it stands; None before the first bundle."""
        return self._found

    @property
    def why(self) -> str:
        """Why the bundle is not this machine's, and what to do; empty while nothing says so."""
        found = self._found
        if found is None or self._heard < _TOLD:
            return ""
        if found.state == "no":
            return f"this bundle does not know this machine: {found.why}; {_REMEDY}"
        if found.windows or self._seconds < _NOTHING_SECONDS:
            return ""
        (reason, _), *_ = self._reasons.most_common(1) or [("", 0)]
        return (
            f"this bundle has judged none of {found.heard} windows yet: {reason}; if the machine "
            f"runs, the bundle is another machine's, or was learnt at another gain: {_REMEDY}"
        )

    def take(self, decision: Decision, judged: ScoredWindow, answer: object = None) -> None:
        """Take a window into account, and what was decided on it.

        Args:
            decision: On it.
            judged: The window, scored.
            answer: What an operator said of how the machine is heard; another one makes all that
                was heard before another machine's sound.
        """
        with self._lock:
            if answer is not self._answer:
                self._answer = answer
                self._forget()
            # Else it was judged just before another bundle was taken up.
            if judged.bundle.manifest.digest == self._digest:
                self._count(decision, judged)

    def _count(self, decision: Decision, judged: ScoredWindow) -> None:
        window, value = judged.score.window, judged.score.value
        if decision.status is not None and decision.status.muted_until_wall is not None:
            return
        if window.validity in {Validity.NOT_FINITE, Validity.SILENT, Validity.CLIPPED}:
            return  # of the microphone, whatever the bundle
        counts = value is not None and decision.state is MachineState.RUNNING
        self._heard += 1
        self._first = window.end_monotonic if self._first is None else self._first
        self._seconds = window.end_monotonic - self._first
        if not counts:
            self._reasons[_reason(decision, window)] += 1
        self._lately.append(counts)
        if self._settled:
            return  # what changes from now on is the machine
        if counts and not decision.held and judged.vector is not None and value is not None:
            self._judged += 1
            share = 1.0 / min(self._judged, _LATEST)
            vector = judged.vector.astype(np.float64)
            mean = vector if self._mean is None else self._mean
            self._mean = mean + share * (vector - mean)
            self._scores.append(value)
            self._marks.append(crc32(window.samples[::_MARK_STEP].tobytes()))
        elif not counts and self._before is not None:
            low, high = self._before.trained
            self._lost += low - _LEVEL_DB <= level_dbfs(window.samples) <= high + _LEVEL_DB
        if self._heard <= _TOLD or self._heard % _LOOKS == 0:
            self._found = self._look()
            self._settled = self._found.state == "yes" and self._judged >= _LATEST
            self._tell(window.end_monotonic)

    def _look(self) -> Recognition:
        distance, before = self._distance(self._reference), self._distance(self._reference_before)
        why = self._unjudged() or self._deaf() or self._foreign(distance)
        state: Literal["waiting", "yes", "no", "unable"] = "yes"
        if why:
            state = "no"
        elif self._judged < FEWEST:
            state = "waiting"
        elif self._reference is None:
            state = "unable"
        return Recognition(
            bundle=self._digest, state=state, why=why, heard=self._heard, windows=self._judged,
            distance=distance, before=before,
        )  # fmt: skip

    def _distance(self, reference: Reference | None) -> float | None:
        """How far what is heard lies from what a bundle learnt; None where that is not known."""
        if reference is None or self._mean is None or self._judged < FEWEST:
            return None
        return round(reference.distance(self._mean), 2)

    def _unjudged(self) -> str:
        """It takes what the bundle before judged for a machine that stands still."""
        if self._lost < FEWEST or self._judged > _JUDGED_NOW * self._heard:
            return ""
        return (
            f"it judges {self._judged} of {self._heard} windows and takes the others for a machine "
            f"that stands still; {self._lost} of those are as loud as what the bundle before judged"
        )

    def _deaf(self) -> str:
        """It gives every window the same score."""
        if len(set(self._marks)) < FEWEST:
            return ""
        if np.ptp(self._scores) > _SAME * max(abs(self._scores[-1]), _SAME):
            return ""
        return f"it is deaf: {len(self._scores)} windows that differ all score the same"

    def _foreign(self, distance: float | None) -> str:
        """What is heard is nothing that it learnt."""
        reference = self._reference
        if distance is None or reference is None or distance < ODD:
            return ""
        middle = float(np.median(self._scores))
        side = "above" if middle > reference.highest else "below"
        outside = not reference.lowest <= middle <= reference.highest
        if not outside and distance < FAR:
            return ""
        told = f", and half of the windows score {side} all of its healthy ones" if outside else ""
        return (
            f"what is heard lies {distance:.1f} times as far from what it learnt as that itself "
            f"spreads{told}"
        )

    def _tell(self, now: float) -> None:
        """Say it to the log and to other programs, once an hour while it holds."""
        why = self.why
        if not why:
            if self._said:
                log.info("%s: its bundle knows it again", self._machine)
                self._file.forget()
                self._said = 0.0
        elif not self._said or now - self._said >= RENEWED:
            if not self._said:
                log.warning("%s: %s", self._machine, why)
            self._said = now or 1e-9
            self._file.say(why)


def _reason(decision: Decision, window: Window) -> str:
    """Why a window was not judged, in words."""
    if window.validity is not Validity.VALID:
        return str(window.validity.value).replace("_", " ")
    return f"{decision.state.value}, as a machine that stands still, starts or stops"


def recognition_file(state: Path, machine: str) -> Path:
    """Where the agent says it."""
    return state / "state" / "recognition" / f"{machine}.json"
