"""The command that asks why there was no alarm."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from agent.config.decide import DecideConfig
from agent.history.recorder import HistoryRecorder
from agent.history.why import why_of
from agent.request.commands import Handler


def why_handler(history: HistoryRecorder, decide: Mapping[str, DecideConfig]) -> Handler:
    """Who carries it out; the answer is `agent.history.why.Reason`, field by field.

    Args:
        history: What was told.
        decide: By machine, when its alarm is raised.
    """

    def why(fields: Mapping[str, Any]) -> Mapping[str, Any]:
        name = fields["machine"]
        end = time.time() if fields["end"] is None else fields["end"]
        found = history.ask(why_of, name, fields["begin"], end, decide[name])
        # The rest in text: an answer over MQTT has a bound.
        return asdict(found) | {
            "events": list(found.events[-50:]),
            "invalid": list(found.invalid),
            "held": list(found.held),
        }

    return why
