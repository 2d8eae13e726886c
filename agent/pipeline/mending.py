"""A machine that failed while others are listened to begins anew; it must not deafen them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from agent.capture.microphone import AudioHungError
from agent.core.errors import AuscultError
from agent.pipeline.listener import Listener

log = logging.getLogger(__name__)

FIRST_SECONDS = 5.0
MOST_SECONDS = 300.0


def start_all(machines: Sequence[Listener]) -> None:
    """Start every machine's pipeline; one that cannot be is told, and costs that machine alone.

    Raises:
        AuscultError: None can be started.
    """
    failed: list[AuscultError] = []
    for machine in machines:
        try:
            machine.start()
        except AuscultError as fault:  # noqa: PERF203 - it must not cost the others
            failed.append(fault)
            if len(failed) == len(machines):
                raise
            machine.give_up(fault)


class Mending:
    """Begins machines that failed anew, each with waits of its own, which grow.

    Args:
        begin_anew: Begins a machine anew, by its name; may raise.
    """

    def __init__(self, begin_anew: Callable[[str], None]) -> None:
        self._begin_anew = begin_anew
        # Of each that failed: when it begins anew, and the wait before that.
        self._again: dict[str, tuple[float, float]] = {}

    def look(self, machines: Sequence[Listener]) -> bool:
        """Mend what failed and is due.

        Returns:
            False when only a new process can go on: nothing is listened to any more, or the sound
            driver hangs.
        """
        faults = [machine.fault for machine in machines]
        if all(faults) or any(isinstance(fault, AudioHungError) for fault in faults):
            return False
        now = time.monotonic()
        for machine in machines:
            if machine.fault is not None and machine.live:
                self._attend(machine.name, now)
            elif machine.name in self._again and now > self._again[machine.name][0] + MOST_SECONDS:
                del self._again[machine.name]  # it has been well for long
        return True

    def _attend(self, name: str, now: float) -> None:
        due, wait = self._again.get(name, (0.0, 0.0))
        if now < due:
            return
        first = not wait
        wait = min(2 * wait or FIRST_SECONDS, MOST_SECONDS)
        self._again[name] = (now + wait, wait)
        if first:
            log.warning("%s: begins anew in %.0f s; the others are listened to", name, wait)
            return
        try:
            self._begin_anew(name)
        except AuscultError as fault:
            log.warning("%s: %s; again in %.0f s", name, fault, wait)
        except Exception:
            log.exception("%s: could not begin anew; again in %.0f s", name, wait)
