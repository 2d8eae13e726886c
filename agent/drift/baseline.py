"""What a drift monitor knows of the healthy machine, and the file that holds it.

The file is JSON: decimal numbers written to their last bit, validated on reading, never unpickled.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field, model_validator

from agent.core.errors import AuscultError
from agent.core.schema import Strict, read_model
from agent.core.storage import make_parents, write_atomic
from agent.drift.chart import ChartRecord
from agent.drift.evolve import ProcessNoise
from agent.drift.mixture import Array, Mixture

SCHEMA_VERSION = 1
Vector = list[Annotated[float, Field(allow_inf_nan=False)]]
Rows = list[Vector]


class DriftError(AuscultError):
    """A drift baseline, state or sequence that cannot be used."""


class MixtureRecord(Strict):
    """A mixture as numbers."""

    logits: Annotated[Vector, Field(description="Unnormalised log weights, one a component")]
    means: Annotated[Rows, Field(description="Centres, components x dimensions")]
    log_scales: Annotated[Rows, Field(description="Log scales, components x dimensions")]
    dof: Annotated[float, Field(gt=2, description="Degrees of freedom, shared")]

    @model_validator(mode="after")
    def _fits(self) -> MixtureRecord:
        shapes = {len(row) for row in (*self.means, *self.log_scales)}
        if (
            not self.logits
            or len(shapes) != 1
            or not len(self.logits) == len(self.means) == len(self.log_scales)
        ):
            raise ValueError("logits, means and log_scales are not of one size")
        return self

    @classmethod
    def of(cls, mixture: Mixture) -> MixtureRecord:
        """Write a mixture down."""
        return cls(
            logits=mixture.logits.tolist(),
            means=mixture.means.tolist(),
            log_scales=mixture.log_scales.tolist(),
            dof=mixture.dof,
        )

    def mixture(self) -> Mixture:
        """The mixture."""
        return Mixture(
            np.asarray(self.logits), np.asarray(self.means), np.asarray(self.log_scales), self.dof
        )


class ReducerRecord(Strict):
    """How a window's features become the mixture's dimensions."""

    centre: Annotated[Vector, Field(description="Robust centre of each feature, its own unit")]
    scale: Annotated[Vector, Field(description="Robust spread of each feature, its own unit")]
    axes: Annotated[Rows, Field(description="Principal axes, dimensions x features")]
    residual: Annotated[
        bool,
        Field(description="The root mean square of what the axes leave is the last dimension"),
    ]


class BaselineRecord(Strict):
    """`baseline.json` of the drift monitor."""

    schema_version: Annotated[int, Field(ge=1, le=SCHEMA_VERSION, description="Schema")] = (
        SCHEMA_VERSION
    )
    features: Annotated[list[str], Field(min_length=1, description="Names of the features")]
    unit: Annotated[str, Field(description="Unit of the features, for messages")]
    source: Annotated[str, Field(description="What computes the features")]
    reducer: ReducerRecord
    mixture: MixtureRecord
    noise_mean: Annotated[float, Field(gt=0, description="Process noise of a mean, scales")]
    noise_log_scale: Annotated[float, Field(gt=0, description="Process noise of a log scale")]
    noise_logit: Annotated[float, Field(gt=0, description="Process noise of a weight's logit")]
    threshold: Annotated[float, Field(gt=0, description="T = mean + k sigma, nats")]
    sigmas: Annotated[float, Field(gt=0, description="k of the threshold")]
    normal_mean: Annotated[float, Field(description="Mean distance of normal-state mixtures, nats")]
    normal_sd: Annotated[float, Field(ge=0, description="Their standard deviation, nats")]
    normal_mixtures: Annotated[int, Field(ge=2, description="m, how many there were")]
    block: Annotated[int, Field(ge=2, description="Windows a block")]
    hop: Annotated[int, Field(ge=1, description="Windows between evaluations")]
    persistence: Annotated[
        tuple[int, int], Field(description="(n, m): n of the last m evaluations raise a warning")
    ]
    run_in: Annotated[int, Field(ge=0, description="Leading windows left out as running-in")]
    model_windows: Annotated[int, Field(ge=1, description="Windows of the model part")]
    threshold_windows: Annotated[int, Field(ge=1, description="Windows of the threshold part")]
    wander_per_block: Annotated[
        float, Field(ge=0, description="Healthy wander's variance a block, squared feature scales")
    ]
    horizon_blocks: Annotated[float, Field(ge=0, description="Blocks the wander is believed for")]
    settling_threshold: Annotated[
        float | None,
        Field(gt=0, description="T while running-in may go on; null: none is expected"),
    ] = None
    settling_windows: Annotated[
        int | None, Field(ge=1, description="For how many windows after the baseline it may")
    ] = None

    chart: Annotated[
        ChartRecord | None,
        Field(description="The chart that warns beside the mixture; null: the mixture alone does"),
    ] = None

    @model_validator(mode="after")
    def _fits(self) -> BaselineRecord:
        wide = len(self.features)
        reducer = self.reducer
        dims = len(reducer.axes) + reducer.residual
        if not wide == len(reducer.centre) == len(reducer.scale) or any(
            len(axis) != wide for axis in reducer.axes
        ):
            raise ValueError("centre, scale and axes do not match the number of features")
        if dims != len(self.mixture.means[0]):
            raise ValueError("the mixture's dimensions do not match the axes")
        if any(scale <= 0 for scale in reducer.scale):
            raise ValueError("a scale is not positive")
        if (self.settling_threshold is None) != (self.settling_windows is None):
            raise ValueError("settling_threshold and settling_windows go together")
        need, of = self.persistence
        if not 1 <= need <= of:
            raise ValueError("persistence needs 1 <= n <= m")
        return self


@dataclass(frozen=True, slots=True, eq=False)
class Reducer:
    """Standardises features, projects them on principal axes, and keeps what the axes leave.

    A fault often shows where healthy data hardly varies, thus outside the principal axes; the root
    mean square of the residual is the last dimension so that nothing goes unseen.

    Attributes:
        centre: Shape `(D,)`.
        scale: Shape `(D,)`.
        axes: Orthonormal rows, shape `(p, D)`.
        residual: Whether the residual is a dimension; False when `p == D`.
    """

    centre: Array
    scale: Array
    axes: Array
    residual: bool

    def reduce(self, features: Array) -> Array:
        """`(n, D)` features to `(n, d)` dimensions, d = p + 1 (or p without a residual)."""
        standard = (features - self.centre) / self.scale
        scores = standard @ self.axes.T
        if not self.residual:
            return np.asarray(scores, dtype=np.float64)
        left = ((standard - scores @ self.axes) ** 2).mean(axis=1, keepdims=True)
        return np.asarray(np.hstack([scores, np.sqrt(left)]))


@dataclass(frozen=True, slots=True, eq=False)
class Baseline:
    """A healthy machine, ready to be compared with (see `BaselineRecord` for the fields)."""

    record: BaselineRecord
    reducer: Reducer
    mixture: Mixture
    noise: ProcessNoise
    digest: str

    @classmethod
    def of(cls, record: BaselineRecord) -> Baseline:
        """Make arrays of the numbers."""
        reducer = record.reducer
        return cls(
            record=record,
            reducer=Reducer(
                np.asarray(reducer.centre),
                np.asarray(reducer.scale),
                np.asarray(reducer.axes).reshape(-1, len(record.features)),
                reducer.residual,
            ),
            mixture=record.mixture.mixture(),
            noise=ProcessNoise(record.noise_mean, record.noise_log_scale, record.noise_logit),
            # Without fields that are not there: a baseline of an earlier version keeps its digest,
            # by which an agent knows what it remembers of it.
            digest=hashlib.sha256(record.model_dump_json(exclude_none=True).encode()).hexdigest(),
        )


def save_baseline(baseline: Baseline, path: Path) -> None:
    """Write the file atomically.

    Raises:
        BundleError: It cannot be written.
    """
    make_parents(path)
    write_atomic(path, baseline.record.model_dump_json(indent=1).encode())


def load_baseline(path: Path) -> Baseline:
    """Read the file.

    Raises:
        DriftError: It is missing, or a field is wrong (which is named).
    """
    remedy = "Fit it again with `auscult drift SEQUENCE --out DIR`."
    return Baseline.of(read_model(path, BaselineRecord, error=DriftError, remedy=remedy))
