"""Whether a bundle recognises its machine: what is told of it, and what it is found by."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from agent.core.fields import Count
from agent.core.schema import Strict


class Recognition(Strict):
    """Whether the bundle in use recognises the machine."""

    bundle: Annotated[str, Field(description="`manifest_sha256` of the bundle")]
    state: Annotated[
        Literal["waiting", "yes", "no", "unable"],
        Field(
            description="waiting: too little was heard with it; unable: the bundle holds too "
            "little healthy sound to tell"
        ),
    ]
    why: Annotated[str, Field(description="Why not, in words; else empty")] = ""
    heard: Annotated[Count, Field(description="Windows heard with it")] = 0
    windows: Annotated[Count, Field(description="Those of them that it judged")] = 0
    distance: Annotated[
        float | None,
        Field(
            ge=0,
            description="How far what is heard lies from what it learnt: of mean embeddings "
            "without their level, in deviations of the healthy ones; mostly below 1. null: not "
            "known",
        ),
    ] = None
    before: Annotated[
        float | None,
        Field(
            ge=0,
            description="How far the same windows lie from what the bundle before learnt; null "
            "where that had another encoder, or none was before since the agent's start",
        ),
    ] = None
