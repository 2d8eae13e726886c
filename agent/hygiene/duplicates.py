"""Recordings that hold the same sound: copied, converted, re-encoded, re-levelled, shifted, re-cut.

A copy of a training recording is its own nearest neighbour at no distance, so healthy scores come
out far too small; in the test set it is found healthy whatever the detector is worth. Copies are
known by their decoded content. Near copies are candidates by fingerprint and proven by waveform:
at one and the same shift, the sound must agree in most bands of the spectrum. Distinct recordings
of a steady machine may agree in a hum, never in the noise of all bands.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from agent.capture.files import read_stretch
from agent.core.cores import on_cores
from agent.core.errors import AudioError
from agent.hygiene.fingerprint import RATE, STEP
from agent.hygiene.measure import Measured

# Words in common at one shift that make two recordings worth comparing; and a word that so many
# recordings hold is none's mark.
_VOTES = 6
_COMMON = 40
# What is compared of two recordings, seconds, in bands of equal width on a logarithmic scale.
_COMPARED = 8.0
_BANDS = 10
_LOWEST, _HIGHEST = 100.0, 3600.0
# A band agrees at this correlation; so many of those that hold sound must.
_AGREES = 0.9
_MOST = 0.7
# A shared stretch that is less than this share of either recording is told, but loses neither.
SHARED = 0.2
# Bands this far below the loudest hold a codec's noise, dB.
_FLOOR_DB = 60.0

Sound = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Twin:
    """A recording whose sound is in another.

    Attributes:
        first: Place of the one, in the list given.
        second: Place of the other, later in it.
        exact: The decoded content is the same.
        share: Share of the shorter one that the other holds, 0 to 1.
        shift: Where the second begins in the first, seconds.
        correlation: Of the waveforms in the bands that agree, 0 to 1.
    """

    first: int
    second: int
    exact: bool
    share: float
    shift: float
    correlation: float


def find_twins(
    measured: Sequence[Measured],
    *,
    channel: int | None = None,
    advance: Callable[[], None] = lambda: None,
    begin: Callable[[int], None] = lambda _pairs: None,
) -> list[Twin]:
    """Find all pairs of recordings with the same sound.

    Args:
        measured: The recordings.
        channel: Channel in use; None for the average.
        advance: Called after each pair that was compared.
        begin: Called before the first with how many pairs there are.
    """
    found: list[Twin] = []
    leaders: list[int] = []
    known: dict[str, int] = {}
    for place, one in enumerate(measured):
        first = known.setdefault(one.digest, place)
        if first == place:
            leaders.append(place)
        else:
            found.append(Twin(first, place, True, 1.0, 0.0, 1.0))
    pairs = _candidates(measured, leaders)
    begin(len(pairs))

    def compare(pair: tuple[tuple[int, int], int]) -> Twin | None:
        (first, second), shift = pair
        return _compare(measured, first, second, shift, channel)

    for twin in on_cores(compare, pairs):
        if twin is not None:
            found.append(twin)
        advance()
    return sorted(found, key=lambda twin: (twin.second, twin.first))


def _candidates(
    measured: Sequence[Measured], leaders: Sequence[int]
) -> list[tuple[tuple[int, int], int]]:
    """Pairs with words in common at one shift, and that shift in words."""
    words = np.concatenate([measured[i].words for i in leaders] or [np.empty(0, np.uint32)])
    owner = np.repeat(leaders, [len(measured[i].words) for i in leaders])
    place = np.concatenate(
        [np.arange(len(measured[i].words)) for i in leaders] or [np.empty(0, int)]
    )
    order = np.argsort(words, kind="stable")
    words, owner, place = words[order], owner[order], place[order]
    votes: dict[tuple[int, int, int], int] = {}
    if not len(words):
        return []
    starts = np.flatnonzero(np.concatenate([[True], words[1:] != words[:-1]]))
    stops = np.append(starts[1:], len(words))
    for start, stop in zip(starts, stops, strict=True):
        if not 2 <= stop - start <= _COMMON or words[start] in {0, 0xFFFFFFFF}:
            continue
        for a in range(start, stop - 1):
            for b in range(a + 1, stop):
                if owner[a] == owner[b]:
                    continue
                x, y = (a, b) if owner[a] < owner[b] else (b, a)
                key = (int(owner[x]), int(owner[y]), int(place[x] - place[y]))
                votes[key] = votes.get(key, 0) + 1
    best: dict[tuple[int, int], tuple[int, int]] = {}
    for (first, second, shift), count in votes.items():
        # Neighbouring shifts are one that falls between two frames.
        around = count + votes.get((first, second, shift + 1), 0)
        if around >= _VOTES and around > best.get((first, second), (0, 0))[0]:
            best[first, second] = (around, shift)
    return sorted((pair, shift) for pair, (_, shift) in best.items())


def _compare(
    measured: Sequence[Measured], first: int, second: int, shift: int, channel: int | None
) -> Twin | None:
    """Hold two recordings' waveforms against each other at a shift of so many words."""
    one, other = measured[first], measured[second]
    offset = shift * STEP / RATE
    begin = max(0.0, offset)
    end = min(one.seconds, offset + other.seconds)
    length = min(_COMPARED, end - begin - 4 * STEP / RATE)
    if length < 1.0:
        return None
    middle = (begin + end - length) / 2
    try:
        a = _stretch(one.path, middle, length, channel)
        b = _stretch(other.path, middle - offset, length, channel)
    except AudioError:
        return None
    size = min(len(a), len(b))
    if size < RATE // 2:
        return None
    agreement, correlation, lag = _agreement(a[:size], b[:size])
    if agreement < _MOST:
        return None
    share = min(1.0, (end - begin) / max(1e-9, min(one.seconds, other.seconds)))
    return Twin(first, second, False, share, offset + lag / RATE, correlation)


def _stretch(path: Path, start: float, seconds: float, channel: int | None) -> Sound:
    """Mono sound of a file from `start` on, at `RATE`."""
    return read_stretch(path, start, seconds, rate=RATE, channel=channel).astype(np.float64)


def _agreement(a: Sound, b: Sound) -> tuple[float, float, int]:
    """Share of the bands in which two sounds agree at their best common shift; how well; the shift.

    The shift is found from the whitened cross-spectrum, to which every band contributes alike.
    """
    size = 1 << (2 * max(len(a), len(b)) - 1).bit_length()
    fa, fb = np.fft.rfft(a - a.mean(), size), np.fft.rfft(b - b.mean(), size)
    hertz = np.fft.rfftfreq(size, 1.0 / RATE)
    inside = (hertz >= _LOWEST) & (hertz <= _HIGHEST)
    cross = np.where(inside, fa * np.conj(fb), 0.0)
    white = cross / np.maximum(np.abs(cross), 1e-30)
    peak = np.fft.irfft(white, size)
    reach = 4 * STEP
    near = np.concatenate([peak[:reach], peak[-reach:]])
    at = int(np.argmax(np.abs(near)))
    lag = at if at < reach else at - 2 * reach
    a, b = (a[lag:], b[: len(a) - lag]) if lag >= 0 else (a[: len(b) + lag], b[-lag:])
    count = min(len(a), len(b))
    if count < RATE // 2:
        return 0.0, 0.0, lag
    fa, fb = np.fft.rfft(a[:count] - a[:count].mean()), np.fft.rfft(b[:count] - b[:count].mean())
    hertz = np.fft.rfftfreq(count, 1.0 / RATE)
    edges = np.geomspace(_LOWEST, _HIGHEST, _BANDS + 1)
    powers, found = [], []
    for low, high in pairwise(edges):
        band = (hertz >= low) & (hertz < high)
        pa, pb = np.sum(np.abs(fa[band]) ** 2), np.sum(np.abs(fb[band]) ** 2)
        # A shift by a part of a sample turns the phases evenly: it is taken out first.
        parts = fa[band] * np.conj(fb[band])
        found.append(float(np.abs(parts.sum()) / max(np.sqrt(pa * pb), 1e-30)))
        powers.append(float(pa / band.sum()))
    loud = np.array(powers) > max(powers) * 10 ** (-_FLOOR_DB / 10)
    values = np.array(found)[loud]
    agree = values >= _AGREES
    return float(agree.mean()), float(values[agree].mean()) if agree.any() else 0.0, lag
