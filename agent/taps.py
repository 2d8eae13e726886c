"""Those who listen in on a pipeline without being a stage of it: evidence and collection."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

from agent.bundle.manifest import Row
from agent.frames import AudioBlock, Decision

log = logging.getLogger(__name__)


class Tap(Protocol):
    """Hears what a pipeline captures and what it decides.

    Called from the pipeline's own threads: it must neither wait nor raise.
    """

    def hear(self, block: AudioBlock) -> None:
        """Take a block that was captured. Its samples may be reused once this returns."""
        ...

    def judged(self, decision: Decision, rows: Sequence[Row]) -> str:
        """Take a decision, before it is published.

        Args:
            decision: On the next window.
            rows: Where the rows of the bank it was scored with came from.

        Returns:
            What this tap keeps of the present alarm, as a path below the state directory; empty
            when that is nothing.
        """
        ...

    def close(self) -> None:
        """The pipeline has ended."""
        ...


class Taps:
    """Several taps as one. A fault of theirs never reaches the pipeline: it is logged, once each.

    Args:
        taps: Each is told everything.
    """

    def __init__(self, taps: Sequence[Tap]) -> None:
        self._taps = tuple(taps)
        self._told: set[tuple[str, str]] = set()

    def hear(self, block: AudioBlock) -> None:
        """Take a captured block."""
        for tap in self._taps:
            try:
                tap.hear(block)
            except Exception as fault:  # noqa: BLE001, PERF203 - listening in must not end listening
                self._tell(tap, fault)

    def judged(self, decision: Decision, rows: Sequence[Row]) -> str:
        """Take a decision; gives the first reference that a tap gives."""
        found = ""
        for tap in self._taps:
            try:
                found = tap.judged(decision, rows) or found
            except Exception as fault:  # noqa: BLE001, PERF203
                self._tell(tap, fault)
        return found

    def close(self) -> None:
        """The pipeline has ended."""
        for tap in self._taps:
            try:
                tap.close()
            except Exception as fault:  # noqa: BLE001, PERF203
                self._tell(tap, fault)

    def _tell(self, tap: Tap, fault: Exception) -> None:
        key = (type(tap).__name__, type(fault).__name__)
        if key not in self._told:
            self._told.add(key)
            log.error("%s failed", key[0], exc_info=fault)
