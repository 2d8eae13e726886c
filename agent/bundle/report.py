"""The published report that a detector follows, as a preset and a manifest tell it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from agent.core.schema import Strict, spelt


class ReportInfo(Strict):
    """System of a published report, with what is otherwise here."""

    number: Annotated[
        str,
        Field(
            pattern=spelt(r"^\d{3}$", "three digits"),
            description="Report, as in docs/notes/reports.md",
        ),
    ]
    title: Annotated[str, Field(description="The report's title; filled in from its number")] = ""
    system: Annotated[str, Field(description="What the report calls the system")]
    deviations: Annotated[
        tuple[str, ...], Field(description="What is done otherwise than the report says")
    ] = ()
    chosen: Annotated[
        tuple[str, ...], Field(description="What the report does not say, and what was taken")
    ] = ()
