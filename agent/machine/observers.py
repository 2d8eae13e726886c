"""Observers, which listen in on a pipeline without being a stage of it: evidence and collection.

They hear sound and decisions, and may say why a window raised an alarm (`Explaining`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from agent.bundle.manifest import Row
from agent.core.reasons import Circumstance, Explanation, UnusualBand
from agent.core.records import AudioBlock, Decision
from agent.machine.scoring import ScoredWindow

log = logging.getLogger(__name__)


class PipelineObserver(Protocol):
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


@runtime_checkable
class Explaining(Protocol):
    """A tap that can also say why a window was judged anomalous."""

    def explain(self, decision: Decision, judged: ScoredWindow) -> Explanation | None:
        """Explain a window that raises an alert or alarm, before that is told.

        Called as a tap is, after `judged`; an alarm waits for it, so it takes milliseconds.

        Args:
            decision: On the window; `decision.events` say what it raised.
            judged: Its embedding, and the bundle it was judged with.

        Returns:
            Why; None when this tap does not know.
        """
        ...


@runtime_checkable
class Watching(Protocol):
    """A tap that can say what stands out in a window, cheaply."""

    def stands_out(self, judged: ScoredWindow) -> Sequence[UnusualBand]:
        """Bands that do not sound as they should, the most unusual first.

        Asked every some seconds while an alarm stands.
        """
        ...


@runtime_checkable
class Surrounding(Protocol):
    """A tap that knows what else is so: the machine has just started, somebody speaks..."""

    def circumstances(self, decision: Decision, judged: ScoredWindow) -> Sequence[Circumstance]:
        """What else is so, when a window raises an alert or alarm or it is told again.

        Called as `Explaining.explain` is.
        """
        ...


class PipelineObservers:
    """Several taps as one. A fault of theirs never reaches the pipeline: it is logged, once each.

    Args:
        taps: Each is told everything.
    """

    def __init__(self, observers: Sequence[PipelineObserver]) -> None:
        self._taps = tuple(observers)
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

    def explain(self, decision: Decision, judged: ScoredWindow) -> Explanation | None:
        """The first explanation that a tap gives; None when none knows."""
        for tap in self._taps:
            if not isinstance(tap, Explaining):
                continue
            try:
                found = tap.explain(decision, judged)
            except Exception as fault:  # noqa: BLE001
                self._tell(tap, fault)
            else:
                if found is not None:
                    return found
        return None

    def stands_out(self, judged: ScoredWindow) -> tuple[UnusualBand, ...]:
        """What stands out in a window, by the first tap that can say."""
        for tap in self._taps:
            if isinstance(tap, Watching):
                try:
                    return tuple(tap.stands_out(judged))
                except Exception as fault:  # noqa: BLE001
                    self._tell(tap, fault)
        return ()

    def circumstances(self, decision: Decision, judged: ScoredWindow) -> tuple[Circumstance, ...]:
        """What else is so, by all taps that know something of it."""
        found: list[Circumstance] = []
        for tap in self._taps:
            if isinstance(tap, Surrounding):
                try:
                    found += tap.circumstances(decision, judged)
                except Exception as fault:  # noqa: BLE001
                    self._tell(tap, fault)
        return tuple(found)

    def close(self) -> None:
        """The pipeline has ended."""
        for tap in self._taps:
            try:
                tap.close()
            except Exception as fault:  # noqa: BLE001, PERF203
                self._tell(tap, fault)

    def _tell(self, tap: PipelineObserver, fault: Exception) -> None:
        key = (type(tap).__name__, type(fault).__name__)
        if key not in self._told:
            self._told.add(key)
            log.error("%s failed", key[0], exc_info=fault)
