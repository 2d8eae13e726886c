"""The range of levels in which a window is fit to be judged."""

from __future__ import annotations

from dataclasses import dataclass

from agent.core.records import Validity

# How far beyond the training's levels (1st to 99th percentile of its windows) a window may be, dB.
# The same microphone at the same place and gain stays within a few dB. A gain set wrong, a wrong
# input or a microphone that fell off is tens of dB away. A machine that breaks gets louder, seldom
# by 20 dB over a whole window, so more is allowed upwards: its alarm must not be taken for a fault
# of the microphone.
QUIETER_DB = 20.0


LOUDER_DB = 30.0


@dataclass(frozen=True, slots=True)
class LevelRange:
    """Levels at which a window may be judged.

    Attributes:
        trained: Lowest and highest level of the training, dBFS RMS (`trained_on.level_dbfs`).
        quieter: How far below the lowest is allowed, dB; infinite for no limit.
        louder: How far above the highest, dB.
    """

    trained: tuple[float, float]
    quieter: float = QUIETER_DB
    louder: float = LOUDER_DB

    def too_quiet(self, level: float) -> bool:
        """Whether a level, dBFS RMS, is far below any at which the machine ran."""
        return level < self.trained[0] - self.quieter

    def judge(self, level: float) -> tuple[Validity, str]:
        """Whether sound of a level, dBFS RMS, may be judged, and why not."""
        low, high = self.trained
        if self.too_quiet(level):
            return Validity.TOO_QUIET, (
                f"{low - level:.0f} dB quieter than any training recording: the machine stands "
                "still, or the microphone's gain is lower"
            )
        if level > high + self.louder:
            return Validity.OUT_OF_RANGE, (
                f"{level - high:.0f} dB louder than any training recording: check the microphone "
                "and its gain"
            )
        return Validity.VALID, ""
