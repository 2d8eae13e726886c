"""Kinds of sound that are not the machine's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


class ForeignKind(str, Enum):
    """What else is heard."""

    SPEECH = "speech"
    MUSIC = "music"
    VEHICLE = "vehicle"
    RAIN = "rain"
    TOOLS = "tools"
    IMPULSES = "impulses"  # doors, blows, things that fall
    PASSING = "passing"  # something that comes and goes: rises and falls within seconds


_WORDS = {
    ForeignKind.SPEECH: "speech at the same time",
    ForeignKind.MUSIC: "music at the same time",
    ForeignKind.VEHICLE: "a vehicle at the same time",
    ForeignKind.RAIN: "rain at the same time",
    ForeignKind.TOOLS: "tools or compressed air at the same time",
    ForeignKind.IMPULSES: "a blow or a door at the same time",
    ForeignKind.PASSING: "something passing at the same time",
}


@dataclass(frozen=True, slots=True)
class ForeignSound:
    """A sound from elsewhere that is heard in a window.

    Attributes:
        kind: What.
        share: Of the window in which it is heard, 0 to 1.
        by: Who says so: `tagger`, `speech model`, or `spectrum`, which is the weaker one.
    """

    kind: ForeignKind
    share: float
    by: str

    @property
    def words(self) -> str:
        """For people: `speech at the same time`."""
        return _WORDS[self.kind] + (" (by its rhythm alone)" if self.by == "spectrum" else "")


def held_words(found: Sequence[ForeignSound]) -> str:
    """Why a window is held back: `held back: speech`."""
    return "held back: " + ", ".join(sound.kind.value for sound in found)
