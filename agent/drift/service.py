"""One machine's drift, kept: windows in at their step, warnings out, over restarts and swaps."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from agent.core.reasons import UnusualBand
from agent.core.records import Window
from agent.drift.baseline import Baseline, DriftError
from agent.drift.events import DriftEvent, DriftEventKind, DriftStatus
from agent.drift.memory import KEPT, DriftMemory, drift_file
from agent.drift.monitor import DriftMonitor, Reading
from agent.drift.state import MonitorState

log = logging.getLogger(__name__)

# Between events the state is saved so often, seconds: a crash costs the monitor at most this much
# of what it heard, and a memory card is written to a few megabytes a day.
_SAVE_SECONDS = 600.0
# Of a warning that has ended: text and number say so.
_OVER = {"active": False, "exceeded": False, "warning_id": "", "since_wall": None,
         "movement": "", "bands": ()}  # fmt: skip
#: Of drift that the spectrum's bands do not tell.
NO_BAND = "no band of its spectrum stands out: its sound has changed in shape or rhythm"
_SLACK_SECONDS = 1e-3  # of a window's time within its step


class Spectrum(Protocol):
    """Knows in Hz and dB how a machine's sound has changed; `agent.machine.days.SoundDays`."""

    def bands(self) -> tuple[UnusualBand, ...]:
        """What has changed, the most changed first."""
        ...

    def words(self) -> str:
        """The changed bands in words, for people; empty when none has changed."""
        ...

    def accept(self) -> None:
        """Take how it sounds now for how it should."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """A window as the drift monitor takes it.

    Attributes:
        window: The window, valid, of the running machine.
        vector: Its embedding, float32 `(dim,)`.
        baseline: Of the bundle whose encoder made it; None when that has none.
    """

    window: Window
    vector: npt.NDArray[np.float32]
    baseline: Baseline | None


class DriftService:
    """Follows one machine's drift; safe for the scoring thread and commands at a time.

    The monitor's memory belongs to its baseline. A bundle with another baseline begins anew and
    ends a standing warning; the old memory, with all that operators accepted, is kept for the
    bundle's return. A bundle with the same baseline (a grown bank) goes on as if nothing happened.

    Args:
        tell: Takes the state after each evaluation, and each event; must not wait (for an event,
            for the disk alone), nor call back.
        path: File that all of it is kept in; None for nowhere.
        spectrum: Says what has changed in Hz and dB; None when nothing does.
    """

    def __init__(
        self,
        tell: Callable[[DriftStatus | DriftEvent], None],
        path: Path | None = None,
        spectrum: Spectrum | None = None,
    ) -> None:
        self._tell = tell
        self._file = drift_file(path)
        self._spectrum = spectrum
        self._lock = threading.Lock()
        self._monitor: DriftMonitor | None = None
        self._step = 0.0
        self._due: float | None = None
        self._status: DriftStatus | None = None
        self._untold: tuple[DriftEvent, ...] = ()
        self._others: dict[str, MonitorState] = {}  # by baseline, the latest last
        self._saved = time.monotonic()

    @property
    def status(self) -> DriftStatus | None:
        """How the drift stands; None before the first evaluation."""
        with self._lock:
            return self._status

    def resume(self, baseline: Baseline | None, step_seconds: float) -> None:
        """Go on where an earlier run stopped, and tell what it may not have told.

        Args:
            baseline: Of the bundle; None when it has none.
            step_seconds: Step between the windows to take.
        """
        with self._lock:
            memory = self._file.load_or_new()
            self._others = {state.baseline: state for state in memory.monitors}
            self._status, self._untold = memory.status, memory.untold
            same = baseline is not None and baseline.digest == memory.baseline
            events = () if same else self._withdraw("the bundle has another baseline")
            self._take_up(baseline, step_seconds)
            self._hand_over((*self._untold, *events))
            if self._status is not None and (same or events):
                self._tell(self._status)
            if not same:
                self._status = None

    def use(self, baseline: Baseline | None, step_seconds: float) -> None:
        """Compare with another bundle's baseline from the next window on; see `resume`."""
        with self._lock:
            present = self._monitor
            wanted = None if baseline is None else baseline.digest
            if present is not None and present.baseline.digest == wanted:
                self._step = step_seconds
                return
            events = self._withdraw("the bundle has another baseline")
            if present is not None:
                self._others[present.baseline.digest] = _quiet(present.state())
            self._take_up(baseline, step_seconds)
            self._hand_over(events, save=True)
            if events and self._status is not None:
                self._tell(self._status)
            self._status = None

    def observe(self, heard: Heard) -> None:
        """Take a window, if its time has come.

        Args:
            heard: A window that speaks for how the machine runs.
        """
        with self._lock:
            monitor, window = self._monitor, heard.window
            if monitor is None or heard.baseline is None:
                return
            if heard.baseline.digest != monitor.baseline.digest:
                return  # it was embedded just before another bundle was taken up
            if self._due is not None and window.monotonic < self._due - _SLACK_SECONDS:
                return
            self._due = window.monotonic + self._step
            reading = monitor.observe(heard.vector.astype(np.float64))
            if reading is None:
                return
            events = self._take(reading, window.end_wall)
            assert self._status is not None
            self._hand_over(events, save=time.monotonic() - self._saved >= _SAVE_SECONDS)
            self._tell(self._status)

    def accept(self, operator: str, note: str = "", *, warning_id: str = "") -> DriftStatus:
        """An operator says that the machine is well as it sounds now.

        Args:
            operator: Who says so.
            note: Why.
            warning_id: The warning meant; empty for the present one.

        Returns:
            How the drift stands afterwards.

        Raises:
            DriftError: No warning stands, or another; nobody is named; or there are too many
                accepted states.
        """
        with self._lock:
            monitor, status = self._monitor, self._status
            if monitor is None:
                raise DriftError(
                    "this machine's drift is not followed: its bundle has no drift baseline",
                    remedy="Export it with one (`drift.enabled` in the preset, enough recordings).",
                )
            if status is not None and warning_id and warning_id != status.warning_id:
                raise DriftError(
                    f"{warning_id[:100]} is not the present drift warning",
                    remedy=f"That is {status.warning_id or 'none'}.",
                )
            if status is None:
                raise DriftError("there is no drift warning to accept")
            monitor.accept(operator, note)
            # How it sounds now is a normal state itself: it is no distance away from that.
            self._status = status.model_copy(
                update={**_OVER, "distance": 0.0, "reference": monitor.states - 1}
            )
            if self._spectrum is not None:
                self._spectrum.accept()
            event = self._event(
                DriftEventKind.ACCEPTED, time.time(), status.warning_id, operator.strip(), note
            )
            self._hand_over((event,), save=True)
            self._tell(self._status)
            return self._status

    def close(self) -> None:
        """Save what is remembered: no more windows come."""
        with self._lock:
            if self._monitor is not None:
                self._save()

    def _take_up(self, baseline: Baseline | None, step_seconds: float) -> None:
        self._step, self._due, self._monitor = step_seconds, None, None
        if baseline is None:
            return
        state = self._others.pop(baseline.digest, None)
        try:
            self._monitor = DriftMonitor(baseline, state)
        except DriftError as fault:
            self._file.set_aside(fault.problem)
            self._monitor = DriftMonitor(baseline)

    def _withdraw(self, why: str) -> tuple[DriftEvent, ...]:
        """End a standing warning whose baseline is used no more."""
        self._others = {digest: _quiet(state) for digest, state in self._others.items()}
        status = self._status
        if status is None or not status.active:
            return ()
        self._status = status.model_copy(update={**_OVER, "wall": time.time()})
        return (
            self._event(DriftEventKind.CLEARED, self._status.wall, status.warning_id, note=why),
        )

    def _take(self, reading: Reading, wall: float) -> tuple[DriftEvent, ...]:
        """The state after an evaluation, and what happened with it."""
        before = self._status
        standing = before is not None and before.active
        warning, since = "", None
        if reading.active:
            kept = before if standing and before is not None else None
            warning = kept.warning_id if kept else uuid.uuid4().hex
            since = kept.since_wall if kept else wall
        movement = ""
        bands: tuple[UnusualBand, ...] = ()
        if reading.exceeded:
            movement = NO_BAND if self._spectrum is None else self._spectrum.words() or NO_BAND
            bands = () if self._spectrum is None else self._spectrum.bands()
        if reading.movement is not None:
            log.debug("drift: %s", reading.movement.sentence())
        self._status = DriftStatus(
            wall=wall,
            active=reading.active,
            exceeded=reading.exceeded,
            distance=reading.distance,
            threshold=reading.threshold,
            reference=reading.reference,
            warning_id=warning,
            since_wall=since,
            movement=movement,
            bands=bands,
        )
        if reading.active and not standing:
            return (self._event(DriftEventKind.WARNED, wall, warning),)
        if standing and before is not None and not reading.active:
            return (self._event(DriftEventKind.CLEARED, wall, before.warning_id),)
        return ()

    def _event(
        self, kind: DriftEventKind, wall: float, warning: str, operator: str = "", note: str = ""
    ) -> DriftEvent:
        assert self._status is not None
        name = f"{warning}-{kind.value}"
        return DriftEvent(
            id=name, kind=kind, wall=wall, warning_id=warning, status=self._status,
            operator=operator, note=note,
        )  # fmt: skip

    def _hand_over(self, events: tuple[DriftEvent, ...], *, save: bool = False) -> None:
        """Save events with the state that brought them about, tell them, strike them off."""
        self._untold = events
        if events or save:
            self._save()
        for event in events:
            self._tell(event)
        if events:
            self._untold = ()
            self._save()

    def _save(self) -> None:
        self._saved = time.monotonic()
        monitor = self._monitor
        present = () if monitor is None else (monitor.state(),)
        others = tuple(self._others.values())[-(KEPT - len(present)) :]
        self._file.save(
            DriftMemory(
                baseline="" if monitor is None else monitor.baseline.digest,
                status=self._status,
                untold=self._untold,
                monitors=(*others, *present),
            )
        )


def _quiet(state: MonitorState) -> MonitorState:
    """Without the warning: what operators accepted stays."""
    return state.model_copy(update={"active": False, "since": None, "flags": []})
