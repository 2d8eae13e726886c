"""What the page's API tells of all machines at once."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from agent.core.fields import Time
from agent.core.schema import Strict


class LastEvent(Strict):
    """What happened to a machine last."""

    time: Annotated[Time, Field(description="When")]
    area: Annotated[str, Field(description="Of what: `alarm`, `drift`, `bundle`")]
    event: Annotated[str, Field(description="What happened, as events of MQTT have it")]
    operator: Annotated[str, Field(description="Who asked for it; empty when nobody did")]


class MachineDay(Strict):
    """The last day of a machine in few points, and what happened to it last."""

    begin: Annotated[int, Field(description="Start of the first point, seconds since the epoch")]
    step: Annotated[int, Field(gt=0, description="Length of a point, seconds")]
    most: Annotated[
        list[float | None],
        Field(description="Largest score of each: 1.0 is the threshold; null when none"),
    ]
    level: Annotated[list[int], Field(description="Highest level: 0 normal, 1 alert, 2 alarm")]
    last: Annotated[LastEvent | None, Field(description="Null before the first event")]


class Overview(Strict):
    """All machines of the device."""

    machines: Annotated[dict[str, MachineDay], Field(description="By name, in their order")]
