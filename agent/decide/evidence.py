"""Windows as evidence for one level: N of M above its threshold, a quiet row below."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from agent.frames import Window


@dataclass(frozen=True, slots=True)
class Heard:
    """A window as an event tells of it: all but its samples.

    Attributes:
        value: Its score.
        index: Its number in the stream.
        monotonic: Monotonic time of its end, seconds.
        wall: Wall time of its first sample, seconds since the epoch.
        seconds: Its length.
        origin: File or device it was heard from.
        p_value: Conformal p-value of the score; None without one.
    """

    value: float
    index: int
    monotonic: float
    wall: float
    seconds: float
    origin: str
    p_value: float | None = None

    @classmethod
    def of(cls, window: Window, value: float, p_value: float | None = None) -> Heard:
        """What is remembered of a window."""
        return cls(
            value,
            window.index,
            window.end_monotonic,
            window.wall,
            window.seconds,
            window.origin,
            p_value,
        )


@dataclass(frozen=True, slots=True)
class Rule:
    """When evidence suffices.

    Attributes:
        threshold: A score above this speaks for the level.
        clear_below: A score up to this speaks against it.
        raise_windows: N...
        of_windows: ...of M of the latest valid windows make it active.
        clear_windows: Quiet windows in a row that end it.
        forget_seconds: Older windows count no more.
    """

    threshold: float
    clear_below: float
    raise_windows: int
    of_windows: int
    clear_windows: int
    forget_seconds: float


class Evidence:
    """Whether one level's condition holds. Sees valid windows alone.

    Args:
        rule: When evidence suffices.
        active: Whether the condition held when an earlier run stopped.
    """

    def __init__(self, rule: Rule, *, active: bool = False) -> None:
        self.rule = rule
        self.active = active
        self._recent: deque[tuple[float, bool]] = deque(maxlen=rule.of_windows)
        self._quiet = 0
        self._last = float("-inf")

    def observe(self, value: float, now: float) -> None:
        """Take a valid window into account.

        Args:
            value: Its score.
            now: Its end, monotonic seconds.
        """
        if now - self._last > self.rule.forget_seconds:
            self._quiet = 0
        self._last = now
        if self.active:
            self._observe_quiet(value)
        else:
            self._observe_loud(value, now)

    def forget(self) -> None:
        """Begin to count anew; whether the condition holds stays as it is."""
        self._recent.clear()
        self._quiet = 0

    def _observe_loud(self, value: float, now: float) -> None:
        self._recent.append((now, value > self.rule.threshold))
        while now - self._recent[0][0] > self.rule.forget_seconds:
            self._recent.popleft()
        if sum(loud for _, loud in self._recent) >= self.rule.raise_windows:
            self.active, self._quiet = True, 0

    def _observe_quiet(self, value: float) -> None:
        self._quiet = self._quiet + 1 if value <= self.rule.clear_below else 0
        if self._quiet >= self.rule.clear_windows:
            self.active = False
            # What raised the old alarm must not help to raise the next.
            self._recent.clear()
