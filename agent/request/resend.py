"""The command that has events sent once more: a broker acknowledged them, and lost them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.publish.outbox import Outbox
from agent.request.commands import Handler


def resend_handler(outbox: Outbox) -> Handler:
    """Who carries it out; the answer says how many were found (`events`), and which were asked for.

    Args:
        outbox: It keeps the latest thousand of what was delivered.
    """

    def resend(fields: Mapping[str, Any]) -> Mapping[str, Any]:
        first, last = fields["first"], fields["last"]
        return {"first": first, "last": last, "events": outbox.resend(first, last)}

    return resend
