"""What is taken off another microphone's sound, in words."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby, pairwise

from agent.level.baseline import BandShape, LevelBaseline

# A band is spoken of from here on, dB.
_SPOKEN_DB = 2.0


def microphone_words(answer: LevelBaseline) -> str:
    """What another microphone hears otherwise, and what is left out of the scores for it.

    Args:
        answer: With its bands.
    """
    found = [f"{abs(answer.decibels):.0f} dB {_than(answer.decibels)} in all"]
    missing: list[str] = []
    if answer.bands is not None:
        found += list(_stretches(answer.bands))
        missing = [_range(low, high) for low, high in _missing(answer.bands)]
    text = (
        "another microphone than in training is taken off, as "
        f"{answer.operator} said on {answer.time}: {', '.join(found)}"
    )
    if missing:
        text += f"; left out of scores, for it hears nothing there: {', '.join(missing)}"
    return text


def _stretches(shape: BandShape) -> Iterator[str]:
    """Neighbouring bands that differ the same way, each stretch in a few words."""
    bands = zip(pairwise(shape.hertz), shape.decibels, shape.missing, strict=True)

    def way(band: tuple[tuple[float, float], float, bool]) -> int:
        _, decibels, gone = band
        return 0 if gone or abs(decibels) < _SPOKEN_DB else (1 if decibels > 0 else -1)

    for sign, run in groupby(bands, way):
        if sign:
            some = list(run)
            values = [decibels for _, decibels, _ in some]
            most = max(values) if sign > 0 else min(values)
            yield f"{_range(some[0][0][0], some[-1][0][1])} up to {abs(most):.0f} dB {_than(sign)}"


def _missing(shape: BandShape) -> Iterator[tuple[float, float]]:
    bands = zip(pairwise(shape.hertz), shape.missing, strict=True)
    for gone, run in groupby(bands, lambda band: band[1]):
        if gone:
            some = [edges for edges, _ in run]
            yield some[0][0], some[-1][1]


def _than(decibels: float) -> str:
    return "louder" if decibels > 0 else "quieter"


def _range(low: float, high: float) -> str:
    return f"{_hertz(low)} to {_hertz(high)}"


def _hertz(value: float) -> str:
    return f"{value / 1000:.2g} kHz" if value >= 1000 else f"{value:.0f} Hz"
