"""DtMM as an anomaly score: how far a window's vectors make the healthy mixture evolve.

A window that an encoder gives as many vectors (frames, segments) is a small set of points. As the
drift monitor does with a block of windows (agent/drift), those points let the healthy mixture
evolve, and the score is the bound on the Kullback-Leibler divergence of what comes out to the
healthy mixture, nats. This is the use in DCASE report 004 (system CNN-DtMM); its threshold T = mean
+ k sigma over normal-state mixtures is the rule `mean_sigma` over the left-out healthy scores.

With one vector a window the mixture evolves by one point, which moves the nearest component's
centre by a tenth less than all of the way: the score then is about a squared distance in units of
that component's scales.
"""

from __future__ import annotations

import numpy as np

from agent.config.scorer_density import DtmmConfig
from agent.core.errors import ConfigError
from agent.core.records import Matrix
from agent.drift.baseline import Reducer
from agent.drift.evolve import ProcessNoise, evolved_distances
from agent.drift.mixture import Mixture
from agent.score.fitter import Fitter, on_workstation
from agent.score.scorer import (
    Floats,
    HealthySet,
    IntVector,
    State,
    StateError,
    Vector,
    no_rows,
    take,
)


def fit_dtmm(healthy: HealthySet, config: DtmmConfig, fitter: Fitter | None) -> State:
    """Fit the healthy mixture on a workstation.

    Returns:
        `center` `(d,)`, `scale` `(d,)`, `axes` `(p, d)`, `logits` `(k,)`, `means` and `log_scales`
        `(k, p)`, or `(k, p + 1)` with what the axes leave out, and `dof` `(1,)`.

    Raises:
        WorkstationError: There is no fitter.
        ConfigError: An embedding does not hold so many vectors.
    """
    able = on_workstation(fitter, config.kind)
    dim = healthy.vectors.shape[1]
    if dim % config.frames:
        raise ConfigError(
            f"an embedding of {dim} numbers does not hold {config.frames} vectors",
            where="scorer.frames",
            remedy="Give the number of vectors that the encoder makes of a window "
            "(encoder.segments).",
        )
    found = able.evolving(
        _frames(healthy.vectors, config).reshape(-1, dim // config.frames), config
    )
    return {
        "center": found.reducer.centre,
        "scale": found.reducer.scale,
        "axes": found.reducer.axes,
        "logits": found.mixture.logits,
        "means": found.mixture.means,
        "log_scales": found.mixture.log_scales,
        "dof": np.array([found.mixture.dof]),
    }


def _frames(embeddings: Matrix, config: DtmmConfig) -> Floats:
    """Embeddings `(m, frames * d)` as `(m, frames, d)`."""
    return embeddings.reshape(len(embeddings), config.frames, -1).astype(np.float64)


class DtmmScorer:
    """Distance of the mixture that a window makes to the healthy one, nats.

    Args:
        config: The method.
        state: From `fit_dtmm`.
        dim: Length of an embedding.

    Raises:
        StateError: An array is not what the method needs.
    """

    def __init__(self, config: DtmmConfig, state: State, dim: int) -> None:
        if dim % config.frames:
            raise StateError("axes", f"cannot be of {config.frames} vectors in {dim} numbers")
        each = dim // config.frames
        scale = take(state, "scale", (each,))
        axes = take(state, "axes", (None, each))
        logits = take(state, "logits", (None,))
        means = take(state, "means", (len(logits), None))
        (dof,) = take(state, "dof", (1,))
        if not (scale > 0).all():
            raise StateError("scale", "should all be above 0")
        if dof <= 2:
            raise StateError("dof", f"is {dof:g}, should be above 2")
        if means.shape[1] - len(axes) not in (0, 1):
            raise StateError("means", f"are of {means.shape[1]} dimensions for {len(axes)} axes")
        self._config = config
        self._reducer = Reducer(
            take(state, "center", (each,)), scale, axes, means.shape[1] > len(axes)
        )
        log_scales = take(state, "log_scales", means.shape)
        self._mixture = Mixture(logits, means, log_scales, float(dof))
        self._noise = ProcessNoise(config.noise_mean, config.noise_log_scale, config.noise_logit)

    def start(self) -> None:
        """Ready as it was built: there is no index to make."""

    def score(self, embeddings: Matrix) -> tuple[Vector, IntVector]:
        """Distances, float32 `(m,)`."""
        reduced = [self._reducer.reduce(frames) for frames in _frames(embeddings, self._config)]
        if not reduced:
            return np.empty(0, np.float32), no_rows(0)
        found = evolved_distances(self._mixture, np.stack(reduced), self._noise)
        return found.astype(np.float32), no_rows(len(found))
