"""Scores at a pace that a home's database bears: at a change, else once a minute."""

from __future__ import annotations

from agent.core.cloud_event import Message

_CHANGE = 0.1
_SECONDS = 60.0


class ScoreThrottle:
    """Picks the scores worth recording, by machine."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[float, Message]] = {}

    def due(self, machine: str, score: Message, now: float) -> bool:
        """Whether a window's score is to be told; then it counts as told.

        It is when its zone differs from the one told last, when this one could be judged and that
        one could not or the other way round, when the score differs by 0.1 or more (1.0 lies
        between healthy sound and the threshold), or when a minute has passed.

        Args:
            machine: The machine.
            score: Payload of `score`.
            now: Monotonic time, seconds.
        """
        before = self._told.get(machine)
        if before is not None and now - before[0] < _SECONDS and _alike(before[1], score):
            return False
        self._told[machine] = (now, score)
        return True


def _alike(before: Message, now: Message) -> bool:
    last, score = before["score"], now["score"]
    if last is None or score is None:
        return bool(score is last)
    return bool(before["zone"] == now["zone"] and abs(score - last) < _CHANGE)
