"""Where a machine's sound comes from: the `source` section of the configuration."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field

from agent.paths import resolve_all
from agent.schema import Strict


class ReplaySource(Strict):
    """Recordings played as if they were being heard."""

    kind: Annotated[Literal["replay"], Field(description="Plays recordings")] = "replay"
    paths: Annotated[
        tuple[str, ...],
        AfterValidator(resolve_all),
        Field(min_length=1, description="Files, folders or globs (`*.wav`), played in this order"),
    ]
    speed: Annotated[
        Literal["realtime", "max"],
        Field(description="As fast as it was recorded, or as fast as this device can score it"),
    ] = "realtime"
    loop: Annotated[bool, Field(description="Start again at the end, for ever")] = False
    gap_between_files: Annotated[
        bool,
        Field(description="No window spans two files; otherwise files are spliced to one stream"),
    ] = False
    channel: Annotated[
        int | None, Field(ge=0, description="Channel used, from 0; null averages all")
    ] = None


class MicrophoneSource(Strict):
    """A microphone, reopened for ever when it fails."""

    kind: Annotated[Literal["microphone"], Field(description="Listens to a microphone")] = (
        "microphone"
    )
    device: Annotated[
        str | None,
        Field(
            min_length=1,
            description="Part of the device's name (case does not matter); null for the default",
        ),
    ] = None
    rate: Annotated[
        int | None,
        Field(gt=0, description="Rate it is opened at, Hz; null for the device's own"),
    ] = None
    channel: Annotated[
        int | None, Field(ge=0, description="Channel used, from 0; null averages all")
    ] = None
    stall_seconds: Annotated[
        float, Field(gt=0, description="Without sound for so long, it is reopened, seconds")
    ] = 5.0
    reopen_max_seconds: Annotated[
        float, Field(gt=0, description="Longest wait between attempts to reopen it, seconds")
    ] = 60.0


def _short_source(value: Any) -> Any:
    """`replay:PATH` and `microphone[:NAME]` as the structured form."""
    if not isinstance(value, str):
        return value
    kind, _, rest = value.partition(":")
    if kind == "replay" and rest:
        return {"kind": "replay", "paths": (rest,)}
    if kind == "microphone":
        return {"kind": "microphone", "device": rest or None}
    raise ValueError("should be 'replay:PATH', 'microphone' or 'microphone:NAME'")


SourceConfig: TypeAlias = Annotated[
    ReplaySource | MicrophoneSource,
    Field(discriminator="kind"),
    BeforeValidator(_short_source),
]
