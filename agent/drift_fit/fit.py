"""Fits the drift monitor's baseline to the healthy beginning of a sequence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from agent.drift.baseline import (
    Baseline,
    BaselineRecord,
    DriftError,
    MixtureRecord,
    Reducer,
    ReducerRecord,
)
from agent.drift.evolve import evolved_distances
from agent.drift.mixture import Array, Mixture
from agent.drift_fit.median import fit_chart
from agent.drift_fit.mixture_fit import fit_mixture
from agent.drift_fit.reduce import fit_reducer, robust_spread, run_in, split
from agent.drift_fit.settings import DriftSettings, Tolerance
from agent.drift_fit.threshold import alike, measure_wander, normal_blocks

LEAST_WINDOWS = 16
LEAST_BLOCK, MOST_BLOCK = 4, 16
# Of how much the baseline moved from its first to its second half, the most it may move on.
_MOVING_ON = 2.0
# Displacements and windows by which the tolerance is measured in the mixture's dimensions.
_MOVES, _MOVED = 200, 64


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """A baseline and what it was made of, for charts that are calibrated on the same windows.

    Attributes:
        baseline: The healthy machine.
        model: Features of the model part, shape `(n, D)`.
        held_out: Features of the threshold part, shape `(n, D)`.
        normal: The m normal-state blocks behind the threshold, shape `(m, block, D)`.
        whole: Features of the whole baseline, running-in included, shape `(n, D)`.
    """

    baseline: Baseline
    model: Array
    held_out: Array
    normal: Array
    whole: Array


def fit_baseline(
    features: Array,
    *,
    names: Sequence[str],
    unit: str,
    source: str,
    tolerance: Tolerance,
    settings: DriftSettings,
    moments: bool = False,
) -> Fit:
    """Learn a healthy machine from windows in time order.

    Args:
        features: Shape `(n, D)`; rows that are not finite are left out.
        names: Names of the D features.
        unit: Their unit.
        source: What computed them, in words.
        tolerance: Healthy variation beyond what the baseline shows.
        settings: The fit's choices.
        moments: The windows come from many separate moments, not from stretches of many blocks.
            A run of them mixes states in which the machine stays for a while when it is watched,
            so the threshold allows for blocks of one state too.

    Raises:
        DriftError: Fewer than 16 windows can be judged.
    """
    good = features[np.isfinite(features).all(axis=1)]
    if len(good) < LEAST_WINDOWS:
        raise DriftError(
            f"the baseline has {len(good)} windows that can be judged, {LEAST_WINDOWS} are needed",
            remedy="Take a larger --baseline, or record longer before watching for drift.",
        )
    skipped = run_in(good)
    settled = good[skipped:]
    share = len(settled) // settings.block_share
    block = settings.block or int(np.clip(share, LEAST_BLOCK, settings.most_block))
    if len(settled) < 2 * block:
        raise DriftError(
            f"a block of {block} windows is too long for {len(settled)} settled baseline windows",
            remedy="Take a smaller --block or a larger --baseline.",
        )
    model_slices, threshold_slices = split(len(settled), block)
    model = np.concatenate([settled[piece] for piece in model_slices])
    pieces = [settled[piece] for piece in threshold_slices]
    held_out = np.concatenate(pieces)
    reducer, reduced = fit_reducer(model, tolerance, settings)
    mixture = fit_mixture(reduced, max_components=settings.max_components, seed=settings.seed)
    mixture = with_tolerance(mixture, reducer, model, tolerance, settings)
    if moments:
        pieces += alike(held_out, reducer.reduce(held_out), block)
    wander = measure_wander(settled, reducer.scale, block, settings.seed)
    horizon = settings.horizon * len(good) / block
    normal = normal_blocks(
        pieces,
        wander,
        tolerance,
        spread=robust_spread(model)[1],
        scale=reducer.scale,
        block=block,
        horizon_blocks=horizon,
        settings=settings,
    )
    mean, sd = _spread_of_distances(mixture, reducer, normal, settings)
    threshold = mean + settings.sigmas * sd
    settling = None
    if settings.settling:
        moving = normal + _moving_on(good, settings)[:, None, :]
        far, wide = _spread_of_distances(mixture, reducer, moving, settings)
        settling = max(threshold, far + settings.sigmas * wide)
    hop = max(1, block // 4)
    # Two thirds of the evaluations over a whole block: a passing noise is gone from the block by
    # then, and a failing machine may have its quiet moments.
    of = -(-block // hop) + 1
    record = BaselineRecord(
        features=list(names),
        unit=unit,
        source=source,
        reducer=ReducerRecord(
            centre=reducer.centre.tolist(),
            scale=reducer.scale.tolist(),
            axes=reducer.axes.tolist(),
            residual=reducer.residual,
        ),
        mixture=MixtureRecord.of(mixture),
        noise_mean=settings.noise.mean,
        noise_log_scale=settings.noise.log_scale,
        noise_logit=settings.noise.logit,
        threshold=threshold,
        settling_threshold=settling,
        settling_windows=None if settling is None else len(good),
        sigmas=settings.sigmas,
        normal_mean=mean,
        normal_sd=sd,
        normal_mixtures=len(normal),
        block=block,
        hop=hop,
        persistence=(-(-2 * of // 3), of),
        run_in=skipped,
        model_windows=len(model),
        threshold_windows=len(held_out),
        wander_per_block=wander.variance,
        horizon_blocks=horizon,
        chart=fit_chart(good, normal, reducer, block, settings) if settings.chart else None,
    )
    return Fit(Baseline.of(record), model, held_out, normal, good)


def _spread_of_distances(
    mixture: Mixture, reducer: Reducer, blocks: Array, settings: DriftSettings
) -> tuple[float, float]:
    """Mean and standard deviation of the distances of blocks `(m, block, D)`, nats."""
    reduced = np.stack([reducer.reduce(windows) for windows in blocks])
    distances = evolved_distances(mixture, reduced, settings.noise)
    return float(np.mean(distances)), float(np.std(distances, ddof=1))


def _moving_on(features: Array, settings: DriftSettings) -> Array:
    """How far running-in may yet go, `(m, D)`: the way the baseline went, less or farther.

    A machine that runs in moves ever less. Over one more baseline length it moves on by at most
    twice what it moved from one half to the other (a time constant of one and a half baselines).
    """
    rng = np.random.default_rng(settings.seed)
    half = len(features) // 2
    way = np.median(features[half:], axis=0) - np.median(features[:half], axis=0)
    return np.asarray(rng.uniform(0, _MOVING_ON, settings.mixtures)[:, None] * way)


def with_tolerance(
    mixture: Mixture,
    reducer: Reducer,
    model: Array,
    tolerance: Tolerance,
    settings: DriftSettings,
) -> Mixture:
    """Widen a mixture's scales by a share of the tolerated variation that has a unit.

    Args:
        mixture: As fitted, over d dimensions.
        reducer: What makes those of features.
        model: Features it was fitted to, shape `(n, D)`.
        tolerance: Of the features.
        settings: The share, and the seed of the displacements.
    """
    # What is tolerated as a share of the spread is never far wider than the spread.
    fixed = Tolerance(tolerance.common, tolerance.alone)
    if not (fixed.common.any() or fixed.alone.any()):
        return mixture
    rng = np.random.default_rng(settings.seed)
    moves = fixed.draw(np.zeros(model.shape[1]), _MOVES, rng)
    some = model[rng.permutation(len(model))[:_MOVED]]
    home = reducer.reduce(some)
    # How far windows move together, and not how they scatter: the residual is no linear function.
    shifts = np.stack([(reducer.reduce(some + move) - home).mean(axis=0) for move in moves])
    widened = settings.scale_share**2 * (shifts**2).mean(axis=0)
    scales = 0.5 * np.log(np.exp(2 * mixture.log_scales) + widened)
    return Mixture(mixture.logits, mixture.means, scales, mixture.dof)
