"""Says in words and numbers what moved: which components, by how much, and in which features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agent.drift.baseline import Baseline
from agent.drift.divergence import Divergence
from agent.drift.mixture import Mixture

_TOLD = 3


@dataclass(frozen=True, slots=True)
class ComponentMove:
    """One component's change.

    Attributes:
        component: Its number in the baseline's order.
        weight_before: Its weight in the normal state.
        weight_after: Its weight in the block.
        shift: Distance its centre moved, in units of its scale.
        spread: Geometric mean factor by which its scales grew.
        share: Its share of the distance.
    """

    component: int
    weight_before: float
    weight_after: float
    shift: float
    spread: float
    share: float


@dataclass(frozen=True, slots=True)
class FeatureMove:
    """One feature's change as the mixture sees it.

    Attributes:
        name: The feature.
        change: By how much it moved, in the features' unit.
        unit: That unit.
    """

    name: str
    change: float
    unit: str


@dataclass(frozen=True, slots=True)
class Movement:
    """What moved.

    Attributes:
        components: Components by share of the distance, largest first.
        features: The features that the principal axes moved most, largest first.
        residual: Factor by which the part outside the principal axes grew (root mean square).
    """

    components: tuple[ComponentMove, ...]
    features: tuple[FeatureMove, ...]
    residual: float

    def sentence(self) -> str:
        """For a person."""
        first = self.components[0]
        text = (
            f"component {first.component} moved {first.shift:.1f} of its scale "
            f"(spread x{first.spread:.2f}, {100 * first.share:.0f} % of the distance)"
        )
        if self.residual > 1.5:
            text += f"; variation outside the healthy axes x{self.residual:.1f}"
        # A number of an embedding says nothing to anybody.
        named = [move for move in self.features if move.unit]
        told = ", ".join(f"{move.name} {move.change:+.2g} {move.unit}" for move in named)
        return f"{text}; most along {told}" if told else text


def describe(
    baseline: Baseline, reference: Mixture, evolved: Mixture, distance: Divergence
) -> Movement:
    """Compare a block's mixture with the normal state it evolved from."""
    before, after = reference.weights, evolved.weights
    moved = evolved.means - reference.means
    standard = np.linalg.norm(moved * np.exp(-reference.log_scales), axis=1)
    spread = np.exp((evolved.log_scales - reference.log_scales).mean(axis=1))
    parts = distance.place_part + distance.weight_part
    total = max(distance.value, 1e-12)
    order = np.argsort(-parts)
    reducer, record = baseline.reducer, baseline.record
    mean_move = after @ moved
    axes = len(reducer.axes)
    raw = (mean_move[:axes] @ reducer.axes) * reducer.scale
    top = np.argsort(-np.abs(raw / reducer.scale))[:_TOLD]
    residual = 1.0
    if reducer.residual:
        usual = float(before @ reference.means[:, -1])
        residual = max(0.0, 1 + float(mean_move[-1]) / max(usual, 1e-12))
    return Movement(
        components=tuple(
            ComponentMove(
                component=int(k),
                weight_before=float(before[k]),
                weight_after=float(after[k]),
                shift=float(standard[k]),
                spread=float(spread[k]),
                share=float(parts[k] / total),
            )
            for k in order
        ),
        features=tuple(FeatureMove(record.features[j], float(raw[j]), record.unit) for j in top),
        residual=residual,
    )
