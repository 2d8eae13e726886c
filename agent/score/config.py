"""The `scorer` section of a preset and of a manifest: how an embedding becomes an anomaly score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Discriminator, Field, Tag, model_validator

from agent.schema import Strict

Metric: TypeAlias = Literal["cosine", "euclidean"]
Span: TypeAlias = tuple[int, int]
ThresholdKind: TypeAlias = Literal["tail", "gamma", "mean_sigma", "conformal"]


class _Common(Strict):
    """What every method has."""

    clip: Annotated[
        Literal["mean", "max"],
        Field(description="How the windows of one recording become that recording's score"),
    ] = "mean"


class Prototypes(Strict):
    """Fewer vectors in the place of a bank's rows."""

    method: Annotated[
        Literal["kmeans", "coreset"],
        Field(
            description="kmeans: cluster centres in the place of the source domain's rows, the "
            "target domain's stay (workstation only); coreset: the rows that leave no other far "
            "from all of them (greedy k-centre), in each domain"
        ),
    ]
    count: Annotated[int, Field(ge=2, description="Centres, or rows kept of each domain")] = 16


class KnnConfig(_Common):
    """Nearest neighbours: distance to the closest healthy windows of the memory bank."""

    kind: Annotated[Literal["knn"], Field(description="Scoring method")] = "knn"
    metric: Annotated[Metric, Field(description="Distance: (1 - cos) / 2, or L2")] = "cosine"
    k: Annotated[int, Field(ge=1, description="Neighbours looked at")] = 1
    reduce: Annotated[
        Literal["mean", "kth"],
        Field(description="Mean of their k distances, or the k-th (the largest of them) alone"),
    ] = "mean"
    bands: Annotated[
        int,
        Field(
            ge=1,
            description="Equal pieces of the embedding with a bank each, for embeddings laid out "
            "band by band; the score is the mean over them",
        ),
    ] = 1
    normalization: Annotated[
        Literal["none", "ldn_ratio", "ldn_difference", "varmin"],
        Field(
            description="Row constants: local density (ratio, difference) or variance minimisation"
        ),
    ] = "varmin"
    density_k: Annotated[
        int, Field(ge=1, description="Nearest other recordings that measure a row's local density")
    ] = 8
    banks: Annotated[
        Literal["joint", "domains"],
        Field(
            description="domains: source and target are banks of their own (a row's density is "
            "that among its own domain), and the smaller of the two scores counts"
        ),
    ] = "joint"
    density_k_target: Annotated[
        int, Field(ge=1, description="The same as density_k in the target bank, banks: domains")
    ] = 9
    domain_scale: Annotated[
        Literal["none", "median"],
        Field(
            description="median: each domain's distances are divided by the median of its own "
            "leave-one-recording-out distances, before the smaller counts"
        ),
    ] = "none"
    oversample: Annotated[
        Literal["none", "smote"],
        Field(
            description="smote: the target domain is filled up to as many rows as the source by "
            "interpolation (Chawla et al. 2002; workstation only). Made-up rows count neither as "
            "recordings nor in any density"
        ),
    ] = "none"
    oversample_k: Annotated[
        int, Field(ge=1, le=9, description="Neighbours that smote interpolates to")
    ] = 2
    prototypes: Annotated[
        Prototypes | None, Field(description="Fewer vectors for a large bank; null for all rows")
    ] = None
    recall: Annotated[
        float,
        Field(
            gt=0,
            le=1,
            description="Share of nearest rows that the index of a large bank must propose; "
            "without an index that reaches it every row is compared",
        ),
    ] = 0.99

    @model_validator(mode="after")
    def _agree(self) -> KnnConfig:
        if self.domain_scale != "none" and self.normalization in {"ldn_difference", "varmin"}:
            raise ValueError(
                f"domain_scale: {self.normalization} makes distances below zero, which have no "
                "scale; give normalization: none or ldn_ratio"
            )
        return self


class MahalanobisConfig(_Common):
    """Distance from the healthy mean (or from zero) in units of the healthy scatter."""

    kind: Annotated[Literal["mahalanobis"], Field(description="Scoring method")] = "mahalanobis"
    covariance: Annotated[
        Literal["domains", "pooled"],
        Field(
            description="domains: one covariance for each domain, and the smallest of the "
            "distances (selective Mahalanobis); pooled: one for all"
        ),
    ] = "domains"
    center: Annotated[
        Literal["mean", "zero"],
        Field(
            description="mean: distance from the healthy mean (the textbook's); zero: from zero, "
            "for embeddings that are residuals"
        ),
    ] = "mean"
    shrinkage: Annotated[
        float | None,
        Field(
            ge=0,
            le=1,
            description="Share of the scaled identity in the covariance; null for the share of "
            "Ledoit and Wolf",
        ),
    ] = None
    frames: Annotated[
        int,
        Field(ge=1, description="Vectors that an embedding holds one after the other, e.g. frames"),
    ] = 1
    form: Annotated[
        Literal["of_mean", "mean_of"],
        Field(
            description="With several frames: distance of their mean (the DCASE baseline, which "
            "averages the full matrix of products), or mean of their distances (the textbook's)"
        ),
    ] = "of_mean"


class DensitySoftmaxConfig(_Common):
    """Gaussians of the operating conditions: strange when none is likely, or when none stands out.

    Score: standardised -log sum_c p_c(x), plus `spread` times the standardised entropy of the
    classes' posterior.
    """

    kind: Annotated[Literal["density_softmax"], Field(description="Scoring method")] = (
        "density_softmax"
    )
    classes: Annotated[
        Literal["attributes", "section", "domain", "kmeans"],
        Field(
            description="Which windows share a Gaussian: equal attributes, section or domain; "
            "k-means clusters where nothing tells classes apart, and with `kmeans`"
        ),
    ] = "attributes"
    clusters: Annotated[int, Field(ge=1, description="Clusters of k-means")] = 4
    covariance: Annotated[
        Literal["tied", "full", "diag"],
        Field(description="One covariance for all classes, one each, or only its diagonal"),
    ] = "tied"
    shrinkage: Annotated[
        float | None,
        Field(ge=0, le=1, description="Share of the scaled identity; null for Ledoit and Wolf's"),
    ] = None
    dims: Annotated[
        int | None,
        Field(
            ge=1,
            description="Principal directions kept, and the length of the rest as one more; null "
            "for the embedding as it is",
        ),
    ] = 32
    spread: Annotated[
        float, Field(ge=0, description="Weight of the posterior's spread beside the total density")
    ] = 1.0
    temperature: Annotated[
        float | None,
        Field(
            gt=0,
            description="Divides log densities before the posterior is taken, which would else be "
            "0 or 1 in many dimensions; null for the number of dimensions",
        ),
    ] = None
    seed: Annotated[int, Field(description="Seed of k-means")] = 0


class MixtureConfig(_Common):
    """Gaussian mixture: negative log density."""

    kind: Annotated[Literal["gmm"], Field(description="Scoring method")] = "gmm"
    components: Annotated[int, Field(ge=1, description="Gaussians; fewer if windows are few")] = 4
    covariance: Annotated[
        Literal["full", "diag"], Field(description="Full covariances, or only their diagonals")
    ] = "diag"
    dims: Annotated[
        int | None,
        Field(
            ge=1,
            description="Principal directions kept, and the length of the rest as one more; null "
            "for the embedding as it is",
        ),
    ] = 16
    floor: Annotated[
        float,
        Field(gt=0, description="Least variance, as a share of the standardised features'"),
    ] = 1e-2
    seed: Annotated[int, Field(description="Seed of the fit")] = 0


class OneClassConfig(_Common):
    """One-class support vector machine with a Gaussian kernel.

    The score is log rho - log sum_i alpha_i K(x, x_i): above 0 where the decision function is
    below, in the same order, and without its ceiling far from all sound.
    """

    kind: Annotated[Literal["ocsvm"], Field(description="Scoring method")] = "ocsvm"
    nu: Annotated[
        float, Field(gt=0, lt=1, description="Upper bound of the share of windows left outside")
    ] = 0.05
    gamma: Annotated[
        float | None,
        Field(gt=0, description="Width of the kernel; null for 1 / (dimensions * variance)"),
    ] = None
    dims: Annotated[
        int | None,
        Field(
            ge=1,
            description="Principal directions kept, and the length of the rest as one more; null "
            "for the embedding as it is",
        ),
    ] = 32


class CoveringConfig(_Common):
    """Minimum covering volume: cosine distance from the healthy centre, in covering radii.

    1 is the edge of the smallest cone around the centre that covers the wanted share.
    """

    kind: Annotated[Literal["mcv"], Field(description="Scoring method")] = "mcv"
    covered: Annotated[
        float,
        Field(
            gt=0, le=1, description="Share of healthy windows within the radius; 1 is the farthest"
        ),
    ] = 1.0
    own_threshold: Annotated[
        bool,
        Field(description="The radius itself is the threshold, in place of the calibrated one"),
    ] = False


class DtmmConfig(_Common):
    """A mixture that evolves (agent/drift): how far a window's vectors move the healthy one.

    The score is a bound on the Kullback-Leibler divergence of the moved mixture to the healthy
    one, nats.
    """

    kind: Annotated[Literal["dtmm"], Field(description="Scoring method")] = "dtmm"
    frames: Annotated[
        int,
        Field(
            ge=1,
            description="Vectors that an embedding holds one after the other: the encoder's "
            "`segments`",
        ),
    ] = 1
    axes: Annotated[
        int,
        Field(
            ge=1,
            description="Most principal axes kept; what they leave out is one dimension more",
        ),
    ] = 8
    components: Annotated[
        int, Field(ge=1, description="Most components of the Dirichlet process")
    ] = 8
    noise_mean: Annotated[
        float, Field(gt=0, description="Process noise of a component's centre, in its scales")
    ] = 3.0
    noise_log_scale: Annotated[
        float, Field(gt=0, description="Process noise of the logarithm of a scale")
    ] = 0.5
    noise_logit: Annotated[float, Field(gt=0, description="Process noise of a weight's logit")] = (
        1.0
    )
    seed: Annotated[int, Field(description="Seed of the fit")] = 0


class ValueConfig(_Common):
    """A column of the embedding is the score already, as a reconstruction error is."""

    kind: Annotated[Literal["value"], Field(description="Scoring method")] = "value"
    column: Annotated[int, Field(ge=0, description="Which column, from 0")] = 0


def _kind(value: Any) -> Any:
    """The tag of a scorer; one that names no kind is k-NN, which the first presets were."""
    if isinstance(value, dict):
        return value.get("kind", "knn")
    return getattr(value, "kind", None)


PartScorer: TypeAlias = Annotated[
    Annotated[KnnConfig, Tag("knn")]
    | Annotated[MahalanobisConfig, Tag("mahalanobis")]
    | Annotated[DensitySoftmaxConfig, Tag("density_softmax")]
    | Annotated[MixtureConfig, Tag("gmm")]
    | Annotated[OneClassConfig, Tag("ocsvm")]
    | Annotated[CoveringConfig, Tag("mcv")]
    | Annotated[DtmmConfig, Tag("dtmm")]
    | Annotated[ValueConfig, Tag("value")],
    Discriminator(_kind),
]


class Part(Strict):
    """One judge of a fusion."""

    columns: Annotated[
        Span | None,
        Field(description="Columns of the embedding it judges, (start, stop); null for all"),
    ] = None
    encoder: Annotated[
        int | None,
        Field(
            ge=0,
            description="In a preset: the part of a joined encoder that it judges, from 0, in "
            "place of `columns`, which training fills in",
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
        return self


class FusionConfig(_Common):
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
    Annotated[KnnConfig, Tag("knn")]
    | Annotated[MahalanobisConfig, Tag("mahalanobis")]
    | Annotated[DensitySoftmaxConfig, Tag("density_softmax")]
    | Annotated[MixtureConfig, Tag("gmm")]
    | Annotated[OneClassConfig, Tag("ocsvm")]
    | Annotated[CoveringConfig, Tag("mcv")]
    | Annotated[DtmmConfig, Tag("dtmm")]
    | Annotated[ValueConfig, Tag("value")]
    | Annotated[FusionConfig, Tag("fusion")],
    Discriminator(_kind),
]


class AlarmPromise(Strict):
    """How many alarms a healthy machine may raise, and how windows become alarms."""

    per_second: Annotated[float, Field(gt=0, description="Alarms a second of healthy sound")]
    hop_seconds: Annotated[float, Field(gt=0, description="Step between windows, seconds")]
    raise_windows: Annotated[int, Field(ge=1, description="Windows above the threshold...")]
    of_windows: Annotated[int, Field(ge=1, description="...among so many raise an alarm")]
    clear_windows: Annotated[int, Field(ge=1, description="Quiet windows in a row that clear it")]


class ThresholdRule(Strict):
    """What a threshold was asked to be, so that a grown bank can be calibrated by the same rule."""

    kind: Annotated[
        ThresholdKind, Field(description="How it is found, see agent/score/rules.py")
    ] = "tail"
    sigmas: Annotated[
        float | None,
        Field(gt=0, description="k of mean_sigma; null for that of a Gaussian law at the rate"),
    ] = None
    domains: Annotated[
        Literal["each", "pooled"],
        Field(description="The highest of the domains' thresholds, or one of all their windows"),
    ] = "each"
    false_alarm_rate: Annotated[
        float,
        Field(
            gt=0,
            lt=1,
            description="Share of healthy windows allowed above the threshold; of whole "
            "recordings alone where alarms are promised",
        ),
    ]
    promise: Annotated[
        AlarmPromise | None,
        Field(
            description="Alarms that a healthy machine may raise, at most; the share of windows "
            "follows from it and holds with 90 % confidence. null without"
        ),
    ] = None
    sure: Annotated[
        bool,
        Field(description="The share of windows is an upper bound with 90 % confidence"),
    ] = False


def neighbourhood(config: ScorerConfig) -> tuple[Metric, tuple[Span, ...]]:
    """How far apart two embeddings are, for what compares windows whatever the scorer is.

    The idle gate, thinning out and the nearest healthy windows of an explanation use it.

    Returns:
        The metric, and the columns that are made unit vectors of their own before (cosine of a
        fusion; none for the whole embedding as one).
    """
    if isinstance(config, KnnConfig):
        return config.metric, ()
    if isinstance(config, FusionConfig):
        spans = {part.columns for part in config.parts}
        metrics = {neighbourhood(part.scorer)[0] for part in config.parts}
        if None in spans or len(spans) == 1:
            return ("cosine" if "cosine" in metrics else "euclidean"), ()
        return "cosine", tuple(sorted(span for span in spans if span is not None))
    return ("cosine" if isinstance(config, CoveringConfig) else "euclidean"), ()


def describe(config: ScorerConfig) -> str:
    """A scorer in a few words, for tables."""
    if isinstance(config, KnnConfig):
        return f"{config.k}-NN {config.metric}, {config.normalization}"
    if isinstance(config, FusionConfig):
        parts = "; ".join(describe(part.scorer) for part in config.parts)
        return f"{config.combine} of {len(config.parts)} ({parts})"
    return config.kind.replace("_", " ")


def place_columns(config: ScorerConfig, columns: Sequence[Span]) -> ScorerConfig:
    """A fusion whose parts name encoders, with the columns of those in their place.

    Args:
        config: Any scorer; others than a fusion come back as they are.
        columns: (start, stop) of each part of the encoder's embedding.
    """
    if not isinstance(config, FusionConfig):
        return config
    parts = tuple(
        part
        if part.encoder is None
        else part.model_copy(update={"columns": columns[part.encoder], "encoder": None})
        for part in config.parts
    )
    return config.model_copy(update={"parts": parts})
