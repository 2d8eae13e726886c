"""Configuration of the nearest neighbours, and what every scoring method's configuration has."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, model_validator

from agent.core.schema import Strict

Metric: TypeAlias = Literal["cosine", "euclidean"]


class Common(Strict):
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


class KnnConfig(Common):
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
        Literal["joint", "domains", "target"],
        Field(
            description="domains: source and target are banks of their own (a row's density is "
            "that among its own domain), and the smaller of the two scores counts; target: only "
            "the target domain is compared with, with what `oversample` adds to it, where there "
            "is any (workstation only)"
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
