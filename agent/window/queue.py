"""Windows between capture and scoring."""

from __future__ import annotations

import threading
from collections import deque

from agent.core.records import Window


class WindowQueue:
    """Windows on their way to scoring: bounded, in order.

    Args:
        size: Windows held.
        drop: When full, drop the oldest (live sound goes on regardless); else make `put` wait.
    """

    def __init__(self, size: int, *, drop: bool) -> None:
        self._size = size
        self._drop = drop
        self._items: deque[Window] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self.dropped = 0

    def __len__(self) -> int:
        """Windows held."""
        return len(self._items)

    def put(self, window: Window) -> bool:
        """Add a window; False when the queue is closed."""
        with self._changed:
            while len(self._items) >= self._size and not self._closed:
                if self._drop:
                    self._items.popleft()
                    self.dropped += 1
                else:
                    self._changed.wait()
            if self._closed:
                return False
            self._items.append(window)
            self._changed.notify_all()
            return True

    def get(self, seconds: float | None = None) -> Window | None:
        """The oldest window; None when there is none for so long, or never again (`over`).

        Args:
            seconds: How long to wait for one; None for ever.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._closed, seconds)
            if not self._items:
                return None
            window = self._items.popleft()
            self._changed.notify_all()
            return window

    @property
    def over(self) -> bool:
        """Whether it is closed and empty."""
        with self._changed:
            return self._closed and not self._items

    def close(self, *, discard: bool = False) -> None:
        """Take no more; what is held is still given, unless discarded."""
        with self._changed:
            self._closed = True
            if discard:
                self._items.clear()
            self._changed.notify_all()
