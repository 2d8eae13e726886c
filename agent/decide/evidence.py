"""Sound as evidence for one level: enough of the latest of it above the threshold, or a quiet row.

Windows overlap, so counting them counts one event many times: at a hop of 1 s a slammed door is in
ten windows of 10 s. Evidence is therefore measured in seconds of sound, each second once: a window
weighs what it adds to the one before. That makes the decision the same at any hop.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from agent.core.level_change import LevelChange
from agent.core.records import Window

# Hops of 0.1 s do not add up to whole seconds.
_ROUNDING = 1e-3


@dataclass(frozen=True, slots=True)
class Heard:
    """A window as an event tells of it: all but its samples.

    Attributes:
        value: Its score.
        index: Its number in the stream.
        monotonic: Monotonic time of its end, seconds; by a clock that stands still while the
            machine does, where that is followed (`Window.run_clock`).
        wall: Wall time of its first sample, seconds since the epoch.
        seconds: Its length.
        origin: File or device it was heard from.
        p_value: Conformal p-value of the score; None without one.
        level: The change of level without which it would be healthy; None otherwise.
        varies: What is strange in it comes and goes within it.
        ended: Monotonic time of its end by a clock that never stands still.
        level_dbfs: How loud it is, where that matters, dBFS; else None.
        called: Of a window that its latest sound called for, the seconds of that; else 0.
        recognised: A sound from elsewhere is recognised in it, or was and goes on.
    """

    value: float
    index: int
    monotonic: float
    wall: float
    seconds: float
    origin: str
    p_value: float | None = None
    level: LevelChange | None = None
    varies: bool = False
    ended: float = 0.0
    recognised: bool = False
    level_dbfs: float | None = None
    called: float = 0.0

    @property
    def strongly_counted(self) -> float:
        """The score that speaks for a strong fault: steady, and of nothing known from elsewhere."""
        return float("-inf") if self.varies or self.recognised else self.counted

    @property
    def counted(self) -> float:
        """The score that speaks for or against an alarm: a pure change of level is none."""
        return self.value if self.level is None else self.level.value

    @property
    def weakly_counted(self) -> float:
        """The score that speaks for or against less than an alarm.

        What taking a change of level out leaves is below the alarm's threshold; that it isn't quite
        healthy is the change itself, which is told as what it is.
        """
        return self.value if self.level is None else float("-inf")

    @classmethod
    def of(
        cls,
        window: Window,
        value: float,
        p_value: float | None = None,
        level: LevelChange | None = None,
        *,
        varies: bool = False,
        recognised: bool = False,
        level_dbfs: float | None = None,
    ) -> Heard:
        """What is remembered of a window."""
        return cls(
            value,
            window.index,
            window.end_monotonic if window.run_clock is None else window.run_clock,
            window.wall,
            window.seconds,
            window.origin,
            p_value,
            level,
            varies,
            window.end_monotonic,
            recognised,
            level_dbfs,
            window.step / window.rate if window.called else 0.0,
        )


@dataclass(frozen=True, slots=True)
class Rule:
    """When evidence suffices. Amounts are seconds of sound, or windows where those are asked for.

    Attributes:
        threshold: A score above this speaks for the level.
        clear_below: A score up to this speaks against it.
        raise_after: So much above the threshold...
        within: ...among so much of the latest valid sound makes it active.
        clear_after: So much quiet sound in a row ends it.
        forget_seconds: Older windows count no more.
        in_windows: Every window weighs 1, whatever sound it shares with the one before.
        passing_after: Of sound that comes and goes so much makes it active...
        passing_within: ...among so much; None where it counts like any other.
    """

    threshold: float
    clear_below: float
    raise_after: float
    within: float
    clear_after: float
    forget_seconds: float
    in_windows: bool = False
    passing_after: float = 0.0
    passing_within: float | None = None


@dataclass(slots=True)
class _Sound:
    """A window's new sound.

    Attributes:
        now: Its end.
        amount: What it weighs.
        loud: It speaks for the level.
        steady: ...and what is strange is there all the time.
    """

    now: float
    amount: float
    loud: bool
    steady: bool


class Evidence:
    """Whether one level's condition holds. Sees valid windows alone.

    Args:
        rule: When evidence suffices.
        active: Whether the condition held when an earlier run stopped.
    """

    def __init__(self, rule: Rule, *, active: bool = False) -> None:
        self.rule = rule
        self.active = active
        self._recent: deque[_Sound] = deque()
        self._quiet = 0.0
        self._last = float("-inf")

    @property
    def gathered(self) -> float:
        """What speaks for the level at present, in the rule's amounts."""
        return self._held(self.rule.within, lambda sound: sound.steady)

    def observe(
        self,
        value: float,
        now: float,
        seconds: float = 1.0,
        *,
        varies: bool = False,
        reach: float = 0.0,
    ) -> None:
        """Take a valid window into account.

        Args:
            value: Its score.
            now: Its end, monotonic seconds.
            seconds: Sound that it adds to the window before.
            varies: What is strange comes and goes within it.
            reach: Its length: if it is steady, so was what it holds of the windows before.
        """
        amount = 1.0 if self.rule.in_windows else seconds
        if now - self._last > self.rule.forget_seconds:
            self._quiet = 0.0
        self._last = now
        if self.active:
            self._observe_quiet(value, amount)
        else:
            self._observe_loud(_Sound(now, amount, value > self.rule.threshold, not varies), reach)

    def forget(self) -> None:
        """Begin to count anew; whether the condition holds stays as it is."""
        self._recent.clear()
        self._quiet = 0.0

    def _observe_loud(self, new: _Sound, reach: float) -> None:
        rule, recent = self.rule, self._recent
        passing = rule.passing_within
        if not new.loud or passing is None:
            new.steady = new.loud
        recent.append(new)
        if new.steady:
            # What began in it looked like something passing; it has stayed.
            for sound in reversed(recent):
                if sound.now <= new.now - reach + _ROUNDING:
                    break
                sound.steady = sound.loud
        while new.now - recent[0].now > rule.forget_seconds:
            recent.popleft()
        widest = rule.within if passing is None else max(passing, rule.within)
        held = sum(sound.amount for sound in recent)
        while held - recent[0].amount >= widest - _ROUNDING:
            held -= recent.popleft().amount
        enough = self.gathered >= rule.raise_after - _ROUNDING
        if passing is not None and not enough:
            comes_and_goes = self._held(passing, lambda sound: sound.loud)
            enough = comes_and_goes >= rule.passing_after - _ROUNDING
        if enough:
            self.active, self._quiet = True, 0.0

    def _held(self, within: float, wanted: Callable[[_Sound], bool]) -> float:
        """How much of the latest so much is wanted; a window that reaches over counts whole."""
        found = held = 0.0
        for sound in reversed(self._recent):
            if held >= within - _ROUNDING:
                break
            held += sound.amount
            if wanted(sound):
                found += sound.amount
        return found

    def _observe_quiet(self, value: float, amount: float) -> None:
        self._quiet = self._quiet + amount if value <= self.rule.clear_below else 0.0
        if self._quiet >= self.rule.clear_after - _ROUNDING:
            self.active = False
            # What raised the old alarm must not help to raise the next.
            self._recent.clear()
