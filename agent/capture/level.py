"""How loud is it? What a level meter shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agent.core.records import Matrix, Samples
from agent.window.validity import level_dbfs

_FLOOR = -80.0  # left end of the bar, dBFS
_HOT, _WARM = -1.0, -12.0


@dataclass(frozen=True, slots=True)
class Level:
    """Level of a stretch of sound.

    Attributes:
        rms: Without its constant part, dBFS; -200 for none.
        peak: Largest sample, dBFS; -200 for zeros.
    """

    rms: float
    peak: float


def measure(samples: Samples) -> Level:
    """Level of mono sound.

    Args:
        samples: float32, shape `(n,)`, `n > 0`, full scale 1.0.
    """
    peak = float(np.abs(samples).max())
    return Level(
        level_dbfs(samples),
        20 * float(np.log10(max(peak, 1e-10))),
    )


def measure_channels(frames: Matrix) -> tuple[Level, ...]:
    """Level of each channel of float32 `(n, channels)`."""
    return tuple(measure(channel) for channel in frames.T)


def bar(level: Level, width: int = 24) -> str:
    """A meter from -80 to 0 dBFS, its RMS filled and its peak marked."""
    filled = round(width * _share(level.rms))
    cells = ["█" if n < filled else "·" for n in range(width)]
    at = min(width - 1, round(width * _share(level.peak)))
    cells[at] = "▌" if at >= filled else cells[at]
    return "".join(cells)


def style(level: Level) -> str:
    """A colour: red at the converter's limit, yellow near it, dim without sound."""
    if level.peak >= _HOT:
        return "red"
    if level.peak >= _WARM:
        return "yellow"
    return "green" if level.rms > _FLOOR else "dim"


def _share(level: float) -> float:
    return min(1.0, max(0.0, 1.0 - level / _FLOOR))
