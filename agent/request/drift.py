"""The command that concerns drift: an operator accepts a change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from agent.core.clock import utc
from agent.drift.service import DriftService
from agent.request.commands import Handler


def drift_handlers(drift_of: Callable[[str], DriftService]) -> dict[str, Handler]:
    """Who carries it out, by command; the answer is the drift as it stands afterwards.

    Args:
        drift_of: A machine's drift.
    """

    def accept(fields: Mapping[str, Any]) -> Mapping[str, Any]:
        status = drift_of(fields["machine"]).accept(
            fields["operator"], fields["comment"], warning_id=fields["warning_id"] or ""
        )
        return {
            "time": utc(status.wall),
            "active": status.active,
            "distance": status.distance,
            "threshold": status.threshold,
        }

    return {"drift_accept": accept}
