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
from agent.core.records import Matrix, Samples
from agent.deploy.load import Bundle
from agent.explain.spectrum import Floats, Grid, levels_of
from agent.level.bands import FEWEST, BandShift, HealthyBands, healthy_bands
from agent.level.baseline import MOST_DB, BandShape, LevelBaseline, LevelFile, origin_of
from agent.level.check import LevelCheck
from agent.level.columns import level_columns
from agent.level.hearing import AS_HEARD, Hearing, hearing_of
from agent.level.ignore import LEVEL_UNKNOWN
from agent.level.reference import LEAST_DB, LevelReference

log = logging.getLogger(__name__)

# Windows remembered, for an operator's answer.
_KEPT = 60
# The newest windows that say what the level is now; older ones that agree are believed too.
_NEWEST = 5
# So many lengths of a window have to be heard since the change.
_LENGTHS = 2.0
# Windows that do not overlap, remembered to say what another microphone does.
_APART = 60
# What a band differs by less than this is chance: few windows are heard, dB.
_LEAST_SHAPE_DB = 0.5
# So many bands that are not heard are a filter, or a microphone's limit.
_MISSING_BANDS = 5
# From here on another microphone is one worth taking off, dB.
_DIFFERS_DB = 2.0


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
        self._apart: deque[Floats] = deque(maxlen=_APART)
        self._until = float("-inf")  # end of the latest of them
        self._healthy: HealthyBands | None = None
        #: How its sound is heard before it is judged.
        self.hearing: Hearing = AS_HEARD

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

    def begin(self, bundle: Bundle, threshold: float, *weak: float | None) -> LevelCheck:
        """Take up what an earlier run left; see `use`."""
        self._file.load()
        return self.use(bundle, threshold, *weak)

    def use(self, bundle: Bundle, threshold: float, *weak: float | None) -> LevelCheck:
        """Go on with a bundle and its threshold in force; gives what tells changes of level.

        Args:
            bundle: Opened.
            threshold: Raw.
            weak: Those of an alert and of steady sound, raw; None without.
        """
        reference = LevelReference(bundle)
        with self._lock:
            self._bundle, self._reference = bundle, reference
            self._healthy = healthy_bands(
                bundle.manifest, np.asarray(bundle.bank.vectors), bundle.spectrum
            )
            self._origin = origin_of(bundle.manifest)
            before = self._held
            self._hold(self._file.holding(self._origin))
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
        return LevelCheck(bundle, threshold, reference, weak, self._filled)

    def hear(
        self,
        vector: npt.NDArray[np.float32],
        level_dbfs: float,
        start: float,
        end: float,
        samples: Samples | None = None,
    ) -> None:
        """Take a window of the running machine, as it was judged.

        Args:
            vector: Its embedding, float32 `(dim,)`.
            level_dbfs: Its level, dBFS.
            start: Monotonic, seconds.
            end: Monotonic, seconds.
            samples: The window, float32 `(n,)`; None where its bands are not asked for.
        """
        heard = _Heard(vector, level_dbfs, self.offset_db, start, end)
        with self._lock:
            self._recent.append(heard)
            if start >= self._until - 1e-3:
                levels = self._levels(vector, samples)
                if levels is not None:
                    self._until = end
                    self._apart.append(levels)

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
                bands=None if self._held is None else self._held.bands,
                windows=windows,
                spread_db=round(spread, 2),
            )
            self._file.add(answer)
            self._hold(answer)
        return answer

    @property
    def apart(self) -> int:
        """Windows heard, none overlapping another, that could tell of another microphone."""
        return len(self._apart)

    def hears_too_little(self) -> bool:
        """Whether the microphone hears nothing in several bands that training heard.

        Raises:
            AuscultError: Too little was heard through it.
        """
        with self._lock:
            return sum(self._shift(whole=True)[0].missing) >= _MISSING_BANDS

    def take_microphone(
        self, operator: str, comment: str = "", *, needed: bool = False
    ) -> LevelBaseline | None:
        """Take another microphone's level and bands off, learnt from what is heard now.

        Args:
            operator: Who says so.
            comment: What else they say.
            needed: Only where it differs by enough to matter; all that is remembered was heard
                through it.

        Returns:
            What holds from now on; None where nothing was needed.

        Raises:
            AuscultError: Too little was heard through it, the bundle has nothing to hold it
                against, or the answer cannot be kept.
        """
        with self._lock:
            shift, windows = self._shift(whole=needed)
            decibels, bands = _level_and_shape(shift)
            if needed and not _differs(decibels, bands):
                return None
            held = self._held
            if held is not None and held.bands is not None:
                bands = _together(bands, held.bands)
            answer = LevelBaseline(
                decibels=round(decibels + (0.0 if held is None else held.decibels), 2),
                operator=operator,
                comment=comment,
                time=utc(time.time()),
                origin=self._origin,
                bands=bands,
                windows=windows,
            )
            self._file.add(answer)
            self._hold(answer)
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
            self._hold(self._file.holding(self._origin))
        return gone

    def _hold(self, answer: LevelBaseline | None) -> None:
        """Hear by an answer from now on; what was heard by another says nothing any more."""
        self._held = answer
        self._recent.clear()
        self._apart.clear()
        self.hearing = AS_HEARD
        if answer is None or self._bundle is None:
            return
        self.hearing = hearing_of(answer, self._bundle)

    def _filled(self, vectors: Matrix) -> Matrix:
        return self.hearing.vectors(vectors)

    def _levels(self, vector: npt.NDArray[np.float32], samples: Samples | None) -> Floats | None:
        """Levels of a window's bands, dB; None where nothing tells them."""
        healthy = self._healthy
        if healthy is None:
            return None
        if healthy.views is not None:
            return vector[healthy.views.levels].astype(np.float64)
        if samples is None or self._bundle is None:
            return None
        grid = Grid.of(self._bundle.manifest.encoder.sample_rate)
        return levels_of(samples, grid)

    def _shift(self, *, whole: bool) -> tuple[BandShift, int]:
        """What the microphone that is heard now does, and from how many windows that is known."""
        if self._healthy is None:
            raise AuscultError(
                "this bundle holds no healthy spectrum to hold another microphone against",
                remedy="Export it anew, or record with this microphone and train with that.",
            )
        if len(self._apart) < FEWEST:
            raise _too_few(len(self._apart))
        shift, used = self._healthy.learn(np.stack(self._apart), whole=whole)
        if not used:
            raise _too_few(0)
        return shift, used

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


def _too_few(windows: int) -> AuscultError:
    return AuscultError(
        f"only {windows} windows apart were heard through the microphone that hangs there now, and "
        f"{FEWEST} are needed that agree",
        remedy="Let the machine run through it for two minutes, as it sounds in good order, and "
        "answer then.",
    )


def _level_and_shape(shift: BandShift) -> tuple[float, BandShape]:
    """What all bands share, and what is left of each, dB."""
    found, missing = np.array(shift.decibels), np.array(shift.missing)
    level = float(np.median(found[~missing]))
    shape = np.where(np.abs(found - level) < _LEAST_SHAPE_DB, 0.0, found - level)
    told = tuple(np.round(shape, 1).tolist())
    return level, BandShape(hertz=shift.hertz, decibels=told, missing=shift.missing)


def _differs(decibels: float, bands: BandShape) -> bool:
    """Whether it is another microphone than that of training by enough to matter."""
    most = float(np.abs(bands.decibels).max())
    return any(bands.missing) or max(most, abs(decibels)) >= _DIFFERS_DB


def _together(found: BandShape, held: BandShape) -> BandShape:
    """What is taken off when what was heard had one shape taken off already."""
    if len(found.decibels) != len(held.decibels):
        return found
    both = np.array(found.decibels) + np.array(held.decibels)
    return found.model_copy(update={"decibels": tuple(np.round(both, 1).tolist())})
