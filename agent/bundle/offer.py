"""A bundle offered to a device over MQTT, and what the device says of it: messages and signature.

An offer is retained on `<prefix>/<device>/<machine>/offer`. It names content by digest and no
address: where content is fetched from is the device's own setting. It is signed by the site's key,
over these very bytes, so that nobody else has a device go back to an old bundle.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from agent.core.fields import Count, Device, Machine, Time
from agent.core.schema import Strict, spelt

#: What is signed as an offer can be taken for nothing else.
CONTEXT = b"auscult bundle offer v1\0"
#: Last levels of the topics.
OFFER, OFFERED = "offer", "offered"
MOST_BYTES = 16_384
#: `reason` of an offer of what is in use already, grown or not.
IN_USE = "it was in use already"

_SHA256 = spelt(r"^[0-9a-f]{64}$", "64 of the characters 0 to 9 and a to f")
_Sha256 = Annotated[str, Field(pattern=_SHA256)]


class BundleOffer(Strict):
    """What is offered."""

    sequence: Annotated[
        int,
        Field(
            ge=1,
            description="Counts a site's offers up (milliseconds since 1970): one below the latest "
            "that a machine acted on is old, and not looked at",
        ),
    ]
    device: Annotated[str, Field(description="For this device")]
    machine: Annotated[str, Field(description="And this machine of it")]
    digest: Annotated[_Sha256, Field(description="`manifest_sha256` of the bundle")]
    manifest: Annotated[_Sha256, Field(description="SHA-256 of the bytes of its manifest.json")]
    signature: Annotated[_Sha256, Field(description="SHA-256 of the bytes of its manifest.sig")]
    downgrade: Annotated[
        bool,
        Field(
            description="Also where the bundle is older than what runs; takes effect where the "
            "device's `offers.allow_downgrade` is true"
        ),
    ] = False
    reason: Annotated[
        str, Field(max_length=200, description="Why it is offered; told with the event")
    ] = ""


class SignedOffer(Strict):
    """The payload of an offer (`<machine>/offer`); an empty one takes an offer back."""

    offer: Annotated[str, Field(max_length=MOST_BYTES, description="A `BundleOffer` as JSON text")]
    key: Annotated[
        str,
        Field(
            pattern=spelt(r"^[0-9a-f]{16}$", "16 of the characters 0 to 9 and a to f"),
            description="First 16 hex digits of the public key's SHA-256",
        ),
    ]
    signature: Annotated[
        str,
        Field(
            max_length=128,
            description="Ed25519 over `auscult bundle offer v1`, a NUL and the text, in base64",
        ),
    ]


class OfferState(Strict):
    """What became of the latest offer of a machine (`<machine>/offered`)."""

    device: Device
    machine: Machine
    time: Annotated[Time, Field(description="Since when")]
    sequence: Annotated[Count, Field(description="Of the offer; 0 before any")]
    digest: Annotated[str, Field(description="`manifest_sha256` of the bundle offered")]
    state: Annotated[
        Literal["none", "fetching", "waiting", "taken", "refused"],
        Field(
            description="none: no offer yet; fetching: content is fetched; waiting: it cannot be "
            "fetched now and is tried again; taken: the machine is judged with it; refused: it "
            "will not be taken"
        ),
    ]
    reason: Annotated[str, Field(description="Why it waits or was refused; else empty")]
    bytes: Annotated[Count, Field(description="Length of the bundle; 0 when not known yet")]
    fetched_bytes: Annotated[Count, Field(description="Of it so many were fetched")]
    reused_bytes: Annotated[
        Count,
        Field(description="And so many were on the device already, in any of its bundles"),
    ]
