"""What a machine's microphone hears otherwise than that of training: its level, and its bands.

A microphone that was moved, or whose gain was changed, hears the same machine louder or quieter. An
operator says so, and from then on that many dB are taken off whatever is heard before it is judged.
Another microphone, or a filter, hears each band otherwise: where somebody says so, or at
commissioning, that is learnt and taken off as well. All of it is kept with the agent's state, never
in the bundle, and can be taken back. It belongs to the exported bundle it was taken with: one that
was trained anew has learnt the level as it is.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Annotated

from pydantic import Field, FiniteFloat, model_validator

from agent.bundle.manifest import Manifest
from agent.core.errors import AuscultError
from agent.core.level_change import Points
from agent.core.schema import Strict
from agent.core.state_file import StateFile

# More than any microphone's gain has room for.
MOST_DB = 80.0
# Answers remembered, the undone ones among them.
_KEPT = 50


class BandShape(Strict):
    """What another microphone does to the bands of frequency, beside its level."""

    hertz: Annotated[
        tuple[FiniteFloat, ...],
        Field(min_length=2, max_length=1000, description="Edges of the bands, Hz, rising"),
    ]
    decibels: Annotated[
        tuple[FiniteFloat, ...], Field(description="How much louder it hears each band, dB")
    ]
    missing: Annotated[
        tuple[bool, ...],
        Field(description="Bands of which it hears too little to be compared: left out of scores"),
    ]

    @model_validator(mode="after")
    def _one_a_band(self) -> BandShape:
        if not len(self.decibels) == len(self.missing) == len(self.hertz) - 1:
            raise ValueError("give one of decibels and missing for each band between the edges")
        if any(high <= low for low, high in pairwise(self.hertz)):
            raise ValueError("hertz must rise")
        return self

    @property
    def points(self) -> Points:
        """The bands' middles with what is taken off there."""
        middles = [(low + high) / 2 for low, high in pairwise(self.hertz)]
        return tuple(zip(middles, self.decibels, strict=True))


class LevelBaseline(Strict):
    """An operator's word that the microphone's level has changed."""

    decibels: Annotated[
        FiniteFloat,
        Field(ge=-MOST_DB, le=MOST_DB, description="Taken off whatever is heard from then on, dB"),
    ]
    operator: Annotated[str, Field(min_length=1, max_length=200, description="Who said so")]
    comment: Annotated[str, Field(max_length=1000, description="What else they said")] = ""
    time: Annotated[str, Field(description="When, ISO 8601 UTC")]
    origin: Annotated[
        str, Field(description="`digest` of the exported bundle that it is taken against")
    ]
    bands: Annotated[
        BandShape | None,
        Field(description="Taken off the bands beside that; null of a change of level alone"),
    ] = None
    windows: Annotated[
        int, Field(ge=0, description="Windows it was estimated from; 0 when it was given")
    ] = 0
    spread_db: Annotated[
        float, Field(ge=0, description="Median absolute deviation of their estimates, dB")
    ] = 0.0
    undone: Annotated[
        str | None, Field(description="When it was taken back, ISO 8601 UTC; null while it holds")
    ] = None
    undone_by: Annotated[str, Field(max_length=200, description="Who took it back")] = ""


class LevelMemory(Strict):
    """`state/level/<machine>.json`: what was said of a microphone's level, the oldest first."""

    schema_version: Annotated[int, Field(ge=1, le=1, description="Schema")] = 1
    answers: tuple[LevelBaseline, ...] = ()

    def holding(self, origin: str) -> LevelBaseline | None:
        """The answer that holds for a bundle; None when there is none.

        Args:
            origin: See `origin_of`.
        """
        held = [one for one in self.answers if one.undone is None and one.origin == origin]
        return held[-1] if held else None


def origin_of(manifest: Manifest) -> str:
    """Identity of the export that a bundle is, or has grown from."""
    return manifest.digest if manifest.growth is None else manifest.growth.origin


class LevelFile:
    """What was said of one machine's level, on disk.

    Args:
        path: The file, whose folder is made when needed; None keeps it in memory alone.
    """

    def __init__(self, path: Path | None) -> None:
        self._memory = LevelMemory()
        self._file = StateFile(
            path, LevelMemory, what="the level's state", otherwise="no level is taken off"
        )

    def load(self) -> None:
        """Take up what an earlier run left; a file that cannot be used is moved aside and told."""
        self._memory = self._file.load_or_new()

    def holding(self, origin: str) -> LevelBaseline | None:
        """The answer that holds for a bundle of that origin."""
        return self._memory.holding(origin)

    @property
    def answers(self) -> tuple[LevelBaseline, ...]:
        """All that was said, the oldest first."""
        return self._memory.answers

    def add(self, answer: LevelBaseline) -> None:
        """Keep an answer; it holds from now on.

        Raises:
            AuscultError: It cannot be written: then nothing has changed.
        """
        self._write(LevelMemory(answers=(*self._memory.answers, answer)[-_KEPT:]))

    def undo(self, origin: str, time: str, operator: str) -> LevelBaseline:
        """Take the answer back that holds; the one before it holds again, if there is one.

        Args:
            origin: Of the bundle in use.
            time: Now, ISO 8601 UTC.
            operator: Who takes it back.

        Returns:
            What was taken back.

        Raises:
            AuscultError: There is none, or it cannot be written.
        """
        held = self._memory.holding(origin)
        if held is None:
            raise AuscultError(
                "no level was taken anew for this machine and bundle",
                remedy="There is nothing to take back.",
            )
        gone = held.model_copy(update={"undone": time, "undone_by": operator})
        answers = tuple(gone if one is held else one for one in self._memory.answers)
        self._write(LevelMemory(answers=answers))
        return gone

    def _write(self, memory: LevelMemory) -> None:
        self._file.write(memory)
        self._memory = memory


def level_file(state: Path, machine: str) -> Path:
    """Where a machine's answers are kept.

    Args:
        state: The state directory's folder `state`.
        machine: Its name.
    """
    return state / "level" / f"{machine}.json"
