"""A change of level that explains why a window is strange."""

from __future__ import annotations

from dataclasses import dataclass

#: What is taken off bands of frequency, (Hz, dB); between the points in proportion to frequency.
Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class LevelChange:
    """Healthy sound at another level: what a window would be without the change.

    Attributes:
        decibels: How much louder it is heard than healthy sound, dB; negative when quieter.
        value: Its raw score with that undone, at most the threshold.
        passing: The level changed within the window, or on the way back.
    """

    decibels: float
    value: float
    passing: bool = False
