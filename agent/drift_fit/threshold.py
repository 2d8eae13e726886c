"""The threshold: how far mixtures of the normal state lie from the baseline, now and later.

The baseline is short beside the life to be watched, and a machine's sound wanders without being
ill. T = mean + k sigma therefore runs over m normal-state mixtures that are each made of a block of
held-out windows, moved by a healthy displacement drawn from

* the baseline's own wander, a random walk whose variance a block is estimated from the variogram of
  block means (slope; the nugget is sampling noise) and goes on for a time drawn evenly from the
  horizon, along the directions in which the block means really differed. A feature's wander stops
  at one scale (spread and tolerance together): a walk measured over a few blocks says little about
  ten times their length, and without an end a restless hour would excuse every later fault; and
* the stated tolerance of the features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.drift.mixture import Array
from agent.drift_fit.settings import DriftSettings, Tolerance

_SHUFFLES = 200


@dataclass(frozen=True, slots=True, eq=False)
class Wander:
    """The baseline's slow wander.

    Attributes:
        variance: Mean variance a block over features, squared feature scales.
        directions: Differences of distant block means, feature units, normalised so that a standard
            normal combination of the rows has a mean variance of 1 (squared scales), `(r, D)`.
    """

    variance: float
    directions: Array

    def draw(self, blocks: Array, cap: Array, rng: np.random.Generator) -> Array:
        """Displacements after a number of blocks each, shape `(len(blocks), D)`.

        Args:
            blocks: Blocks gone by, one number a draw.
            cap: Largest believable standard deviation of each feature, shape `(D,)`.
            rng: Source of chance.
        """
        growth = np.sqrt(blocks * self.variance)[:, None]
        expected = growth * np.sqrt((self.directions**2).sum(axis=0))
        mix = rng.standard_normal((len(blocks), len(self.directions)))
        return np.asarray(growth * (mix @ self.directions) / np.maximum(1, expected / cap))


def measure_wander(settled: Array, scale: Array, block: int, seed: int) -> Wander:
    """Estimate the wander from block means of the whole settled baseline.

    Args:
        settled: Features in time order without running-in, shape `(n, D)`.
        scale: Feature scales, shape `(D,)`.
        block: Windows a block.
        seed: Of the shuffles.
    """
    pieces = len(settled) // block
    none = Wander(0.0, np.zeros((1, settled.shape[1])))
    if pieces < 4:
        return none
    means = np.median(settled[: pieces * block].reshape(pieces, block, -1), axis=1) / scale
    lags = np.arange(1, pieces // 2 + 1)
    if len(lags) < 2:
        return none
    slope = _slope(means, lags)
    # What slope pure sampling noise gives is seen by shuffling the blocks; the positive-part
    # James-Stein rule shrinks towards none by it, and leaves a clear wander alone.
    rng = np.random.default_rng(seed)
    chance = [_slope(means[rng.permutation(pieces)], lags) for _ in range(_SHUFFLES)]
    if slope <= 0:
        return none
    slope *= max(0.0, 1 - float(np.mean(np.square(chance))) / slope**2)
    lag = int(lags[-1])
    differences = means[lag:] - means[:-lag]
    norm = np.sqrt((differences**2).sum() / differences.shape[1])
    return Wander(slope, differences / norm * scale)


def _slope(means: Array, lags: npt.NDArray[np.int64]) -> float:
    """Weighted least-squares slope of the variogram of block means over the lag."""
    squares = np.array([((means[lag:] - means[:-lag]) ** 2).mean() for lag in lags])
    weights = (len(means) - lags).astype(np.float64)
    centred = lags - np.average(lags, weights=weights)
    return float((weights * centred * squares).sum() / (weights * centred**2).sum())


def alike(held_out: Array, reduced: Array, block: int) -> list[Array]:
    """Blocks of a machine that stays in one healthy state, from windows of separate moments.

    Each is one window and those nearest to it, the nearest half a block, each taken twice: so many
    of one state are there more often than a whole block.

    Args:
        held_out: Features, shape `(n, D)`.
        reduced: The same in the mixture's dimensions, shape `(n, d)`.
        block: Windows a block.

    Returns:
        One block for each window, shape `(block, D)`.
    """
    squares = ((reduced[:, None, :] - reduced[None, :, :]) ** 2).sum(axis=2)
    nearest = np.argsort(squares, axis=1)[:, : max(2, block // 2)]
    return [np.resize(held_out[rows], (block, held_out.shape[1])) for rows in nearest]


def normal_blocks(
    pieces: list[Array],
    wander: Wander,
    tolerance: Tolerance,
    *,
    spread: Array,
    scale: Array,
    block: int,
    horizon_blocks: float,
    settings: DriftSettings,
) -> Array:
    """Blocks as the machine will sound while it stays healthy, shape `(m, block, D)`.

    Args:
        pieces: Features of the threshold part's pieces, each `(n_i, D)`, in time order. A block is
            always a run of one piece, so that neighbouring windows are as alike as they really are.
        wander: The baseline's wander.
        tolerance: The features' tolerance.
        spread: Healthy spread of each feature, `(D,)`.
        scale: Feature scales, which cap the wander, `(D,)`.
        block: Windows a block; no more than the longest piece has.
        horizon_blocks: How far the wander is believed to go on, blocks.
        settings: m and the seed.
    """
    rng = np.random.default_rng(settings.seed)
    runs = [
        piece[start : start + block] for piece in pieces for start in range(len(piece) - block + 1)
    ]
    count = settings.mixtures
    moves = tolerance.draw(spread, count, rng)
    moves += wander.draw(rng.uniform(0, horizon_blocks, count), scale, rng)
    chosen = rng.integers(len(runs), size=count)
    return np.stack([runs[int(run)] + move for run, move in zip(chosen, moves, strict=True)])
