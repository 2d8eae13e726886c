"""All that a drift monitor remembers, of constant size, and its file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from agent.core.schema import Strict, read_model
from agent.core.storage import make_parents, write_atomic
from agent.drift.baseline import (
    SCHEMA_VERSION,
    DriftError,
    MixtureRecord,
    Rows,
)

MAX_REFERENCES = 4


class Reference(Strict):
    """A state of the machine that counts as normal: the baseline, or one an operator confirmed."""

    mixture: MixtureRecord
    origin: Annotated[
        MixtureRecord | None,
        Field(description="The mixture as confirmed, which bounds adaptation; null: the baseline"),
    ] = None
    window: Annotated[int, Field(ge=0, description="Window at which it was confirmed")] = 0
    operator: Annotated[str, Field(description="Who confirmed it")] = ""
    note: Annotated[str, Field(description="Why, in the operator's words")] = ""


class Following(Strict):
    """Slow adaptation under way: the newest reference is refined by further blocks."""

    blocks: Annotated[int, Field(ge=1, description="Blocks that the reference averages so far")]
    left: Annotated[int, Field(ge=1, description="Further blocks it may still follow")]
    wait: Annotated[int, Field(ge=1, description="Windows until the next whole block")]


class MonitorState(Strict):
    """`state.json` of the drift monitor."""

    schema_version: Annotated[int, Field(ge=1, le=SCHEMA_VERSION, description="Schema")] = (
        SCHEMA_VERSION
    )
    baseline: Annotated[str, Field(description="SHA-256 of the baseline it belongs to")]
    windows: Annotated[int, Field(ge=0, description="Windows seen, unjudged ones included")] = 0
    unjudged: Annotated[int, Field(ge=0, description="Windows whose features were not finite")] = 0
    since_evaluation: Annotated[int, Field(ge=0, description="Windows since the last one")] = 0
    buffer: Annotated[Rows, Field(description="Reduced features of the last windows")] = []
    flags: Annotated[
        list[Literal[0, 1]], Field(description="Last evaluations: 1 where T was exceeded")
    ] = []
    active: Annotated[bool, Field(description="A warning stands")] = False
    since: Annotated[int | None, Field(description="Window at which it was raised")] = None
    raised: Annotated[int, Field(ge=0, description="Warnings raised so far")] = 0
    references: Annotated[
        list[Reference],
        Field(min_length=1, max_length=MAX_REFERENCES, description="Normal states, baseline first"),
    ]
    centres: Annotated[
        Rows,
        Field(
            description="What operators confirmed, for the rolling median: centres in scales from "
            "the baseline's"
        ),
    ] = []
    rows: Annotated[
        Rows,
        Field(
            description="The last windows for the rolling median, in scales from the baseline's; "
            "empty where they are not kept (an agent hears a block anew)"
        ),
    ] = []
    following: Annotated[Following | None, Field(description="Adaptation under way")] = None


def save_state(state: MonitorState, path: Path) -> None:
    """Write the file atomically.

    Raises:
        BundleError: It cannot be written.
    """
    make_parents(path)
    write_atomic(path, state.model_dump_json().encode())


def load_state(path: Path) -> MonitorState:
    """Read the file.

    Raises:
        DriftError: It is missing, or a field is wrong (which is named).
    """
    remedy = "Remove it to begin anew from the baseline; accepted changes are then forgotten."
    return read_model(path, MonitorState, error=DriftError, remedy=remedy)
