"""A stream's long-term spectrum laid over training's: is it the same chain, told in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from agent.chain.stream import StreamFacts
from agent.explain.spectrum import Floats, HealthySpectrum

# From here on a band differs, dB, and by so many of its own spreads over healthy windows.
_DIFFERS_DB, _SPREADS = 6.0, 3.0
# What resamplers, codecs and drivers shape: this share of the band and above is not compared.
_SHAPED = 0.9
# There is no sound to compare in a band below this, dB (full-scale sine 0).
_NOTHING_DB = -118.0
# A gain that is told, dB.
_GAIN_DB = 6.0
# A band that is lower by this much belongs to a filter though it lies between fit ones.
_EDGE_BANDS = 2


@dataclass(frozen=True, slots=True)
class BandDifference:
    """A stretch of frequencies heard otherwise than in training, or not to be compared.

    Attributes:
        low_hz: Where it begins.
        high_hz: Where it ends.
        decibels: How much higher than in training, less what all bands are, dB; None of one that
            cannot be compared.
    """

    low_hz: float
    high_hz: float
    decibels: float | None = None


@dataclass(frozen=True, slots=True)
class ChainComparison:
    """How a chain differs from that of training.

    Attributes:
        gain_db: How much louder all of it is heard, dB (median over the bands).
        differences: Bands that are higher or lower beside that, from low to high.
        left_out: Bands that could not be compared.
        text: In words, a sentence for each; empty when it is the same chain.
    """

    gain_db: float
    differences: tuple[BandDifference, ...] = ()
    left_out: tuple[BandDifference, ...] = ()
    text: tuple[str, ...] = ()


def compare_chain(
    heard: StreamFacts, healthy: HealthySpectrum, trained_bandwidth_hz: float | None = None
) -> ChainComparison:
    """Lay what was heard of the running machine over training's healthy spectrum.

    Args:
        heard: At the encoder's rate.
        healthy: The bundle's.
        trained_bandwidth_hz: Up to where the training held sound, Hz; None when not known.

    Raises:
        ValueError: They are not of one rate.
    """
    if heard.rate != healthy.grid.rate:
        raise ValueError(f"heard at {heard.rate} Hz, learnt at {healthy.grid.rate} Hz")
    edges = healthy.grid.hertz
    top = _SHAPED * heard.rate / 2
    if trained_bandwidth_hz is not None:
        top = min(top, _SHAPED * trained_bandwidth_hz)
    fit = (edges[1:] <= top) & (healthy.level > _NOTHING_DB)
    if not fit.any():
        return ChainComparison(0.0)
    change = heard.levels_db - healthy.level
    gain = float(np.median(change[fit]))
    shape = change - gain
    odd = fit & (np.abs(shape) >= np.maximum(_DIFFERS_DB, _SPREADS * healthy.level_spread))
    differences = tuple(_runs(shape, odd, edges))
    left_out = tuple(BandDifference(float(edges[a]), float(edges[b])) for a, b in _stretches(~fit))
    told = [_gain_words(gain)] if abs(gain) >= _GAIN_DB else []
    told += [_words(one, fit, edges) for one in differences]
    if told and left_out:
        named = ", ".join(_range(one.low_hz, one.high_hz) for one in left_out)
        told.append(f"{named} not compared: no sound in training, or shaped by any resampler")
    return ChainComparison(gain, differences, left_out, tuple(told))


def _stretches(marked: npt.NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    places = np.flatnonzero(np.diff(np.concatenate(([0], marked.astype(np.int8), [0]))))
    yield from zip(places[::2].tolist(), places[1::2].tolist(), strict=True)


def _runs(shape: Floats, odd: npt.NDArray[np.bool_], edges: Floats) -> Iterator[BandDifference]:
    signs = np.where(odd, np.sign(shape), 0.0)
    bounds = [0, *(np.flatnonzero(np.diff(signs)) + 1).tolist(), len(signs)]
    for first, last in pairwise(bounds):
        if signs[first]:
            level = float(np.median(shape[first:last]))
            yield BandDifference(float(edges[first]), float(edges[last]), round(level, 1))


def _gain_words(gain: float) -> str:
    than = "louder" if gain > 0 else "quieter"
    return f"{abs(gain):.0f} dB {than} than in training: another gain, microphone or distance"


def _words(one: BandDifference, fit: npt.NDArray[np.bool_], edges: Floats) -> str:
    assert one.decibels is not None
    than = "higher" if one.decibels > 0 else "lower"
    places = np.flatnonzero(fit)
    low, high = edges[places[min(_EDGE_BANDS, len(places) - 1)]], edges[places[-1] + 1]
    much = f"{abs(one.decibels):.0f} dB {than} than in training"
    if one.high_hz >= high and one.decibels < 0:
        return f"above {_hertz(one.low_hz)} {much}: another microphone or a filter"
    if one.low_hz <= low and one.decibels < 0:
        return f"below {_hertz(one.high_hz)} {much}: another microphone or a high-pass filter"
    return f"{_range(one.low_hz, one.high_hz)} {much}: another place, microphone or machine"


def _range(low: float, high: float) -> str:
    return f"{_hertz(low)} to {_hertz(high)}"


def _hertz(value: float) -> str:
    return f"{value / 1000:.2g} kHz" if value >= 1000 else f"{value:.0f} Hz"
