"""Does the machine stand still? Then its sound says nothing of its health.

The recordings of the idle machine and of its surroundings are a bank of their own, never part of
the healthy one: in there they would let the machine fail in silence. A window counts as idle when

    log(d_healthy / d_gate) > margin   and   d_gate <= reach

with the plain distances to the nearest row of either bank. The second condition keeps what is far
from everything, as a fault may be, out of the gate. Both numbers are fitted leave-one-recording-out
on either side, and what they would do is measured on recordings they were not fitted to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from agent.bundle.manifest import Gate
from agent.config.scorer_knn import Metric
from agent.core.records import Matrix
from agent.core.text import plural
from agent.score.bank import distances
from agent.score.normalize import group_ids
from agent.score.space import Space

# More healthy windows than this must not be called idle.
HEALTHY_ALLOWED = 0.01
# A gate that finds fewer of its own kind is of no use.
IDLE_WANTED = 0.5
# The margin leaves out this share of the healthy windows, the reach that of the gate's own.
_HEALTHY_TAIL, _GATE_TAIL = 0.002, 0.01
_BLOCK = 1024
_TINY = 1e-9

Floats = npt.NDArray[np.float64]


class IdleGate:
    """Tells an idle machine's windows from a running one's.

    Args:
        vectors: Embeddings of idle and noise recordings, float32 `(n, dim)`.
        ready: The healthy bank's points in that space, float32 `(m, columns)`; shared, not copied.
            Of a large bank what gives the distance of each of some embeddings to the nearest row.
        space: Where they are compared.
        config: Margin and reach.
    """

    def __init__(
        self,
        vectors: Matrix,
        ready: Matrix | Callable[[Matrix], npt.NDArray[np.float32]],
        space: Space,
        config: Gate,
    ) -> None:
        self.config = config
        self._space = space
        self._gate = space.prepare(vectors)
        self._healthy = ready

    def idle(self, embeddings: Matrix) -> npt.NDArray[np.bool_]:
        """Which embeddings sound idle.

        Args:
            embeddings: float32, shape `(k, dim)`.
        """
        ready = self._space.prepare(embeddings)
        near = _nearest(ready, self._gate, self._space.metric)
        healthy = self._healthy
        if callable(healthy):
            away = np.asarray(healthy(embeddings), near.dtype)
        else:
            away = _nearest(ready, healthy, self._space.metric)
        return _idle(near, away, self.config.margin, self.config.reach)


def fit_gate(
    vectors: Matrix,
    groups: Sequence[str],
    healthy: Matrix,
    healthy_groups: Sequence[str],
    space: Space,
) -> tuple[Gate | None, str]:
    """Fit margin and reach, and refuse a gate that would hide a running machine.

    Args:
        vectors: Embeddings of idle and noise recordings, float32 `(n, dim)`.
        groups: Recording of each.
        healthy: The healthy bank, float32 `(m, dim)`.
        healthy_groups: Recording of each of its rows.
        space: Where they are compared.

    Returns:
        The gate, or None when it cannot be trusted, and a note for people in either case.
    """
    ids, healthy_ids = group_ids(groups), group_ids(healthy_groups)
    recordings = len(np.unique(ids))
    if recordings < 2 or len(np.unique(healthy_ids)) < 2:
        return None, (
            "no idle gate: it takes at least two idle or noise recordings and two healthy ones"
        )
    metric = space.metric
    gate_ready, ready = space.prepare(vectors), space.prepare(healthy)
    gate_near = _nearest(gate_ready, gate_ready, metric, ids, ids)
    gate_away = _nearest(gate_ready, ready, metric)
    near = _nearest(ready, gate_ready, metric)
    away = _nearest(ready, ready, metric, healthy_ids, healthy_ids)
    gate_lean, lean = _lean(gate_near, gate_away), _lean(near, away)
    called, found = np.zeros(len(ready), bool), np.zeros(len(gate_ready), bool)
    for fold in (0, 1):
        fitted, fitted_gate = healthy_ids % 2 == fold, ids % 2 == fold
        margin, reach = _fit(lean[fitted], gate_lean[fitted_gate], gate_near[fitted_gate])
        called[~fitted] = _idle(near[~fitted], away[~fitted], margin, reach)
        found[~fitted_gate] = _idle(gate_near[~fitted_gate], gate_away[~fitted_gate], margin, reach)
    hidden, seen = float(called.mean()), float(found.mean())
    confusion = (
        f"{hidden:.2%} of the healthy windows and {seen:.1%} of the {len(vectors)} idle or noise "
        f"windows ({plural(recordings, 'recording')}) are called idle"
    )
    if hidden > HEALTHY_ALLOWED or seen < IDLE_WANTED:
        return None, f"no idle gate: {confusion}, the idle and the running machine are too alike"
    margin, reach = _fit(lean, gate_lean, gate_near)
    gate = Gate(
        margin=margin,
        reach=reach,
        rows=len(vectors),
        recordings=recordings,
        healthy_as_idle=hidden,
        idle_as_idle=seen,
    )
    return gate, f"idle gate: {confusion}"


def _fit(lean: Floats, gate_lean: Floats, gate_near: Floats) -> tuple[float, float]:
    """Margin and reach: beyond nearly all healthy windows, and half way to the gate's if apart."""
    margin = max(0.0, float(np.quantile(lean, 1.0 - _HEALTHY_TAIL)))
    apart = float(np.quantile(gate_lean, _GATE_TAIL))
    if apart > margin:
        margin = (margin + apart) / 2.0
    return margin, float(np.quantile(gate_near, 1.0 - _GATE_TAIL))


def _lean(near: Floats, away: Floats) -> Floats:
    """How much nearer to the gate than to the healthy bank."""
    leaning: Floats = np.log(np.maximum(away, _TINY) / np.maximum(near, _TINY))
    return leaning


def _idle(near: Floats, away: Floats, margin: float, reach: float) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = (_lean(near, away) > margin) & (near <= reach)
    return found


def _nearest(
    queries: Matrix,
    bank: Matrix,
    metric: Metric,
    groups: npt.NDArray[np.int64] | None = None,
    bank_groups: npt.NDArray[np.int64] | None = None,
) -> Floats:
    """Distance of each query to the nearest row, of another group where groups are given."""
    nearest = np.empty(len(queries))
    for start in range(0, len(queries), _BLOCK):
        part = slice(start, start + _BLOCK)
        table = distances(queries[part], bank, metric)
        if groups is not None and bank_groups is not None:
            table[groups[part, None] == bank_groups[None, :]] = np.inf
        nearest[part] = table.min(axis=1)
    return nearest
