"""What the hygiene stage found and decided, as `run.json` and `inspect --json` keep it."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from agent.bundle.facts import ConditionsInfo
from agent.core.schema import Strict

Untypical: TypeAlias = Literal["refuse", "leave-out", "keep"]


class UntypicalRecord(Strict):
    """A healthy recording that is unlike all others."""

    path: Annotated[str, Field(description="File, relative to the data folder")]
    start: Annotated[float, Field(ge=0, description="Where its strangest stretch begins, seconds")]
    distance: Annotated[
        float, Field(description="Distance of its spectra to the nearest other, in usual spreads")
    ]
    times: Annotated[
        float,
        Field(description="How many times as far above the middle as the farthest of the others"),
    ]


class NoteRecord(Strict):
    """Something to know of the recordings."""

    kind: Annotated[
        str,
        Field(
            description="name, header, rate, bandwidth, codec, channels, level, offset, "
            "duplicates, untypical, promise, session, attributes or test"
        ),
    ]
    serious: Annotated[
        bool, Field(description="Whether results would mislead unless it is mended")
    ] = False
    text: Annotated[str, Field(description="What, in words")]


class HygieneRecord(Strict):
    """The whole stage."""

    conditions: Annotated[
        ConditionsInfo, Field(description="How the recordings were made that are learnt from")
    ]
    untypical: Annotated[
        tuple[UntypicalRecord, ...],
        Field(description="Healthy recordings unlike all others, the most untypical first"),
    ] = ()
    decision: Annotated[
        Untypical, Field(description="What was asked to be done with those past the bound")
    ] = "refuse"
    duplicates: Annotated[
        dict[str, str], Field(description="Recordings left out as the same sound as another one")
    ] = {}
    notes: Annotated[tuple[NoteRecord, ...], Field(description="What a person should know")] = ()
