"""The `scorer` section of a preset and of a manifest: how an embedding becomes an anomaly score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Discriminator, Field, Tag, model_validator

from agent.config.scorer_density import (
    CoveringConfig,
    DensitySoftmaxConfig,
    DtmmConfig,
    MahalanobisConfig,
    MixtureConfig,
    OneClassConfig,
    ValueConfig,
)
from agent.config.scorer_knn import Common, KnnConfig
from agent.core.errors import ConfigError
from agent.core.schema import Strict

Span: TypeAlias = tuple[int, int]


def _kind(value: Any) -> Any:
    """The tag of a scorer; one that names no kind is k-NN, which the first presets were."""
    if isinstance(value, dict):
        return value.get("kind", "knn")
    return getattr(value, "kind", None)


_Part: TypeAlias = (
    Annotated[KnnConfig, Tag("knn")]
    | Annotated[MahalanobisConfig, Tag("mahalanobis")]
    | Annotated[DensitySoftmaxConfig, Tag("density_softmax")]
    | Annotated[MixtureConfig, Tag("gmm")]
    | Annotated[OneClassConfig, Tag("ocsvm")]
    | Annotated[CoveringConfig, Tag("mcv")]
    | Annotated[DtmmConfig, Tag("dtmm")]
    | Annotated[ValueConfig, Tag("value")]
)
PartScorer: TypeAlias = Annotated[_Part, Discriminator(_kind)]


class Part(Strict):
    """One judge of a fusion."""

    columns: Annotated[
        Span | None,
        Field(description="Columns of the embedding it judges, (start, stop); null for all"),
    ] = None
    encoder: Annotated[
        Annotated[int, Field(ge=0)] | tuple[int, int] | None,
        Field(
            description="In a preset: the part of a joined encoder that it judges, from 0, or the "
            "first and the last of several side by side, in place of `columns`, which training "
            "fills in",
        ),
    ] = None
    view: Annotated[
        str,
        Field(
            description="In a preset: the encoder's view that it judges, by name, in place of "
            "`columns`, which training fills in; kept as its name"
        ),
    ] = ""
    standardize: Annotated[
        Literal["none", "robust", "whiten"],
        Field(
            description="What is done to its columns first, learnt from healthy windows: robust, "
            "each less its median, in units of its spread (median absolute deviation); whiten, "
            "then also turned so that directions in which healthy sound varies much, as all bands "
            "together with level, count less"
        ),
    ] = "none"
    least_spread: Annotated[
        float,
        Field(
            gt=0,
            description="Spread at which `standardize` stops dividing, in the columns' unit (dB): "
            "where healthy recordings hardly differ, a smaller difference still means nothing",
        ),
    ] = 0.5
    least_unit: Annotated[
        float,
        Field(
            ge=0,
            description="Least deviation of its healthy scores that `z` divides by, in their unit",
        ),
    ] = 0.0
    fades_at: Annotated[
        float | None,
        Field(
            gt=0,
            description="It counts less the more healthy sound itself varies: its weight is "
            "divided by 1 + (s / this) squared, s the deviation over the healthy windows of its "
            "columns' mean, a level in dB; null: never",
        ),
    ] = None
    scorer: Annotated[PartScorer, Field(description="How it judges (its `clip` has no effect)")]
    weight: Annotated[float, Field(gt=0, description="Its weight in `mean` and `rank`")] = 1.0

    @model_validator(mode="after")
    def _ordered(self) -> Part:
        if self.columns is not None and not 0 <= self.columns[0] < self.columns[1]:
            raise ValueError(f"columns: {self.columns} is not (start, stop) with start < stop")
        if self.columns is not None and self.encoder is not None:
            raise ValueError("encoder: leave it out where columns are given")
        if isinstance(self.encoder, tuple) and not 0 <= self.encoder[0] <= self.encoder[1]:
            raise ValueError(f"encoder: {self.encoder} is not (first, last) with first <= last")
        if self.view and self.encoder is not None:
            raise ValueError("encoder: leave it out where a view is named")
        return self

    @property
    def judged(self) -> Span | None:
        """First and last part of a joined encoder that it judges; None where columns say it."""
        if self.encoder is None or isinstance(self.encoder, tuple):
            return self.encoder
        return (self.encoder, self.encoder)


class FusionConfig(Common):
    """Several scorers, each over its columns of the embedding, made comparable and combined."""

    kind: Annotated[Literal["fusion"], Field(description="Scoring method")] = "fusion"
    parts: Annotated[tuple[Part, ...], Field(min_length=1, max_length=64, description="Its judges")]
    normalize: Annotated[
        Literal["none", "z", "minmax", "quantile"],
        Field(
            description="By each part's own leave-one-recording-out healthy scores: mean and "
            "deviation; smallest and largest; or -log of the share of them above it (a tail is "
            "fitted beyond the largest). `rank` brings its own"
        ),
    ] = "z"
    combine: Annotated[
        Literal["mean", "min", "max", "rank"],
        Field(
            description="Weighted mean, smallest or largest of the parts; rank: -log of the "
            "weighted mean of those shares, which orders as the mean rank among healthy scores "
            "does"
        ),
    ] = "mean"


ScorerConfig: TypeAlias = Annotated[
    _Part | Annotated[FusionConfig, Tag("fusion")], Discriminator(_kind)
]


def describe(config: ScorerConfig) -> str:
    """A scorer in a few words, for tables."""
    if isinstance(config, KnnConfig):
        return f"{config.k}-NN {config.metric}, {config.normalization}"
    if isinstance(config, FusionConfig):
        kinds = dict.fromkeys(describe(part.scorer) for part in config.parts)
        return f"{config.combine} of {len(config.parts)} ({'; '.join(kinds)})"
    return config.kind.replace("_", " ")


def place_columns(
    config: ScorerConfig, columns: Sequence[Span], views: Mapping[str, Span] | None = None
) -> ScorerConfig:
    """A fusion whose parts name encoders or views, with the columns of those in their place.

    Args:
        config: Any scorer; others than a fusion come back as they are.
        columns: (start, stop) of each part of the encoder's embedding.
        views: (start, stop) of each of its views, by name.

    Raises:
        ConfigError: It has no such view.
    """
    if not isinstance(config, FusionConfig):
        return config
    return config.model_copy(
        update={"parts": tuple(_placed(part, columns, views or {}) for part in config.parts)}
    )


def _placed(part: Part, columns: Sequence[Span], views: Mapping[str, Span]) -> Part:
    if part.judged is not None:
        first, last = part.judged
        span = (columns[first][0], columns[last][1])
        return part.model_copy(update={"columns": span, "encoder": None})
    if not part.view or part.columns is not None:
        return part
    if part.view not in views:
        raise ConfigError(
            f"the encoder has no view '{part.view}'",
            where="scorer.parts.view",
            remedy=f"It has {', '.join(views) or 'none'}; or give `columns`.",
        )
    return part.model_copy(update={"columns": views[part.view]})
