"""`evidence.json`: what was judged when an alarm was raised, and by what."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, FiniteFloat

from agent.core.errors import AuscultError
from agent.core.reasons import Explanation
from agent.core.scale import Scale, scale_of
from agent.core.schema import Strict, read_model
from agent.explain.unusual import MARKED_FROM

RECORD = "evidence.json"
SOUND = "sound.flac"
PICTURE = "spectrogram.png"
FEEDBACK = "feedback.json"
SEEN = "acknowledged"  # empty: an operator has acknowledged the alarm
# Folders of windows that a person answered; an alarm's id is hexadecimal.
WINDOW_PREFIX = "window-"

# An alarm's id becomes a folder's name, and may come from outside with a command.
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_DAMAGED = "It is damaged: remove the alarm's folder."


class JudgedWindow(Strict):
    """One window that the sound holds."""

    start: Annotated[float, Field(description="Its first sample in `sound.flac`, seconds")]
    seconds: Annotated[float, Field(gt=0, description="Length, seconds")]
    time: Annotated[str, Field(description="Its first sample by the clock, ISO 8601 UTC")]
    validity: Annotated[str, Field(description="`valid`, or why it could not be judged")]
    score: Annotated[float | None, Field(description="Anomaly score, raw; null when invalid")]
    exceeded: Annotated[bool, Field(description="Whether that was above the threshold")]
    whole: Annotated[
        bool, Field(description="Whether `sound.flac` holds all of it, with no sound lost inside")
    ]
    neighbour: Annotated[
        str, Field(description="Healthy recording it was nearest to; empty when invalid")
    ] = ""
    neighbour_start: Annotated[
        float | None, Field(description="Where in that recording, seconds")
    ] = None


class LostSound(Strict):
    """Sound missing inside `sound.flac`."""

    at: Annotated[float, Field(ge=0, description="Where, seconds")]
    seconds: Annotated[float, Field(ge=0, description="How much")]


class RemovedSpeech(Strict):
    """Speech that was blurred or dropped in `sound.flac`."""

    at: Annotated[float, Field(ge=0, description="Where, seconds")]
    seconds: Annotated[float, Field(ge=0, description="How much")]


class UnusualCells(Strict):
    """When and where the window that raised the alarm is unusual."""

    of: Annotated[
        Literal["levels", "patches"],
        Field(description="What is compared: levels of bands, or the encoder's patches"),
    ] = "levels"
    start: Annotated[float, Field(description="First cell's start in `sound.flac`, seconds")]
    cell_seconds: Annotated[float, Field(gt=0, description="Length of a cell, seconds")]
    edges_hz: Annotated[
        tuple[float, ...], Field(description="Edges of the bands, Hz; one more than there are")
    ]
    deviations: Annotated[
        tuple[tuple[float, ...], ...],
        Field(
            description="A list a cell with a number a band, in healthy standard deviations: "
            "level less its healthy mean, or distance to the nearest healthy patch likewise"
        ),
    ]
    marked_from: Annotated[
        float, Field(gt=0, description="Deviations from which on a cell is framed in the picture")
    ] = MARKED_FROM


class EvidenceRecord(Strict):
    """`evidence.json`."""

    schema_version: Literal[1] = 1
    alarm_id: Annotated[str, Field(description="The alarm")]
    device: Annotated[str, Field(description="Device that raised it")]
    machine: Annotated[str, Field(description="Machine it was raised for")]
    raised: Annotated[str, Field(description="When, ISO 8601 UTC")]
    raised_at: Annotated[float, Field(description="The same moment in `sound.flac`, seconds")]
    cleared: Annotated[
        str | None, Field(description="When it was cleared, if while sound was kept; else null")
    ] = None
    complete: Annotated[
        bool,
        Field(description="False while more sound may be added, or when the agent was cut off"),
    ]
    asked: Annotated[
        bool,
        Field(description="Kept because a person answered this one window, not for an alarm"),
    ] = False
    threshold: Annotated[float, Field(description="Raw score above which a window counted")]
    score: Annotated[float | None, Field(description="Raw score of the window that raised it")]
    scale: Annotated[
        Scale | None,
        Field(
            description="What raw scores are told on: (raw - median) / (threshold - median); zone "
            "A up to `usual`, D from `severe` on; null of an alarm kept by an older version"
        ),
    ] = None
    level_offset_db: Annotated[
        float,
        Field(
            description="Taken off the sound before it was judged, dB, because an operator had "
            "said that the microphone was moved; `sound.flac` is as it was heard"
        ),
    ] = 0.0
    bands_db: Annotated[
        tuple[tuple[FiniteFloat, FiniteFloat], ...],
        Field(
            description="Taken off its bands beside that, [Hz, dB], because another microphone "
            "than that of training hung there"
        ),
    ] = ()
    sound_start: Annotated[str, Field(description="First sample of `sound.flac`, ISO 8601 UTC")]
    rate: Annotated[int, Field(gt=0, description="Samples a second of `sound.flac`")]
    seconds: Annotated[float, Field(ge=0, description="Length of `sound.flac`")]
    lost: Annotated[tuple[LostSound, ...], Field(description="Sound that was lost inside it")] = ()
    sound: Annotated[
        Literal["kept", "none"],
        Field(description="`none`: by configuration there is no `sound.flac`"),
    ] = "kept"
    speech: Annotated[
        tuple[RemovedSpeech, ...],
        Field(description="Where speech was blurred or dropped in it, as the configuration asks"),
    ] = ()
    speech_by: Annotated[
        Literal["", "detector", "rhythm"],
        Field(description="What looked for speech; empty when nothing did"),
    ] = ""
    windows: Annotated[tuple[JudgedWindow, ...], Field(description="In order of time")] = ()
    explanation: Annotated[
        Explanation | None,
        Field(
            description="Why the window that raised it was judged so: in words, bands in Hz and "
            "dB, nearest healthy windows; null when not known"
        ),
    ] = None
    unusual: Annotated[
        UnusualCells | None,
        Field(description="The same by time and frequency; null without a healthy spectrum"),
    ] = None

    @property
    def told_on(self) -> Scale:
        """What its scores are told on, also where it was kept without."""
        return self.scale or scale_of(self.threshold, None)


class Feedback(Strict):
    """`feedback.json`: what a person said of an alarm."""

    verdict: Annotated[
        Literal["normal", "anomalous"],
        Field(description="`normal`: the machine was well, its sound may join the bank"),
    ]
    time: Annotated[str, Field(description="When it was said, ISO 8601 UTC")]
    by: Annotated[str, Field(max_length=200, description="Who said it")] = ""
    comment: Annotated[str, Field(max_length=2000, description="What else was said")] = ""
    accepted: Annotated[
        str | None, Field(description="Bank version its windows joined; null while pending")
    ] = None


def alarm_folder(root: Path, machine: str, alarm_id: str) -> Path:
    """Where an alarm's evidence is kept.

    Args:
        root: `evidence/` in the state directory.
        machine: The machine's name, as the configuration allows.
        alarm_id: The alarm.

    Raises:
        AuscultError: The id could not be an alarm's (and might lead out of the folder).
    """
    if not _ID.fullmatch(alarm_id):
        raise AuscultError(
            f"'{alarm_id[:70]}' is not the id of an alarm",
            remedy="Copy `alarm_id` from the alarm's message.",
        )
    return root / machine / alarm_id


def alarm_folders(root: Path) -> list[Path]:
    """Folders of a machine's evidence that hold a record, by name.

    Args:
        root: The machine's evidence, which need not exist.
    """
    found = sorted(root.iterdir()) if root.is_dir() else []
    return [folder for folder in found if (folder / RECORD).is_file()]


def read_record(folder: Path) -> EvidenceRecord:
    """Read an alarm's `evidence.json`.

    Raises:
        AuscultError: It is missing, damaged, or not what this version writes.
    """
    place = folder / RECORD
    if not place.exists():
        raise AuscultError(
            "there is no evidence of this alarm",
            where=folder,
            remedy="Was it kept (`evidence` in agent.yaml), or is it older than what is kept?",
        )
    return read_model(place, EvidenceRecord, remedy=_DAMAGED)


def read_feedback(folder: Path) -> Feedback | None:
    """Read what was said of an alarm; None when nothing was.

    Raises:
        AuscultError: It is damaged.
    """
    place = folder / FEEDBACK
    return read_model(place, Feedback, remedy=_DAMAGED) if place.exists() else None
