"""Those who listen in on a pipeline without being a stage of it: evidence and collection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from agent.bundle.manifest import Row
from agent.frames import AudioBlock, Decision


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
