"""How a machine is commissioned: the `commission` section of a machine."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, FiniteFloat

from agent.core.schema import Strict


class CommissionConfig(Strict):
    """A bundle that is new to its place listens in shadow first: what would be alarms is listed."""

    running_hours: Annotated[
        FiniteFloat,
        Field(gt=0, le=8760, description="Running sound to be judged before it goes live, hours"),
    ] = 48.0
    go_live: Annotated[
        Literal["auto", "click"],
        Field(
            description="auto: it goes live by itself after that time; click: when somebody says "
            "so (page, `auscult commission --live`, or the `commission` command)"
        ),
    ] = "auto"
    threshold: Annotated[
        Literal["place", "bundle"],
        Field(
            description="place: the alarm's threshold is found anew from the sound heard here, "
            "where enough was; bundle: the bundle's own stays. One given in `decide` goes before"
        ),
    ] = "place"
    microphone: Annotated[
        Literal["equalise", "as_is"],
        Field(
            description="equalise: where another microphone or filter hangs here than in training, "
            "what it does to level and bands is learnt from the first ten minutes of running and "
            "taken off, and bands it does not hear are left out of the scores; as_is: nothing is"
        ),
    ] = "equalise"
    strong: Annotated[
        FiniteFloat,
        Field(
            gt=1,
            description="Score, 1 being the threshold, above which a lasting fault is told as a "
            "warning (alert) all the same",
        ),
    ] = 2.0
    strong_seconds: Annotated[
        FiniteFloat, Field(gt=0, description="Seconds of running sound above it that are lasting")
    ] = 300.0
