"""Filters that tell a state only when it differs from the one told last."""

from __future__ import annotations

from dataclasses import replace

from agent.core.records import AlarmEvent, AlarmStatus, Decision
from agent.publish.messages import settled, status_of
from agent.window.condition import SensorCondition

# The end of a shelving is reckoned from two clocks, which drift against each other, seconds.
_SAME_SECONDS = 5.0


def alarm_news(told: Decision | AlarmEvent, before: AlarmStatus | None) -> tuple[AlarmStatus, bool]:
    """The alarm after a window or event, and whether to tell it: after an event always."""
    status = status_of(told)
    event = isinstance(told, AlarmEvent)
    return status, event or before is None or not _same(before, status)


def sensor_news(
    condition: SensorCondition, before: SensorCondition | None
) -> tuple[SensorCondition, bool]:
    """The condition of a microphone, and whether it is another than before."""
    return condition, condition != before


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
