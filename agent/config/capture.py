"""Where a machine's sound comes from: the `source` section of the configuration."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from agent.core.paths import FilePath, resolve_all
from agent.core.schema import Strict

_Channel: TypeAlias = Annotated[
    int | None, Field(ge=0, description="Channel used, from 0; null averages all")
]
_Stall: TypeAlias = Annotated[
    float, Field(gt=0, description="Without sound for so long, it is reopened, seconds")
]
_ReopenMax: TypeAlias = Annotated[
    float, Field(gt=0, description="Longest wait between attempts to reopen it, seconds")
]
_WarmUp: TypeAlias = Annotated[
    float,
    Field(
        ge=0,
        description="So long after each opening its sound is not judged (warm_up), seconds",
    ),
]


def _no_index(value: str | None) -> str | None:
    if value is not None and not value.strip():
        raise ValueError("is blank; leave it out for the default device")
    if value is not None and is_index(value):
        raise ValueError(
            "is a number that changes when devices come and go; give part of the name, "
            "`hw:CARD=ID,DEV=0` or `usb:SOCKET`, as `auscult devices` lists them"
        )
    return value


ALSA_NAME = re.compile(r"^(?:plug)?hw:(?:CARD=)?([^,]+)(?:,(?:DEV=)?(\d+))?$", re.IGNORECASE)


def is_index(device: str) -> bool:
    """Whether a text names a device by a number that changes from start to start."""
    alsa = ALSA_NAME.match(device.strip())
    return device.strip().isdigit() or (alsa is not None and alsa[1].isdigit())


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
    channel: _Channel = None


class MicrophoneSource(Strict):
    """A microphone, reopened for ever when it fails. Machines may share one, a channel each."""

    kind: Annotated[Literal["microphone"], Field(description="Listens to a microphone")] = (
        "microphone"
    )
    device: Annotated[
        str | None,
        Field(
            min_length=1,
            description="Part of its name (any case), its ALSA id (`hw:CARD=USB,DEV=0`), its "
            "card's id, or its USB socket (`usb:1-1.4`), as `auscult devices` lists them; "
            "null for the default",
        ),
        AfterValidator(_no_index),
    ] = None
    rate: Annotated[
        int | None,
        Field(gt=0, description="Rate it is opened at, Hz; null for the device's own"),
    ] = None
    channel: _Channel = None
    warm_up_seconds: _WarmUp = 2.0
    stall_seconds: _Stall = 5.0
    reopen_max_seconds: _ReopenMax = 60.0


class FfmpegSource(Strict):
    """Whatever ffmpeg can read: RTSP or HTTP streams above all. Started anew when it fails."""

    kind: Annotated[Literal["ffmpeg"], Field(description="Listens through ffmpeg")] = "ffmpeg"
    input: Annotated[
        str, Field(min_length=1, description="URL, file or device, as for ffmpeg's `-i`")
    ]
    input_options: Annotated[
        tuple[str, ...] | None,
        Field(
            description="ffmpeg's options for the input, one word each; null for none but "
            "`-rtsp_transport tcp` where the input is RTSP"
        ),
    ] = None
    executable: Annotated[str, Field(min_length=1, description="Which ffmpeg")] = "ffmpeg"
    channel: _Channel = None
    live: Annotated[
        bool,
        Field(
            description="It goes on whether or not anybody keeps up, as a stream does, and is "
            "opened again when it ends; false for what waits and may end, as a file does"
        ),
    ] = True
    warm_up_seconds: _WarmUp = 0.0
    stall_seconds: _Stall = 10.0
    reopen_max_seconds: _ReopenMax = 60.0


class PipeSource(Strict):
    """Raw PCM, interleaved, from a program's output, a named pipe or standard input."""

    kind: Annotated[Literal["pipe"], Field(description="Listens to raw PCM")] = "pipe"
    command: Annotated[
        tuple[str, ...] | None,
        Field(
            min_length=1,
            description="The program and its arguments, one item each; no shell is involved",
        ),
    ] = None
    path: Annotated[
        FilePath | Literal["-"] | None,
        Field(description="Instead of a program, a named pipe; `-` is standard input"),
    ] = None
    format: Annotated[
        Literal["s16le", "s24le", "s32le", "f32le"], Field(description="How a sample is written")
    ] = "s16le"
    rate: Annotated[int, Field(gt=0, description="Samples a second, Hz")]
    channels: Annotated[int, Field(ge=1, le=64, description="Channels in the stream")] = 1
    channel: _Channel = None
    live: Annotated[
        bool,
        Field(
            description="It goes on whether or not anybody keeps up, and is opened again when it "
            "ends; false for what waits and may end"
        ),
    ] = True
    warm_up_seconds: _WarmUp = 0.0
    stall_seconds: _Stall = 10.0
    reopen_max_seconds: _ReopenMax = 60.0

    @model_validator(mode="after")
    def _one_origin(self) -> PipeSource:
        if (self.command is None) == (self.path is None):
            raise ValueError("give either `command` or `path`")
        if self.channel is not None and self.channel >= self.channels:
            raise ValueError(f"there is no channel {self.channel} among {self.channels}")
        return self


def _short_source(value: Any) -> Any:
    """`replay:PATH`, `microphone[:NAME]` and `ffmpeg:INPUT` as the structured form."""
    if not isinstance(value, str):
        return value
    kind, _, rest = value.partition(":")
    if kind == "replay" and rest:
        return {"kind": "replay", "paths": (rest,)}
    if kind == "microphone":
        return {"kind": "microphone", "device": rest or None}
    if kind == "ffmpeg" and rest:
        return {"kind": "ffmpeg", "input": rest}
    raise ValueError("should be 'replay:PATH', 'microphone', 'microphone:NAME' or 'ffmpeg:URL'")


AnySource: TypeAlias = ReplaySource | MicrophoneSource | FfmpegSource | PipeSource
SourceConfig: TypeAlias = Annotated[
    AnySource,
    Field(discriminator="kind"),
    BeforeValidator(_short_source),
]
