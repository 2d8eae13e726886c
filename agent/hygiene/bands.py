"""Does an encoder hear where a resampler or codec cut the recordings off?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from agent.bundle.facts import ConditionsInfo


class Hears(Protocol):
    """A view of the sound that says up to which frequency it hears."""

    @property
    def high_hz(self) -> float | None:
        """Highest frequency, Hz; None when not known."""


# What resamplers to an encoder's rate shape themselves, as a share of its band.
_SHAPED = 0.9


def band_note(conditions: ConditionsInfo, encoder_rate: int, views: Sequence[Hears]) -> str:
    """What to say where an encoder's highest band lies beyond the recordings' bandwidth.

    Args:
        conditions: Of the recordings that were learnt from.
        encoder_rate: Rate at which the encoder hears, Hz.
        views: Its views; an encoder without any hears up to half its rate.

    Returns:
        A sentence; empty where all that it hears is there, or nothing was measured.
    """
    if conditions.bandwidth_range_hz is None:
        return ""
    tops = [view.high_hz or encoder_rate / 2 for view in views] or [encoder_rate / 2]
    top = max(tops)
    lowest = conditions.bandwidth_range_hz[0]
    if lowest >= min(top, _SHAPED * encoder_rate / 2):
        return ""
    return (
        f"the encoder hears up to {top / 1000:.3g} kHz, and recordings hold sound up to "
        f"{lowest / 1000:.3g} kHz only: the edge that their resampler, codec or microphone leaves "
        "is learnt as the machine's, and the same machine recorded otherwise is anomalous. Record "
        "training, test and use by one chain, or take a preset that hears less"
    )
