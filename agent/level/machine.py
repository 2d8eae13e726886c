"""The level of one machine while it runs: what is taken off, and what an operator says of it."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from agent.core.clock import utc
from agent.core.errors import AuscultError
from agent.deploy.load import Bundle
from agent.level.baseline import MOST_DB, LevelBaseline, LevelFile, origin_of
from agent.level.check import LevelCheck
from agent.level.columns import level_columns
from agent.level.ignore import LEVEL_UNKNOWN
from agent.level.reference import LEAST_DB, LevelReference

log = logging.getLogger(__name__)

# Windows remembered, for an operator's answer.
_KEPT = 60
# The newest windows that say what the level is now; older ones that agree are believed too.
_NEWEST = 5
# So many lengths of a window have to be heard since the change.
_LENGTHS = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class _Heard:
    """A window of the running machine: enough to say how loud it was."""

    vector: npt.NDArray[np.float32]
    level_dbfs: float  # as it was judged
    offset_db: float  # taken off before that
    start: float  # monotonic, seconds
    end: float


class MachineLevel:
    """What is taken off a machine's sound, and why. Safe from several threads.

    Args:
        name: The machine, for the log.
        file: Keeps what operators say.
        mode: Whether level counts.
    """

    def __init__(self, name: str, file: LevelFile, mode: Literal["judge", "ignore"]) -> None:
        self._name = name
        self._file = file
        self.mode = mode
        self._lock = threading.Lock()
        self._recent: deque[_Heard] = deque(maxlen=_KEPT)
        self._bundle: Bundle | None = None
        self._reference: LevelReference | None = None
        self._origin = ""
        self._held: LevelBaseline | None = None

    @property
    def held(self) -> LevelBaseline | None:
        """The operator's answer that holds now; None without one."""
        return self._held

    @property
    def offset_db(self) -> float:
        """What is taken off whatever is heard, dB."""
        held = self._held
        return 0.0 if held is None else held.decibels

    @property
    def note(self) -> str:
        """Why level is not judged as configured; empty when it is."""
        bundle = self._bundle
        if bundle is None or self.mode == "judge" or level_columns(bundle.manifest) is not None:
            return ""
        return LEVEL_UNKNOWN

    def begin(self, bundle: Bundle, threshold: float, weak: float | None = None) -> LevelCheck:
        """Take up what an earlier run left; see `use`."""
        self._file.load()
        return self.use(bundle, threshold, weak)

    def use(self, bundle: Bundle, threshold: float, weak: float | None = None) -> LevelCheck:
        """Go on with a bundle and its threshold in force; gives what tells changes of level.

        Args:
            bundle: Opened.
            threshold: Raw.
            weak: That of an alert, raw; None without alerts.
        """
        reference = LevelReference(bundle)
        with self._lock:
            self._bundle, self._reference = bundle, reference
            self._recent.clear()
            self._origin = origin_of(bundle.manifest)
            before, self._held = self._held, self._file.holding(self._origin)
            left = self._file.answers and self._held is None
        if self._held is not None and self._held is not before:
            log.info(
                "%s: %+.1f dB are taken off, as %s said on %s: the microphone's level has changed",
                self._name, self._held.decibels, self._held.operator, self._held.time,
            )  # fmt: skip
        elif left:
            log.info("%s: this bundle has learnt the level as it is: none is taken off", self._name)
        if self.note:
            log.warning("%s: level: ignore: %s", self._name, self.note)
        return LevelCheck(bundle, threshold, reference, weak)

    def hear(
        self, vector: npt.NDArray[np.float32], level_dbfs: float, start: float, end: float
    ) -> None:
        """Take a window of the running machine, as it was judged.

        Args:
            vector: Its embedding, float32 `(dim,)`.
            level_dbfs: Its level, dBFS.
            start: Monotonic, seconds.
            end: Monotonic, seconds.
        """
        heard = _Heard(vector, level_dbfs, self.offset_db, start, end)
        with self._lock:
            self._recent.append(heard)

    def take(
        self, operator: str, comment: str = "", decibels: float | None = None
    ) -> LevelBaseline:
        """Take the level anew: an operator says that the microphone was moved or its gain changed.

        Args:
            operator: Who says so.
            comment: What else they say.
            decibels: How much louder it hears than when the bundle was trained, dB; None to find
                that from what is heard now.

        Returns:
            What holds from now on.

        Raises:
            AuscultError: Too little was heard since the change, or the answer cannot be kept.
        """
        windows, spread = 0, 0.0
        with self._lock:
            if decibels is None:
                decibels, windows, spread = self._estimate()
            if abs(decibels) > MOST_DB:
                raise AuscultError(
                    f"{decibels:+.0f} dB are more than a microphone's gain has room for",
                    remedy="Look at the microphone: is it the right one, and alive?",
                )
            answer = LevelBaseline(
                decibels=round(decibels, 2),
                operator=operator,
                comment=comment,
                time=utc(time.time()),
                origin=self._origin,
                windows=windows,
                spread_db=round(spread, 2),
            )
            self._file.add(answer)
            self._held = answer
            self._recent.clear()
        return answer

    def undo(self, operator: str) -> LevelBaseline:
        """Take the latest answer back; gives it.

        Args:
            operator: Who takes it back.

        Raises:
            AuscultError: There is none, or that cannot be kept.
        """
        with self._lock:
            gone = self._file.undo(self._origin, utc(time.time()), operator)
            self._held = self._file.holding(self._origin)
            self._recent.clear()
        return gone

    def _estimate(self) -> tuple[float, int, float]:
        """How much louder it is heard now, from how many windows, and their spread, dB."""
        reference, heard = self._reference, list(self._recent)
        if reference is None or len(heard) < _NEWEST:
            raise _too_little(len(heard))
        found = [one.offset_db + _offset(reference, one) for one in heard]
        newest = float(np.median(found[-_NEWEST:]))
        near = max(reference.limit, LEAST_DB)
        agree = len(found)
        # Back to where it sounded otherwise: before the change, or while it was made.
        while agree > 0 and abs(found[agree - 1] - newest) <= near:
            agree -= 1
        used, heard = found[agree:], heard[agree:]
        if len(used) < _NEWEST:
            raise _too_little(len(used))
        span = heard[-1].end - heard[0].start
        if span < _LENGTHS * (heard[-1].end - heard[-1].start):
            raise _too_little(len(used))
        middle = float(np.median(used))
        return middle, len(used), float(np.median(np.abs(np.array(used) - middle)))


def _offset(reference: LevelReference, heard: _Heard) -> float:
    return reference.offset(heard.vector, heard.level_dbfs)


def _too_little(windows: int) -> AuscultError:
    return AuscultError(
        f"only {windows} windows of the running machine were heard at the level it has now",
        remedy="Let the machine run for some windows' length as it sounds now, and answer then; or "
        "give the change in dB.",
    )
