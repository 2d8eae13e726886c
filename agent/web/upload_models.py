"""What the page says of a bundle that is uploaded, field by field."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from agent.core.fields import Count
from agent.core.schema import Strict

FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,120}$")]
# Of a slice before it is written as base64: with what is around it, it fits in a request.
SLICE_BYTES = 11_264
_MOST_FILES = 200


class UploadBegin(Strict):
    """The bundle that will be sent: begins it, or goes on with what is here of the same one."""

    files: Annotated[
        dict[FileName, Count],
        Field(min_length=1, max_length=_MOST_FILES, description="Its files and their sizes, bytes"),
    ]
    manifest_crc32: Annotated[
        int, Field(ge=0, lt=1 << 32, description="CRC-32 of `manifest.json`, to know it again")
    ]


class UploadSlice(Strict):
    """A piece of one of its files."""

    file: Annotated[FileName, Field(description="Which")]
    offset: Annotated[int, Field(ge=0, description="Where the piece begins in it, bytes")]
    crc32: Annotated[int, Field(ge=0, lt=1 << 32, description="CRC-32 of the piece")]
    data: Annotated[
        str,
        Field(
            min_length=1,
            max_length=-(-SLICE_BYTES // 3) * 4,
            description=f"The piece in base64, {SLICE_BYTES} bytes at most",
        ),
    ]


class UploadUse(Strict):
    """Have what was uploaded and compared judge the machine."""

    digest: Annotated[
        str,
        Field(min_length=1, max_length=128, description="Of the bundle that was looked at"),
    ]


class Compared(Strict):
    """One thing of two bundles."""

    what: Annotated[str, Field(description="What it is")]
    now: Annotated[str, Field(description="Of the bundle that is there; empty without one")]
    new: Annotated[str, Field(description="Of the one that was uploaded")]


class Upload(Strict):
    """How far the upload of a machine's bundle is."""

    machine: Annotated[str, Field(description="The machine")]
    state: Annotated[
        Literal["none", "receiving", "checking", "checked", "refused", "used"],
        Field(description="`checked` is verified and compared, and waits for somebody to use it"),
    ] = "none"
    received: Annotated[
        dict[str, int], Field(description="Bytes that are here of each file, while receiving")
    ] = {}
    bytes: Annotated[Count, Field(description="That are here, of all files")] = 0
    of: Annotated[Count, Field(description="Bytes of all files")] = 0
    slice_bytes: Annotated[Count, Field(description="Most bytes of a slice")] = SLICE_BYTES
    limit_bytes: Annotated[Count, Field(description="Most bytes of a bundle (`web.upload_mb`)")] = 0
    digest: Annotated[str, Field(description="Of the bundle, once it is checked")] = ""
    text: Annotated[str, Field(description="Why it is refused, or what becomes of it")] = ""
    compared: Annotated[
        tuple[Compared, ...], Field(description="Beside the bundle that is there")
    ] = ()
    notes: Annotated[tuple[str, ...], Field(description="What the new one says of itself")] = ()
