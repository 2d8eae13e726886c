"""`session.json`: what a stretch of collected sound is, and what was thrown away of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, FiniteFloat, field_validator

from agent.core.schema import Strict, read_model, spelt
from agent.core.text import plural

SESSION = "session.json"
# A collected file as the training folder names it.
_TRAINED = re.compile(
    r"(?:.*/)?(?P<session>\d{8}T\d{6}Z-[0-9a-f]{6})-(?P<file>\d{4,6}\.flac)", re.DOTALL
)

Label: TypeAlias = Literal["healthy", "idle", "noise"]


class Segment(Strict):
    """One file: sound without a gap."""

    file: Annotated[
        str,
        Field(
            pattern=spelt(r"^\d{4,6}\.flac$", "a number of 4 to 6 digits and .flac"),
            description="Its name, beside `session.json`",
        ),
    ]
    start: Annotated[str, Field(description="First sample, ISO 8601 UTC")]
    seconds: Annotated[float, Field(gt=0, description="Length, seconds")]
    level_dbfs: Annotated[float, Field(description="RMS level, dBFS")]


class Discarded(Strict):
    """A stretch that was not kept."""

    start: Annotated[str, Field(description="First sample, ISO 8601 UTC")]
    seconds: Annotated[float, Field(ge=0, description="Length, seconds")]
    validity: Annotated[str, Field(description="silent, clipped, gap, not_finite or too_short")]
    reason: Annotated[str, Field(description="In words")]


class Session(Strict):
    """`session.json`."""

    schema_version: Literal[1] = 1
    session: Annotated[
        str,
        Field(
            pattern=spelt(r"^[0-9A-Za-z-]{1,64}$", "1 to 64 letters, digits and '-'"),
            description="Name of this session's folder",
        ),
    ]
    device: Annotated[str, Field(description="Device that recorded it")]
    machine: Annotated[str, Field(description="Machine beside the microphone")]
    label: Annotated[
        Label,
        Field(
            description="`healthy`: the machine runs in good order; `idle`: it stands still; "
            "`noise`: it is not heard at all"
        ),
    ]
    origin: Annotated[str, Field(description="Device or file it was heard from")] = ""
    by: Annotated[str, Field(description="Who asked for it, or the schedule")] = ""
    comment: Annotated[str, Field(description="What else was said")] = ""
    started: Annotated[str, Field(description="First sample, ISO 8601 UTC")]
    clock: Annotated[
        Literal["synchronised", "unsynchronised", "jumped"],
        Field(description="How far the clock that gave these times could be believed"),
    ]
    rate: Annotated[int, Field(gt=0, description="Samples a second of the files")]
    level_offset_db: Annotated[
        float,
        Field(
            description="How much louder the microphone heard than when the machine's bundle was "
            "trained, as an operator had said, dB: taken off when it joins that bundle's bank; the "
            "files are as they were heard"
        ),
    ] = 0.0
    bands_db: Annotated[
        tuple[tuple[FiniteFloat, FiniteFloat], ...],
        Field(
            description="How much louder it hears the bands beside that, [Hz, dB], for it is "
            "another one than in training: taken off as well"
        ),
    ] = ()
    asked_seconds: Annotated[float, Field(gt=0, description="Length asked for, seconds")]
    heard_seconds: Annotated[float, Field(ge=0, description="Sound heard, seconds")]
    kept_seconds: Annotated[float, Field(ge=0, description="Sound in the files, seconds")]
    complete: Annotated[bool, Field(description="Whether all that was asked for was heard")]
    ended: Annotated[str, Field(description="Why it ended early; empty when it did not")] = ""
    notes: Annotated[
        tuple[str, ...], Field(description="What to know of it: an alarm that stood meanwhile")
    ] = ()
    segments: tuple[Segment, ...] = ()
    discarded: Annotated[
        tuple[Discarded, ...], Field(description="Stretches thrown away, the first 1000")
    ] = ()

    @field_validator("segments")
    @classmethod
    def _once(cls, segments: tuple[Segment, ...]) -> tuple[Segment, ...]:
        if len({segment.file for segment in segments}) != len(segments):
            raise ValueError("a file is listed twice")
        return segments


def segment_of(source: str) -> tuple[str, str] | None:
    """The session and file that a bank's row came from; None when it was not collected.

    Args:
        source: The row's: `SESSION/FILE` when it joined here, `normal/SESSION-FILE` when a bundle
            was trained on the training folder that the page hands out.
    """
    if (taken := _TRAINED.fullmatch(source)) is not None:
        return taken["session"], taken["file"]
    session, _, name = source.partition("/")
    return (session, name) if name else None


def read_session(folder: Path) -> Session:
    """Read a session's record.

    Raises:
        AuscultError: It is missing, damaged, or not what this version writes.
    """
    return read_model(folder / SESSION, Session, remedy="It is damaged: collect again.")


def summary(session: Session) -> str:
    """What became of a session, in words.

    Args:
        session: A finished one.
    """
    text = (
        f"{session.kept_seconds:.0f} of {session.heard_seconds:.0f} s kept "
        f"in {plural(len(session.segments), 'file')}"
    )
    reasons: dict[str, float] = {}
    for stretch in session.discarded:
        reasons[stretch.validity] = reasons.get(stretch.validity, 0.0) + stretch.seconds
    if reasons:
        thrown = ", ".join(f"{seconds:.0f} s {name}" for name, seconds in sorted(reasons.items()))
        text += f"; thrown away: {thrown} ({session.discarded[0].reason})"
    if session.ended:
        text += f"; ended early: {session.ended}"
    return "; ".join((text, *session.notes))
