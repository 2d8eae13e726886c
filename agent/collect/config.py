"""Sound recorded on the device: the `collect` section of the configuration."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from agent.schema import Strict


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
    free_share: Annotated[
        float,
        Field(ge=0, lt=1, description="Share of the disk to leave free; with less it stops"),
    ] = 0.1
