"""When a machine's alarm is raised and cleared: the `decide` section of the configuration."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, FiniteFloat, model_validator

from agent.schema import Strict


class DecideConfig(Strict):
    """How windows raise and clear the machine's alarm."""

    threshold: Annotated[
        FiniteFloat | None,
        Field(description="A window scoring above this is anomalous; null for the bundle's own"),
    ] = None
    raise_windows: Annotated[
        int, Field(ge=1, description="Anomalous windows that raise the alarm...")
    ] = 3
    of_windows: Annotated[
        int, Field(ge=1, description="...among so many of the latest valid ones")
    ] = 5
    clear_windows: Annotated[
        int, Field(ge=1, description="Valid windows in a row, all low enough, that clear it")
    ] = 10
    hysteresis: Annotated[
        float,
        Field(
            ge=0,
            lt=1,
            description="To clear, a score must be below the threshold by this share of its size",
        ),
    ] = 0.0

    @model_validator(mode="after")
    def _possible(self) -> DecideConfig:
        if self.raise_windows > self.of_windows:
            raise ValueError(
                f"raise_windows ({self.raise_windows}) cannot be more than "
                f"of_windows ({self.of_windows})"
            )
        return self
