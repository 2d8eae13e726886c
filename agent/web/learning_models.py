"""What the page's API tells of a bundle that is being learnt on the device."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from agent.core.schema import Strict


class LearnOrder(Strict):
    """What is to be learnt from."""

    untypical: Annotated[
        Literal["refuse", "leave-out", "keep"],
        Field(
            description="Healthy recordings unlike all others: refuse to learn, leave them out, or "
            "learn from them but let none set the threshold"
        ),
    ] = "refuse"


class Learning(Strict):
    """How far it is."""

    machine: Annotated[str, Field(description="The machine")]
    state: Annotated[
        Literal["never", "running", "done", "failed"],
        Field(description="never: nothing was learnt here since the agent's start"),
    ] = "never"
    step: Annotated[str, Field(description="What is being done, in words")] = ""
    done: Annotated[float, Field(ge=0, description="How much of that step is done")] = 0.0
    of: Annotated[float | None, Field(ge=0, description="Of how much; null when not known")] = None
    text: Annotated[
        str, Field(description="The verdict when it is done; why it failed when it has")
    ] = ""
    notes: Annotated[
        list[str], Field(description="What else to know of the bundle that was learnt")
    ] = []
    commissioned: Annotated[
        bool,
        Field(description="Whether the bundle listens in shadow first, as the configuration says"),
    ] = False
