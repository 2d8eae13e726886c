"""What is kept of an alarm, and for how long: the `evidence` section of the configuration."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from agent.core.schema import Strict

SpeechHandling: TypeAlias = Literal["keep", "blur", "drop"]


class EvidenceConfig(Strict):
    """Sound, picture and figures of each alarm, in `evidence/` below the state directory."""

    enabled: Annotated[bool, Field(description="Keep evidence of alarms")] = True
    sound: Annotated[
        Literal["keep", "none"],
        Field(
            description="`none`: scores, what stands out and the spectrogram are kept, and no "
            "sound: nobody can hear it, and what is answered `normal` cannot join the bank"
        ),
    ] = "keep"
    speech: Annotated[
        SpeechHandling,
        Field(
            description="What becomes of speech in it, found by `foreign.speech` or, weaker, by "
            "its rhythm: `blur` makes noise of the same spectrum of it, `drop` silence. Windows "
            "with any cannot join the bank"
        ),
    ] = "keep"
    before_seconds: Annotated[
        float,
        Field(
            ge=1,
            le=600,
            description="Sound kept from before the alarm, up to the end of the window that raised "
            "it, seconds; held in memory at all times (64 kB a second at 16 kHz)",
        ),
    ] = 60.0
    during_seconds: Annotated[
        float,
        Field(ge=0, le=600, description="Sound kept from then on while the alarm lasts, seconds"),
    ] = 30.0
    keep_days: Annotated[
        float,
        Field(
            gt=0,
            description="Evidence older than this is removed, days. Nothing is too old while the "
            "clock is not synchronised",
        ),
    ] = 90.0
    keep_alarms: Annotated[
        int,
        Field(
            ge=1,
            description="Alarms of a machine whose evidence is kept: of more, those that were "
            "acknowledged or answered go first, then the oldest",
        ),
    ] = 200
    keep_windows: Annotated[
        int,
        Field(
            ge=1,
            description="Windows of a machine kept because a person answered them (`feedback` with "
            "`window`), the latest; they never take an alarm's place",
        ),
    ] = 50
    disk_share: Annotated[
        float,
        Field(gt=0, le=0.5, description="Share of the disk that all evidence may take"),
    ] = 0.05
    free_share: Annotated[
        float,
        Field(
            ge=0,
            lt=1,
            description="Share of the disk that evidence and collected sound leave free; with less "
            "nothing more is written, and alarms go out without evidence",
        ),
    ] = 0.05
