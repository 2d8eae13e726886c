"""Is every machine still listened to? Decides when systemd is told that the agent works.

The watchdog is fed by windows that were decided on (judged, or honestly found invalid), never by
a timer: a process whose threads hang, or that hears nothing any more, is restarted.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

from agent.health.notify import Notifier
from agent.window.condition import ConditionStatus, SensorCondition

log = logging.getLogger(__name__)

# The watchdog waits for at least so many of the slowest machine's steps.
_STEPS = 4


class Counted(Protocol):
    """Counts windows; the pipeline's `Tally`."""

    @property
    def windows(self) -> int:
        """Windows decided on."""
        ...


class Watched(Protocol):
    """A machine's path from sound to decision; `Pipeline`."""

    @property
    def name(self) -> str:
        """The machine."""
        ...

    @property
    def tally(self) -> Counted:
        """Its counts."""
        ...

    @property
    def sensor(self) -> SensorCondition:
        """Its microphone's condition."""
        ...

    @property
    def ended(self) -> bool:
        """Whether its sound is over."""
        ...


class Vigil:
    """Tells systemd `READY` after the first windows, and `WATCHDOG` with each round of them.

    A round is complete when every machine has had a window decided on since the last one. So each
    machine must give a window within `WatchdogSec`. Two are not waited for, as long as another
    gives windows: a recording that is over, and a machine whose microphone is known to give no
    sound (that is told as its condition, and restarting would deafen the others as well).

    Args:
        notifier: The way to systemd.
    """

    def __init__(self, notifier: Notifier) -> None:
        self._notifier = notifier
        self._counted: dict[str, int] = {}  # at the last complete round
        self._seen: dict[str, int] = {}  # at the last look
        self._failed_early: set[str] = set()
        self.is_ready = False

    def begin(self, slowest_seconds: float) -> None:
        """Before the first look.

        Args:
            slowest_seconds: Longest time that a machine in order may take to a window.
        """
        allowed = self._notifier.watchdog_seconds
        needed = _STEPS * slowest_seconds
        if allowed is not None and allowed < needed:
            log.info("the watchdog is told to wait %.0f s in place of %.0f s", needed, allowed)
            self._notifier.be_patient(needed)

    def look(self, machines: Sequence[Watched]) -> None:
        """Feed the watchdog if a round is complete; call often."""
        counts = {machine.name: machine.tally.windows for machine in machines}
        # A machine that is begun anew, for another bundle, counts from 0 again.
        new = {name for name, count in counts.items() if count not in {0, self._counted.get(name)}}
        excused = {machine.name for machine in machines if self._excused(machine)}
        self._seen = counts
        if not new or counts.keys() - new - excused:
            return
        self._counted = counts
        status = self._words(counts, excused - new)
        if self.is_ready:
            self._notifier.alive(status)
        else:
            self.is_ready = True
            self._notifier.ready(status)

    def end(self) -> None:
        """The agent is about to end."""
        self._notifier.stopping()

    def _excused(self, machine: Watched) -> bool:
        if machine.ended:
            return True
        failing = machine.sensor.status is ConditionStatus.FAILURE
        if machine.tally.windows not in {0, self._seen.get(machine.name)}:
            # It fails and still gives windows (of silence, say): should those stop, something
            # else is the matter, perhaps the thread that would notice.
            (self._failed_early.add if failing else self._failed_early.discard)(machine.name)
            return False
        return failing and machine.name not in self._failed_early

    @staticmethod
    def _words(counts: dict[str, int], excused: set[str]) -> str:
        text = f"{len(counts)} machines, {sum(counts.values())} windows"
        return text + (f"; no sound from {', '.join(sorted(excused))}" if excused else "")
