"""Moments of a sound that say nothing of the machine: dropouts, clicks of the wire, lost sound.

What differs from healthy sound there is the recording's, so it is no evidence, and nothing of it is
framed or named. A click is told from a knock by its silence: a few samples jump, and nothing rings.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from agent.core.records import Samples
from agent.explain.unusual import UnusualMap

Stretch: TypeAlias = tuple[float, float]
"""Start and end, seconds."""

# No microphone gives the same number for so long; digital silence does.
_DROPOUT_SECONDS = 0.005
# A click's samples turn so many times as sharply as usual around it, and by so much of full scale.
_SHARP, _LEAST = 30.0, 0.02
_CLICK_SECONDS = 0.002
# What rings for longer than that, so many times as loud as before it, is a knock.
_RING_SECONDS, _RINGS = 0.008, 2.0
# More often than this in a minute they are somebody's business: a relay, a broken cable.
_MOST_CLICKS = 20.0
_AROUND_SECONDS = 0.032  # half a frame of the levels: so far a fault spreads into its neighbours


def spoilt(samples: Samples, rate: int, lost: Sequence[float] = ()) -> tuple[Stretch, ...]:
    """Stretches of a sound that are the recording's and not the machine's, in order.

    Args:
        samples: float32, shape `(n,)`, full scale 1.0; what is not finite is spoilt, too.
        rate: Samples a second.
        lost: Where sound is missing, so that what does not belong together meets, seconds.
    """
    broken = ~np.isfinite(samples)
    clean = np.where(broken, np.float32(0.0), samples)
    marks = broken | _dropouts(clean, rate)
    places = [(first / rate, last / rate) for first, last in _runs(marks)]
    places += _clicks(clean, rate, marks)
    places += [(at, at) for at in lost]
    return joined(
        (max(0.0, begin - _AROUND_SECONDS), end + _AROUND_SECONDS) for begin, end in places
    )


def joined(stretches: Iterable[Stretch]) -> tuple[Stretch, ...]:
    """Stretches in order, those that touch as one."""
    found: list[Stretch] = []
    for begin, end in sorted(stretches):
        if found and begin <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], end)
        else:
            found.append((begin, end))
    return tuple(found)


def cells_within(
    stretches: Sequence[Stretch], count: int, cell_seconds: float
) -> npt.NDArray[np.bool_]:
    """Mask of the cells in time that a stretch reaches into, shape `(count,)`."""
    found = np.zeros(count, bool)
    for begin, end in stretches:
        # The last cell may be longer than the others.
        first = min(int(begin / cell_seconds), count - 1)
        found[first : max(first, int(np.ceil(end / cell_seconds)) - 1) + 1] = True
    return found


def without(found: UnusualMap, stretches: Sequence[Stretch], start: float = 0.0) -> UnusualMap:
    """A map in which nothing is unusual at moments that say nothing.

    Args:
        found: Of a sound, or a part of it.
        stretches: Of the sound, seconds.
        start: Where in the sound the map begins, seconds.
    """
    here = [(begin - start, end - start) for begin, end in stretches if end > start]
    cells = cells_within([(max(0.0, begin), end) for begin, end in here],
                         len(found.deviations), found.cell_seconds)  # fmt: skip
    return replace(found, deviations=np.where(cells[:, None], 0.0, found.deviations))


def _dropouts(samples: Samples, rate: int) -> npt.NDArray[np.bool_]:
    """Samples that are part of a run of one and the same value."""
    same = np.zeros(len(samples), bool)
    if len(samples) < 2:
        return same
    same[1:] = samples[1:] == samples[:-1]
    least = max(4, round(_DROPOUT_SECONDS * rate))
    for first, last in _runs(same):
        if last - first < least:
            same[first:last] = False
    return same


def _clicks(samples: Samples, rate: int, marks: npt.NDArray[np.bool_]) -> list[Stretch]:
    if len(samples) < 4:
        return []
    turn = np.abs(np.diff(samples, 2))
    block = max(16, round(0.1 * rate))
    pieces = range(0, len(turn), block)
    usual = np.repeat([np.median(turn[n : n + block]) for n in pieces], block)[: len(turn)]
    sharp = (turn > _SHARP * usual) & (turn > _LEAST)
    gap, ring = round(_CLICK_SECONDS * rate), round(_RING_SECONDS * rate)
    found: list[Stretch] = []
    for first, last in _groups(np.flatnonzero(sharp) + 1, gap):
        if last - first > gap or marks[max(0, first - 2) : last + 3].any():
            continue  # rings, or is the edge of a dropout, which is spoilt already
        before = turn[max(0, first - gap - ring) : max(0, first - gap)]
        after = turn[last + gap : last + gap + ring]
        if len(before) and len(after) and after.mean() > _RINGS * max(before.mean(), 1e-9):
            continue
        found.append((first / rate, last / rate))
    often = len(found) > max(3.0, _MOST_CLICKS * len(samples) / rate / 60.0)
    return [] if often else found


def _groups(places: npt.NDArray[np.int64], gap: int) -> list[tuple[int, int]]:
    """First and last of places that are no further apart than a gap."""
    if not len(places):
        return []
    cuts = np.flatnonzero(np.diff(places) > gap) + 1
    return [(int(part[0]), int(part[-1])) for part in np.split(places, cuts)]


def _runs(marks: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First, and after the last, of each run that is true."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], marks, [False]]).astype(np.int8)))
    return [(int(first), int(last)) for first, last in edges.reshape(-1, 2)]
