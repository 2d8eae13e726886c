"""The `commission` command, from MQTT and from the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from agent.commission.shadow import Commission
from agent.config.agent import AgentConfig
from agent.core.clock import utc
from agent.core.errors import AuscultError
from agent.request.commands import Handler


def commissions_of(
    config: AgentConfig, tell: Callable[[str, str, str], None]
) -> dict[str, Commission]:
    """By name, the commissioning of every machine that asks for it.

    Args:
        config: The agent's.
        tell: Takes a machine, `shadow` or `live`, and words.
    """
    return {
        one.name: Commission(one.name, one.commission, config.state_path, partial(tell, one.name))
        for one in config.machines
        if one.commission is not None
    }


def commission_handler(commissions: Mapping[str, Commission], feedback: Handler) -> Handler:
    """Carries the command out.

    Args:
        commissions: By machine.
        feedback: Answers one alarm.
    """

    def handle(fields: Mapping[str, Any]) -> Mapping[str, Any]:
        machine, action = str(fields["machine"]), fields["action"]
        commission = commissions.get(machine)
        if commission is None:
            raise AuscultError(
                f"{machine} is not commissioned",
                remedy="Give it a section `commission` (`commission: {}`), and restart the agent.",
            )
        if action == "answer":
            _answer(commission, fields, feedback)
        elif action in {"live", "again"}:
            commission.ask(action, str(fields.get("operator") or "somebody"))
        return _standing(commission)

    return handle


def _answer(commission: Commission, fields: Mapping[str, Any], feedback: Handler) -> None:
    """Give every would-be alarm that is not answered the same answer."""

    def kept(alarm_id: str) -> bool:
        try:
            feedback({**fields, "alarm_id": alarm_id})
        except AuscultError:
            return False  # no sound of it is kept any more
        return True

    waiting = [one.alarm.alarm_id for one in commission.said() if one.answer == "open"]
    if waiting and not sum([kept(alarm_id) for alarm_id in waiting]):
        raise AuscultError(
            "no sound is kept of any of them, so none can be answered",
            remedy="Set `evidence.enabled`, or keep more of it.",
        )


def _standing(commission: Commission) -> Mapping[str, Any]:
    return {
        "listening": commission.listening,
        "heard_hours": round(commission.heard_seconds / 3600.0, 3),
        "running_hours": commission.config.running_hours,
        "text": commission.words(),
        "alarms": [
            {
                "alarm_id": one.alarm.alarm_id,
                "time": utc(one.alarm.wall),
                "score": one.alarm.score,
                "answer": one.answer,
            }
            for one in commission.said()
        ],
    }
