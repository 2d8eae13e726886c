"""Where the plant says whether a machine runs: the section `running` of a machine."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, FiniteFloat, model_validator

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
    up_to: Annotated[
        FiniteFloat | None,
        Field(
            description="Of a number: ...and not above this, so that a speed picks the state that "
            "this entry's bundle has learnt; a second entry with the same `source` judges the "
            "next state. While nothing is known of the speed, nothing is judged; null for no limit"
        ),
    ] = None
    stale_seconds: Annotated[
        FiniteFloat | None,
        Field(
            gt=0,
            description="What was said longer ago is not believed any more, and told: the sound "
            "decides again, as it does before the first word; null believes it for ever, for "
            "gateways that send changes alone",
        ),
    ] = 600.0

    @model_validator(mode="after")
    def _a_range(self) -> RunningConfig:
        if self.up_to is not None and self.up_to <= self.above:
            raise ValueError(f"up_to ({self.up_to:g}) must lie over above ({self.above:g})")
        return self
