"""What the page's API tells of a machine that is being set up: its microphone, its bundle to be."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from agent.core.schema import Strict


class Microphone(Strict):
    """An input of this device."""

    device: Annotated[
        str, Field(description="What names it for good, as a source's `device` takes it")
    ]
    name: Annotated[str, Field(description="For people")]
    usb: Annotated[str | None, Field(description="Its USB socket; null when it is in none")]
    channels: Annotated[int, Field(ge=1, description="Channels it offers")]
    rate: Annotated[float, Field(gt=0, description="Its own rate, Hz")]
    default: Annotated[bool, Field(description="Whether it is the device's default input")]


class Microphones(Strict):
    """What can be listened to."""

    microphones: Annotated[list[Microphone], Field(description="As the system lists them")]
    problem: Annotated[str, Field(description="Why there are none to choose from; else empty")]


class Listen(Strict):
    """A microphone to listen to for a moment."""

    device: Annotated[str, Field(min_length=1, max_length=300, description="As it was listed")]


class ChannelLevel(Strict):
    """How loud a channel is."""

    rms_dbfs: Annotated[float, Field(description="Level, dBFS")]
    peak_dbfs: Annotated[float, Field(description="Largest sample, dBFS")]


class Heard(Strict):
    """What a microphone hears now."""

    device: Annotated[str, Field(description="As it was asked for")]
    levels: Annotated[list[ChannelLevel], Field(description="One a channel")]


class Choice(Strict):
    """A microphone for a machine."""

    device: Annotated[str, Field(min_length=1, max_length=300, description="As it was listed")]
    channel: Annotated[
        int | None, Field(ge=0, le=255, description="Channel used, from 0; null averages all")
    ] = None


class Setup(Strict):
    """How far a machine is from being judged, and what is to be done."""

    machine: Annotated[str, Field(description="The machine")]
    missing: Annotated[
        list[Literal["microphone", "bundle"]],
        Field(description="What it lacks to be judged; empty when it is judged"),
    ]
    source: Annotated[
        str | None, Field(description="Where its sound comes from; null while nobody has said")
    ]
    device: Annotated[
        str | None, Field(description="The microphone chosen; null for none, or another source")
    ]
    channel: Annotated[int | None, Field(description="Its channel; null averages all")]
    choosable: Annotated[
        bool, Field(description="Whether it is chosen here; else the configuration says it")
    ]
    bundle: Annotated[str, Field(description="Where its bundle is, or is to be put")]
    commands: Annotated[
        list[str],
        Field(description="From the downloaded sound to the bundle in its place; HOST is to be "
              "replaced by this device's name"),
    ]  # fmt: skip
