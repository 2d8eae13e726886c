"""What makes a window, and a microphone, unfit: the `validity` section of a machine."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field, FiniteFloat

from agent.core.levels import LOUDER_DB, QUIETER_DB, LevelRange
from agent.core.schema import Strict


class ConditionConfig(Strict):
    """How windows and faults of the source become the microphone's condition."""

    no_sound_seconds: Annotated[
        FiniteFloat, Field(gt=0, description="Without a window for so long it has failed, seconds")
    ] = 30.0
    failure_off_seconds: Annotated[
        FiniteFloat,
        Field(ge=0, description="Living sound that ends a failure, seconds"),
    ] = 30.0
    specification_on_seconds: Annotated[
        FiniteFloat,
        Field(ge=0, description="Clipped or far too loud for so long it is out of specification"),
    ] = 30.0
    specification_off_seconds: Annotated[
        FiniteFloat, Field(ge=0, description="Fit sound that ends that, seconds")
    ] = 60.0
    gaps_allowed: Annotated[
        int,
        Field(
            ge=1,
            description="With more gaps, overruns and reopenings than this within `gap_seconds` "
            "it needs maintenance, until they are half as many",
        ),
    ] = 10
    gap_seconds: Annotated[
        FiniteFloat, Field(gt=0, description="Time over which they are counted, seconds")
    ] = 3600.0


class ValidityConfig(Strict):
    """Which windows are judged, beside those that hold no sound, gaps or clipping."""

    quieter_db: Annotated[
        FiniteFloat | None,
        Field(
            ge=0,
            description="Sound this much quieter than training's quietest is of a machine that "
            "stands still, dB (with `decide.idle: ignore` it is not judged); null for no limit",
        ),
    ] = QUIETER_DB
    louder_db: Annotated[
        FiniteFloat | None,
        Field(
            ge=0,
            description="A window this much louder than training's loudest is invalid, dB; "
            "null for no limit",
        ),
    ] = LOUDER_DB
    condition: Annotated[
        ConditionConfig, Field(description="When the microphone is reported as unfit")
    ] = ConditionConfig()

    def levels(self, trained: tuple[float, float]) -> LevelRange:
        """The levels at which windows may be judged.

        Args:
            trained: The bundle's `trained_on.level_dbfs`.
        """
        return LevelRange(
            trained,
            quieter=math.inf if self.quieter_db is None else self.quieter_db,
            louder=math.inf if self.louder_db is None else self.louder_db,
        )
