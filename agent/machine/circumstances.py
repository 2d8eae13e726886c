"""What else is so when an alarm is raised: the machine has just started, the broker is away..."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from agent.bundle.manifest import Row
from agent.core.reasons import Circumstance
from agent.core.records import AudioBlock, Decision, MachineState, Validity, Window
from agent.core.text import lasting
from agent.machine.scoring import ScoredWindow

# What is longer ago than this is no news at an alarm, seconds.
_RECENT = 600.0
# A sound from elsewhere in a window that ended so long before is one at the same time, seconds.
_AT_THE_SAME_TIME = 30.0


class Surroundings:
    """A tap that knows what happened around one machine's sound of late.

    Args:
        broker_away: For how long the broker has been away, seconds; None while it is there, or
            there is none.
    """

    def __init__(self, broker_away: Callable[[], float | None] = lambda: None) -> None:
        self._broker_away = broker_away
        self._began: float | None = None  # end of the first window, monotonic
        self._still: float | None = None  # end of the latest one in which it stood still
        self._unheard: tuple[float, str] | None = None  # of one that could not be judged, and why
        self._worked_on: tuple[float, str] | None = None  # of one while people were at it
        self._foreign: dict[str, tuple[float, str]] = {}  # by kind: end of the latest with it

    def hear(self, block: AudioBlock) -> None:
        """Ignores sound: circumstances are read from decisions."""

    def judged(self, decision: Decision, rows: Sequence[Row]) -> str:  # noqa: ARG002
        """Remember what a window tells; nothing to keep."""
        window, status = decision.score.window, decision.status
        end = window.end_monotonic
        if self._began is None:
            self._began = end
        if decision.state is MachineState.IDLE:
            self._still = end
        if window.validity not in (Validity.VALID, Validity.WARM_UP):
            self._unheard = (end, window.reason or window.validity.value)
        if status is not None and status.muted_until_wall is not None:
            self._worked_on = (end, status.planned)
        for sound in decision.score.foreign:
            self._foreign[sound.kind.value] = (end, sound.words)
        return ""

    def circumstances(self, decision: Decision, judged: ScoredWindow) -> Sequence[Circumstance]:  # noqa: ARG002
        """What was so when a window was heard."""
        window = decision.score.window
        found = [*self._of_machine(decision, window), *self._of_sound(decision, window)]
        away = self._broker_away()
        if away is not None:
            text = f"the broker has been away for {lasting(away)}"
            found.append(Circumstance("broker_away", text, round(away, 1)))
        return found

    def close(self) -> None:
        """Holds nothing open."""

    def _of_machine(self, decision: Decision, window: Window) -> list[Circumstance]:
        found = []
        if decision.state is MachineState.IDLE:
            found.append(Circumstance("idle", "the machine stands still"))
        elif (ago := _ago(self._still, window)) is not None:
            found.append(Circumstance("started", f"started {lasting(ago)} ago", round(ago, 1)))
        if window.joined:
            found.append(Circumstance("short_runs", "heard over several short runs"))
        if self._worked_on is not None and (ago := _ago(self._worked_on[0], window)) is not None:
            text = f"{self._worked_on[1] or 'work on the machine'} ended {lasting(ago)} ago"
            found.append(Circumstance("maintenance", text, round(ago, 1)))
        return found

    def _of_sound(self, decision: Decision, window: Window) -> list[Circumstance]:
        found = []
        ago = _ago(self._began, window)
        if ago is not None and window.index < 10 * _RECENT:
            text = f"the agent began to listen {lasting(ago + window.seconds)} ago"
            found.append(Circumstance("agent_started", text, round(ago + window.seconds, 1)))
        if self._unheard is not None and (ago := _ago(self._unheard[0], window)) is not None:
            text = f"sound could not be judged until {lasting(ago)} ago ({self._unheard[1]})"
            found.append(Circumstance("not_judged", text, round(ago, 1)))
        for kind, (end, text) in self._foreign.items():
            ago = _ago(end, window)
            if ago is not None and ago <= _AT_THE_SAME_TIME:
                found.append(Circumstance(kind, text))
        status = decision.status
        change = None if status is None else status.level_change_db
        if change is not None:
            word = "louder" if change > 0 else "quieter"
            text = f"heard {abs(change):.0f} dB {word} for a while already"
            found.append(Circumstance("level", text))
        return found


def _ago(moment: float | None, window: Window) -> float | None:
    """How long before a window's end something was, seconds; None when that is no news."""
    if moment is None:
        return None
    ago = max(0.0, window.end_monotonic - moment)
    return ago if ago <= _RECENT else None


def away_for(since: float | None) -> float | None:
    """How long ago a monotonic time was, seconds; None of none."""
    return None if since is None else max(0.0, time.monotonic() - since)
