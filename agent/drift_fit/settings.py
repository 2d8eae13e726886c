"""What the drift monitor's fit may choose, and why it chooses as it does."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from agent.drift.evolve import ProcessNoise
from agent.drift.mixture import Array
from agent.drift_fit.bands import BandPlan

# Half a decibel, 6 % in amplitude, is what a mounting, a temperature or a converter changes. What a
# machine varies by beyond that is measured on its baseline; allowing a whole evaluation zone of
# ISO 20816 (4 to 6 dB) here hid all early signs of wear (docs/guide/drift.md).
LEVEL_COMMON_DB = 0.5
LEVEL_ALONE_DB = 0.5
# Kurtosis 3 is a healthy machine's, 4 is the usual first sign of impacts: 1.25 dB, a quarter free.
KURTOSIS_DB = 0.3
CREST_DB = 0.5
# An embedding has no unit: half of its healthy spread is free.
EMBEDDING_SHARE = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Tolerance:
    """Healthy variation that no baseline is long enough to show, as standard deviations.

    Attributes:
        common: Variation all features make together, shape `(D,)`, their unit.
        alone: Variation each makes by itself, shape `(D,)`, their unit.
        share: Further variation of each, as a share of its healthy spread.
    """

    common: Array
    alone: Array
    share: float = 0.0

    def total(self, spread: Array) -> Array:
        """Standard deviation of each feature's tolerated variation, shape `(D,)`."""
        return np.sqrt(self.common**2 + self.alone**2 + (self.share * spread) ** 2)

    def draw(self, spread: Array, count: int, rng: np.random.Generator) -> Array:
        """Random healthy displacements, shape `(count, D)`."""
        together = rng.standard_normal((count, 1)) * self.common
        scale = np.sqrt(self.alone**2 + (self.share * spread) ** 2)
        return np.asarray(together + rng.standard_normal((count, len(scale))) * scale)


def band_tolerance(plan: BandPlan) -> Tolerance:
    """The tolerance of band statistics."""
    cells = plan.channels * (len(plan.edges) - 1)
    return Tolerance(
        common=np.tile([LEVEL_COMMON_DB, 0.0, 0.0], cells),
        alone=np.tile([LEVEL_ALONE_DB, KURTOSIS_DB, CREST_DB], cells),
    )


def embedding_tolerance(dim: int) -> Tolerance:
    """The tolerance of an encoder's embedding."""
    return Tolerance(common=np.zeros(dim), alone=np.zeros(dim), share=EMBEDDING_SHARE)


@dataclass(frozen=True, slots=True)
class DriftSettings:
    """The report leaves k, m, block length and dimension open; these are our choices.

    Attributes:
        sigmas: k of T = mean + k sigma.
        mixtures: m, normal-state mixtures behind T.
        variance: Share of healthy variance the principal axes keep.
        max_axes: Most principal axes.
        max_components: Truncation of the Dirichlet process.
        horizon: How long the baseline's own wander is believed to go on, in baseline lengths.
        block: Windows a block; None chooses a share of the settled baseline.
        block_share: What share: one in so many windows.
        most_block: Longest block chosen so, windows.
        chart: Whether the rolling-median chart is part of the baseline and warns too...
        chart_allowance: ...and its limit has the mixture's allowance for healthy change as well.
        settling: Whether what is watched follows the baseline at once, so that running-in which
            the baseline shows may go on for a while.
        scale_share: Share of the tolerated variation that has a unit (dB), as each dimension shows
            it, that is added to the components' scales, so that scales much narrower than what is
            tolerated do not decide alone. Chosen on synthetic machines (docs/guide/drift.md).
        noise: Process noise of the state evolution.
        seed: Of the mixture's start and of the threshold's simulation.
    """

    sigmas: float = 4.0
    mixtures: int = 400
    variance: float = 0.9
    max_axes: int = 8
    max_components: int = 8
    horizon: float = 10.0
    block: int | None = None
    block_share: int = 8
    most_block: int = 16
    chart: bool = False
    chart_allowance: bool = True
    settling: bool = False
    scale_share: float = 0.5
    noise: ProcessNoise = field(default_factory=ProcessNoise)
    seed: int = 0


# An embedding: 16 windows of many seconds give a mean to a quarter of a scale; longer only delays.
EMBEDDING_SETTINGS = DriftSettings(chart=True)
# Band statistics of snapshots scatter more, and slow wear is small beside it: longer blocks average
# it out. Chosen on made decays, a kind left out at a time (docs/guide/drift.md).
BAND_SETTINGS = DriftSettings(
    sigmas=2.0, horizon=2.0, block_share=4, most_block=60, chart=True, chart_allowance=False
)
