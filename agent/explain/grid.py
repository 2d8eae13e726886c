"""Where the patches of an encoder lie in time and frequency."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PatchGrid:
    """Where an encoder's patches lie.

    Attributes:
        hertz: Edges of their rows, Hz, ascending; one more than there are rows.
        seconds: Length of a patch.
    """

    hertz: tuple[float, ...]
    seconds: float
