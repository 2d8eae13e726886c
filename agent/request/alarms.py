"""The commands that concern an alarm: acknowledge, shelve, mute."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from agent.decide.service import AlarmService
from agent.publish.messages import standing
from agent.request.commands import Handler


def alarm_handlers(
    alarm_of: Callable[[str], AlarmService],
    acknowledged: Callable[[str, str], None] = lambda _machine, _alarm_id: None,
) -> dict[str, Handler]:
    """Who carries them out, by command; each answers with the alarm as it stands afterwards.

    Args:
        alarm_of: A machine's alarm.
        acknowledged: Told of each alarm that an operator has seen: machine, alarm.
    """

    def ack(fields: Mapping[str, Any]) -> Mapping[str, Any]:
        alarm = alarm_of(fields["machine"])
        seen = fields["alarm_id"] or alarm.status.alarm_id
        status = alarm.acknowledge(alarm_id=fields["alarm_id"] or "", **_said(fields))
        acknowledged(fields["machine"], seen)
        return standing(status)

    def shelve(fields: Mapping[str, Any]) -> Mapping[str, Any]:
        return standing(alarm_of(fields["machine"]).shelve(fields["seconds"], **_said(fields)))

    def mute(fields: Mapping[str, Any]) -> Mapping[str, Any]:
        return standing(alarm_of(fields["machine"]).mute(fields["seconds"], **_said(fields)))

    return {"ack": ack, "shelve": shelve, "mute": mute}


def _said(fields: Mapping[str, Any]) -> dict[str, str]:
    return {"operator": fields["operator"], "note": fields["comment"]}
