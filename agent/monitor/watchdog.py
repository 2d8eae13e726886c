"""Is every machine still listened to? Decides when systemd is told that the agent works.

The watchdog is fed by windows that were decided on (judged, or honestly found invalid), never by
a timer: a process whose threads hang is restarted. While no machine has a microphone that gives
sound, attempts to open them again stand for windows: a restart would not bring one back.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from agent.core.text import plural
from agent.monitor.observed import Machine
from agent.monitor.systemd import Notifier
from agent.window.condition import ConditionStatus

log = logging.getLogger(__name__)

# The watchdog waits for at least so many of the slowest machine's steps.
_STEPS = 4
# And for so many attempts to open a microphone that is away.
_ATTEMPTS = 1.5
# How often the watchdog is fed while no machine has a microphone yet, seconds.
_IDLE_SECONDS = 1.0


class WatchdogFeeder:
    """Tells systemd `READY` after the first windows, and `WATCHDOG` with each round of them.

    A round is complete when every machine has had a window decided on since the last one. So each
    machine must give a window within `WatchdogSec`. Three are not waited for: a recording that is
    over, a machine whose microphone is known to give no sound (that is told as its condition), and
    one that nobody has chosen a microphone for; no restart could mend that. When none gives
    windows, a round is complete once each of those without sound was tried again since the last
    one: a thread that hangs in its driver is still found. Windows of a machine that has no bundle
    yet count, as they are heard; the status says that they are not judged.

    Args:
        notifier: The way to systemd.
    """

    def __init__(self, notifier: Notifier) -> None:
        self._notifier = notifier
        self._counted: dict[str, int] = {}  # at the last complete round
        self._seen: dict[str, int] = {}  # at the last look
        self._attempts: dict[str, int] = {}  # at the last complete round
        self._failed_early: set[str] = set()
        self._idle_due = 0.0
        self.is_ready = False

    def begin(self, slowest_seconds: float, attempt_seconds: float = 0.0) -> None:
        """Before the first look.

        Args:
            slowest_seconds: Longest time that a machine in order may take to a window.
            attempt_seconds: Longest time from one attempt to open a microphone to the next.
        """
        allowed = self._notifier.watchdog_seconds
        needed = max(_STEPS * slowest_seconds, _ATTEMPTS * attempt_seconds)
        if allowed is not None and allowed < needed:
            log.info("the watchdog is told to wait %.0f s in place of %.0f s", needed, allowed)
            self._notifier.be_patient(needed)

    def look(self, machines: Sequence[Machine]) -> None:
        """Feed the watchdog if a round is complete; call often."""
        counts = {
            machine.name: machine.counters.windows for machine in machines if machine.expected
        }
        # A machine that is begun anew, for another bundle, counts from 0 again.
        new = {name for name, count in counts.items() if count not in {0, self._counted.get(name)}}
        excused = {machine.name for machine in machines if self._excused(machine)}
        self._seen = counts
        # With nothing to be heard yet, that the agent looks is all that can be asked of it.
        idle = bool(machines) and not counts and time.monotonic() >= self._idle_due
        attempts = {one.name: one.attempts for one in machines if one.expected and not one.ended}
        away = excused & attempts.keys()
        retried = bool(away) and all(attempts[one] > self._attempts.get(one, 0) for one in away)
        if not (new or idle or retried) or counts.keys() - new - excused:
            return
        self._counted, self._attempts = counts, attempts
        self._idle_due = time.monotonic() + _IDLE_SECONDS
        status = self._words(counts, excused - new, machines)
        if self.is_ready:
            self._notifier.alive(status)
        else:
            self.is_ready = True
            self._notifier.ready(status)

    def end(self) -> None:
        """The agent is about to end."""
        self._notifier.stopping()

    def _excused(self, machine: Machine) -> bool:
        if machine.ended or not machine.expected:
            return True
        failing = machine.sensor.status is ConditionStatus.FAILURE
        if machine.counters.windows not in {0, self._seen.get(machine.name)}:
            # It fails and still gives windows (of silence, say): should those stop, something
            # else is the matter, perhaps the thread that would notice.
            (self._failed_early.add if failing else self._failed_early.discard)(machine.name)
            return False
        return failing and machine.name not in self._failed_early

    @staticmethod
    def _words(counts: dict[str, int], excused: set[str], machines: Sequence[Machine]) -> str:
        text = f"{plural(len(machines), 'machine')}, {plural(sum(counts.values()), 'window')}"
        mute = sorted(excused & counts.keys())
        text += f"; no sound from {', '.join(mute)}" if mute else ""
        for thing in ("microphone", "bundle"):
            lacking = sorted(one.name for one in machines if thing in one.missing)
            text += f"; no {thing} yet for {', '.join(lacking)}" if lacking else ""
        return text
