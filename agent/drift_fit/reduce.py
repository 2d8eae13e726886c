"""From features to the mixture's few dimensions, and which windows of a baseline to learn from."""

from __future__ import annotations

import numpy as np

from agent.drift.baseline import Reducer
from agent.drift.mixture import Array
from agent.drift_fit.settings import DriftSettings, Tolerance

_WINDOWS_AN_AXIS = 6
_FOLDS = 5
_FAR = 10.0  # no single window decides where running-in ends
_TO_SIGMA = 1.4826  # median absolute deviation to standard deviation of a Gaussian


def robust_spread(features: Array) -> tuple[Array, Array]:
    """Median and scaled median absolute deviation of each feature, shapes `(D,)`."""
    centre = np.median(features, axis=0)
    spread = _TO_SIGMA * np.median(np.abs(features - centre), axis=0)
    # A feature that mostly rests at one value (behind a rectifier, say) has no median deviation.
    return centre, np.where(spread > 0, spread, features.std(axis=0))


def run_in(features: Array) -> int:
    """How many leading windows belong to running-in.

    The marginal standard error rule (MSER; White 1997): cut where the standard error of the
    remainder's mean, summed over features in units of their settled spread, is smallest; never
    more than half.

    Args:
        features: The baseline in time order, shape `(n, D)`.
    """
    count = len(features)
    centre, spread = robust_spread(features[count // 2 :])
    varies = spread > 0
    standard = np.clip((features[:, varies] - centre[varies]) / spread[varies], -_FAR, _FAR)
    rests = [standard[cut:] for cut in range(count // 2 + 1)]
    return int(
        np.argmin([((rest - rest.mean(axis=0)) ** 2).sum() / len(rest) ** 2 for rest in rests])
    )


def split(count: int, block: int) -> tuple[list[slice], list[slice]]:
    """Cut a baseline in turns into pieces of a model part (3 blocks) and a threshold part (2).

    Taking turns lets both see the whole period; whole pieces keep neighbouring, thus similar,
    windows together, so that the threshold part is really held out.
    """
    long, short = 3 * block, 2 * block
    if count < 2 * (long + short):  # too few for two turns: smaller pieces
        long, short = max(block, round(count * 0.3)), max(block, round(count * 0.2))
    model, threshold, start = [], [], 0
    while start < count:
        model.append(slice(start, min(start + long, count)))
        start += long
        if start < count:
            threshold.append(slice(start, min(start + short, count)))
        start += short
    if threshold[-1].stop - threshold[-1].start < block and len(threshold) > 1:
        model.append(threshold.pop())
    return model, threshold


def fit_reducer(
    features: Array, tolerance: Tolerance, settings: DriftSettings
) -> tuple[Reducer, Array]:
    """Learn centre, scale and principal axes.

    Args:
        features: The model part, shape `(n, D)`.
        tolerance: Healthy variation; a feature's scale is never below it.
        settings: Variance kept and most axes.

    Returns:
        The reducer and the reduced model part `(n, d)`, whose residuals come from axes fitted
        without the window's own fold (a residual to axes that saw it would be too small).
    """
    centre, spread = robust_spread(features)
    scale = np.sqrt(spread**2 + tolerance.total(spread) ** 2)
    scale = np.maximum(scale, 1e-9 * max(1.0, float(np.abs(centre).max())))
    standard = (features - centre) / scale
    most = min(settings.max_axes, max(1, len(features) // _WINDOWS_AN_AXIS), features.shape[1])
    components, shares = principal_axes(standard, most)
    explained = np.cumsum(shares)
    axes = 1 + int(np.searchsorted(explained[:-1], settings.variance))
    whole = axes == features.shape[1]
    reducer = Reducer(centre, scale, np.asarray(components[:axes]), not whole)
    if whole:
        return reducer, reducer.reduce(features)
    reduced = reducer.reduce(features)
    reduced[:, -1] = np.sqrt(_held_out_residuals(standard, axes))
    return reducer, reduced


def _held_out_residuals(standard: Array, axes: int) -> Array:
    left = np.empty(len(standard))
    for fold in np.array_split(np.arange(len(standard)), min(_FOLDS, len(standard))):
        others = np.delete(standard, fold, axis=0)
        basis, _ = principal_axes(others, min(axes, len(others) - 1))
        scores = standard[fold] @ basis.T
        left[fold] = ((standard[fold] - scores @ basis) ** 2).mean(axis=1)
    return left


def principal_axes(points: Array, most: int) -> tuple[Array, Array]:
    """Principal axes, the largest first, each turned so that its largest entry is positive.

    Args:
        points: Shape `(n, D)`.
        most: How many axes, at most `min(n, D)`.

    Returns:
        Unit vectors `(most, D)`, and the share of the variance along each, `(most,)`.
    """
    _, sizes, axes = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)
    largest = np.argmax(np.abs(axes), axis=1)
    axes = axes * np.where(axes[np.arange(len(axes)), largest] < 0, -1.0, 1.0)[:, None]
    shares = sizes**2 / max(float(np.sum(sizes**2)), 1e-300)
    return axes[:most], shares[:most]
