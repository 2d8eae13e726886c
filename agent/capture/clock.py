"""When was a sample heard? Arrival times, freed of the jitter they arrive with."""

from __future__ import annotations

# Sound cards are off by up to some 200 parts per million; the estimate may follow twice as fast.
_SLEW = 4e-4
# Blocks that all arrive this much later than counting samples predicts mean that sound was lost
# without a word, seconds...
_LOST = 0.25
# ...when none of them in so many seconds came in time. One late block is only a busy processor.
_LOST_AFTER = 3.0


class ArrivalClock:
    """Time of each block's first sample, from when the block arrived.

    A block cannot arrive before its last sample was heard, only later: early arrivals are believed
    at once, late ones only slowly.

    Args:
        rate: Samples a second as counted by the sound card.
        notice_loss: Take sound that stays late for lost. Not where it comes in bursts.
    """

    def __init__(self, rate: float, *, notice_loss: bool = True) -> None:
        self._rate = rate
        self._notice_loss = notice_loss
        self._next: float | None = None  # when the next block's first sample is expected
        self._late_since: float | None = None

    def place(self, frames: int, arrived: float) -> tuple[float, bool]:
        """Place a block in time.

        Args:
            frames: Its length, samples at `rate`.
            arrived: Monotonic time at which its last sample was in hand, seconds.

        Returns:
            Monotonic time of its first sample, and whether sound was lost before it unnoticed.
        """
        seconds = frames / self._rate
        measured = arrived - seconds
        if self._next is None:
            self._next = arrived
            return measured, False
        late = measured - self._next
        lost = self._is_lost(late, arrived)
        start = measured if lost or late < 0 else self._next + min(late, _SLEW * seconds)
        self._next = start + seconds
        return start, lost

    def _is_lost(self, late: float, now: float) -> bool:
        if late < _LOST or not self._notice_loss:
            self._late_since = None
            return False
        if self._late_since is None:
            self._late_since = now
        if now - self._late_since < _LOST_AFTER:
            return False
        self._late_since = None
        return True
