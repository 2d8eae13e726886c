"""Explains the windows that raise an alert or alarm, before those are told."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from agent.bundle.manifest import Row
from agent.core.reasons import Explanation, UnusualBand
from agent.core.records import AudioBlock, Decision
from agent.explain.unusual import standing_out
from agent.machine.account import Account, explain_window
from agent.machine.scoring import ScoredWindow


class Explainer:
    """A tap that knows why. It takes some ten milliseconds, once an alarm.

    Args:
        keep: Takes the account of each alarm too, for its evidence; must not wait.
    """

    def __init__(self, keep: Callable[[Decision, Account], None] = lambda *_: None) -> None:
        self._keep = keep

    def hear(self, block: AudioBlock) -> None:
        """Ignores sound: a window is explained from its own samples."""

    def judged(self, decision: Decision, rows: Sequence[Row]) -> str:  # noqa: ARG002
        """Keeps no evidence."""
        return ""

    def explain(self, decision: Decision, judged: ScoredWindow) -> Explanation | None:
        """Why the window was judged so; None when it could not be judged."""
        if judged.vector is None:
            return None
        account = explain_window(judged.bundle, decision.score.window.samples, judged.vector)
        self._keep(decision, account)
        return account.explanation

    def stands_out(self, judged: ScoredWindow) -> Sequence[UnusualBand]:
        """The bands of a window that stand out from healthy sound."""
        spectrum = judged.bundle.spectrum
        if spectrum is None:
            return ()
        return standing_out(judged.score.window.samples, spectrum)

    def close(self) -> None:
        """Holds nothing open."""
