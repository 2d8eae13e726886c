"""The commands that concern an alarm: acknowledge, shelve, mute."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from agent.core.records import AlarmStatus
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
        status = alarm.acknowledge(
            alarm_id=fields["alarm_id"] or "",
            operator=fields["operator"],
            note=fields["comment"],
        )
        acknowledged(fields["machine"], seen)
        return _result(status)

    def shelve(fields: Mapping[str, Any]) -> Mapping[str, Any]:
        return _result(
            alarm_of(fields["machine"]).shelve(
                fields["seconds"], operator=fields["operator"], note=fields["comment"]
            )
        )

    def mute(fields: Mapping[str, Any]) -> Mapping[str, Any]:
        return _result(
            alarm_of(fields["machine"]).mute(
                fields["seconds"], operator=fields["operator"], note=fields["comment"]
            )
        )

    return {"ack": ack, "shelve": shelve, "mute": mute}


def _result(status: AlarmStatus) -> Mapping[str, Any]:
    return standing(status)
