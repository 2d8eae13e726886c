"""Which windows speak for how a machine runs, and so may reach its drift monitor."""

from __future__ import annotations

import logging

from agent.core.records import Decision, MachineState
from agent.drift.service import DriftService, Heard

log = logging.getLogger(__name__)


class DriftFollower:
    """Hands a machine's windows on to its drift; a fault there never costs an alarm.

    Args:
        machine: The machine, for the log.
    """

    def __init__(self, machine: str) -> None:
        self._machine = machine
        self._failed = False

    def take(self, drift: DriftService, decision: Decision, heard: Heard | None) -> None:
        """Take a window, unless the machine is idle, worked on, or could not be judged.

        Args:
            drift: The machine's.
            decision: On the window.
            heard: The window with its embedding; None when it could not be judged.
        """
        worked_on = decision.status is not None and decision.status.muted_until_wall is not None
        if heard is None or worked_on or decision.state is not MachineState.RUNNING:
            return
        try:
            drift.observe(heard)
        except Exception:
            if not self._failed:
                log.exception("%s: drift is not followed", self._machine)
            self._failed = True
