"""Configuration of the methods that describe healthy embeddings by a density or a volume."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from agent.config.scorer_knn import Common

_Dims = Annotated[
    int | None,
    Field(
        ge=1,
        description="Principal directions kept, and the length of the rest as one more; null "
        "for the embedding as it is",
    ),
]


class MahalanobisConfig(Common):
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


class DensitySoftmaxConfig(Common):
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
    dims: _Dims = 32
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


class MixtureConfig(Common):
    """Gaussian mixture: negative log density."""

    kind: Annotated[Literal["gmm"], Field(description="Scoring method")] = "gmm"
    components: Annotated[int, Field(ge=1, description="Gaussians; fewer if windows are few")] = 4
    covariance: Annotated[
        Literal["full", "diag"], Field(description="Full covariances, or only their diagonals")
    ] = "diag"
    dims: _Dims = 16
    floor: Annotated[
        float,
        Field(gt=0, description="Least variance, as a share of the standardised features'"),
    ] = 1e-2
    seed: Annotated[int, Field(description="Seed of the fit")] = 0


class OneClassConfig(Common):
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
    dims: _Dims = 32


class CoveringConfig(Common):
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


class DtmmConfig(Common):
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


class ValueConfig(Common):
    """A column of the embedding is the score already, as a reconstruction error is."""

    kind: Annotated[Literal["value"], Field(description="Scoring method")] = "value"
    column: Annotated[int, Field(ge=0, description="Which column, from 0")] = 0
