"""Sound recorded on the device: the `collect` section of the configuration."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, FiniteFloat

from agent.core.schema import Strict


class CollectConfig(Strict):
    """Labelled sound for the bank and the gate, in `collected/` below the state directory."""

    segment_seconds: Annotated[
        float,
        Field(
            ge=2,
            le=3600,
            description="Longest file, seconds; each counts as one recording when the threshold is "
            "calibrated",
        ),
    ] = 60.0
    rate: Annotated[
        int,
        Field(
            ge=8000,
            le=192_000,
            description="Samples a second while the machine has no bundle, whose rate is taken "
            "else, Hz; training resamples to what its encoder takes",
        ),
    ] = 32_000
    free_share: Annotated[
        float,
        Field(ge=0, lt=1, description="Share of the disk to leave free; with less it stops"),
    ] = 0.1
    keep_days: Annotated[
        FiniteFloat | None,
        Field(
            gt=0,
            description="Sessions that a bank or idle gate has taken in are removed after this, "
            "days; null never. Nothing is too old while the clock is not synchronised",
        ),
    ] = 365.0
    keep_unused_days: Annotated[
        FiniteFloat | None,
        Field(
            gt=0,
            description="Sessions that no bank has taken in are removed after this, days, or when "
            "all collected sound is too large, each with a warning; null never removes them",
        ),
    ] = None
    max_bytes: Annotated[
        int | None,
        Field(ge=1_000_000, description="What all collected sound may take, bytes; null for any"),
    ] = None
    disk_share: Annotated[
        FiniteFloat,
        Field(
            gt=0,
            le=1,
            description="Share of the disk that it may take; beyond this or `max_bytes` the oldest "
            "sessions go, those in a bank first",
        ),
    ] = 0.3
