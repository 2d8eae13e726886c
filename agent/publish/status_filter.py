"""Which states are worth telling: the alarm's, when it differs from what was told last."""

from __future__ import annotations

from dataclasses import replace

from agent.core.records import AlarmStatus
from agent.publish.messages import settled

# The end of a shelving is reckoned from two clocks, which drift against each other, seconds.
_SAME_SECONDS = 5.0


class StatusFilter:
    """Remembers each machine's alarm as told last. Safe without a lock: a value a machine."""

    def __init__(self) -> None:
        self._told: dict[str, AlarmStatus] = {}

    def note(self, machine: str, status: AlarmStatus) -> bool:
        """Take a state as told; whether it was new."""
        before = self._told.get(machine)
        self._told[machine] = status
        return before is None or not _same(before, status)


def _same(one: AlarmStatus, other: AlarmStatus) -> bool:
    ends = (
        (one.shelved_until_wall, other.shelved_until_wall),
        (one.muted_until_wall, other.muted_until_wall),
    )
    for mine, theirs in ends:
        if (mine is None) != (theirs is None):
            return False
        if mine is not None and theirs is not None and abs(mine - theirs) > _SAME_SECONDS:
            return False
    return _timeless(one) == _timeless(other)


def _timeless(status: AlarmStatus) -> AlarmStatus:
    return replace(settled(status), shelved_until_wall=None, muted_until_wall=None)
