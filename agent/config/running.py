"""Where the plant says whether a machine runs: the section `running` of a machine."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, FiniteFloat

from agent.core.schema import Strict, spelt


class RunningConfig(Strict):
    """Where the plant says whether the machine runs."""

    topic: Annotated[
        str,
        Field(
            min_length=1,
            max_length=1000,
            pattern=spelt(r"^[^+#\x00-\x1f]+$", "a topic without the wildcards + and #"),
            description="MQTT topic of the agent's own broker: a bit (true, on, 1, running...), a "
            "number such as a speed, or a JSON object that has one",
        ),
    ]
    field: Annotated[
        str,
        Field(description="Of a JSON object, the member that is meant: `speed`, or `data.speed`"),
    ] = ""
    above: Annotated[
        FiniteFloat, Field(description="Of a number: the machine runs when it is above this")
    ] = 0.0
    stale_seconds: Annotated[
        FiniteFloat | None,
        Field(
            gt=0,
            description="What was said longer ago is not believed any more, and told: the sound "
            "decides again, as it does before the first word; null believes it for ever, for "
            "gateways that send changes alone",
        ),
    ] = 600.0
