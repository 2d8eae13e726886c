"""What tells sounds from elsewhere: the `foreign` section of a machine."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, FiniteFloat

from agent.core.paths import FilePath
from agent.core.schema import Strict


class ForeignConfig(Strict):
    """How sounds from elsewhere are told; without any file by level, rhythm and impulses alone."""

    tagger: Annotated[
        FilePath | None,
        Field(
            description="Small tagging network (ONNX, made by `auscult convert-tagger` of YAMNet) "
            "that is asked when a window exceeds: speech, music, vehicle, rain, tools, impulses"
        ),
    ] = None
    speech: Annotated[
        FilePath | None,
        Field(
            description="Speech detector (`silero_vad.onnx`, version 4) that is asked when a "
            "window exceeds"
        ),
    ] = None
    sure: Annotated[
        FiniteFloat,
        Field(
            gt=0,
            lt=1,
            description="Probability from which either is believed; more where the healthy machine "
            "itself sounds like it",
        ),
    ] = 0.4
