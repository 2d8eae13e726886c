"""AdaCos and sub-cluster AdaCos.

Zhang et al., "AdaCos: adaptively scaling cosine logits for effectively learning deep face
representations", CVPR 2019. Wilkinghoff, "Sub-cluster AdaCos: learning representations for
anomalous sound detection", IJCNN 2021. Its author has since come to recommend AdaProj.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainer.fit.heads.base import AdaptiveScale, Head, soft_labels


class AdaCos(Head):
    """Cross-entropy of cosines whose scale follows the batch; there is no margin to choose.

    The scale of the next step is ln(B) / cos(min(pi / 4, median angle to the own class)), where B
    is the batch's mean sum of exp(scale cos) over the classes that aren't the window's.

    Args:
        dim: Length of the embedding.
        classes: Classes.
        adaptive: False leaves the scale at sqrt(2) ln(classes - 1).
    """

    def __init__(self, dim: int, classes: int, *, adaptive: bool = True) -> None:
        super().__init__()
        self.classes = classes
        self.scale = AdaptiveScale(classes, adaptive=adaptive)
        self.centres = nn.Parameter(torch.empty(classes, dim))
        nn.init.xavier_uniform_(self.centres)

    def similarities(self, embedding: Tensor) -> Tensor:
        """Cosine to each class's centre."""
        return (
            nn.functional.normalize(embedding, dim=1)
            @ nn.functional.normalize(self.centres, dim=1).T
        )

    def forward(self, embedding: Tensor, targets: Tensor, shares: Tensor) -> Tensor:
        """Mean loss of a batch, by the scale as this batch makes it."""
        cosine = self.similarities(embedding)
        labels = soft_labels(targets, shares, self.classes)
        follow_others(self.scale, cosine, labels)
        logits = self.scale.value * cosine
        return -(labels * logits.log_softmax(dim=1)).sum(dim=1).mean()


class SubclusterAdaCos(Head):
    """AdaCos with several clusters a class: the softmax goes over all, and sums within a class.

    The scale starts at sqrt(2) ln(classes clusters - 1) and follows ln(B) / cos(min(pi / 4,
    median angle to the nearest own cluster)), with B summed over every cluster, the own ones
    included. That can feed on itself, hence `base.MOST_GROWTH`.

    Args:
        dim: Length of the embedding.
        classes: Classes.
        clusters: Clusters a class.
        adaptive: False leaves the scale at its start.
    """

    def __init__(self, dim: int, classes: int, *, clusters: int, adaptive: bool = True) -> None:
        super().__init__()
        self.classes, self.clusters = classes, clusters
        self.scale = AdaptiveScale(classes * clusters, adaptive=adaptive)
        self.centres = nn.Parameter(torch.empty(classes * clusters, dim))
        nn.init.xavier_uniform_(self.centres)

    def _cosines(self, embedding: Tensor) -> Tensor:
        cosine = (
            nn.functional.normalize(embedding, dim=1)
            @ nn.functional.normalize(self.centres, dim=1).T
        )
        return cosine.reshape(-1, self.classes, self.clusters)

    def similarities(self, embedding: Tensor) -> Tensor:
        """Cosine to each class's nearest cluster."""
        return self._cosines(embedding).amax(dim=2)

    def forward(self, embedding: Tensor, targets: Tensor, shares: Tensor) -> Tensor:
        """Mean loss of a batch, by the scale as this batch makes it."""
        cosine = self._cosines(embedding)
        labels = soft_labels(targets, shares, self.classes)
        with torch.no_grad():
            own = (labels * cosine.amax(dim=2)).sum(dim=1).clamp(-1.0, 1.0)
            every = torch.logsumexp(self.scale.value * cosine.flatten(1), dim=1)
            self.scale.follow(every, torch.arccos(own))
        logits = self.scale.value * cosine
        within = torch.logsumexp(logits, dim=2)
        total = torch.logsumexp(within, dim=1, keepdim=True)
        return -(labels * (within - total)).sum(dim=1).mean()


@torch.no_grad()
def follow_others(scale: AdaptiveScale, cosine: Tensor, labels: Tensor) -> None:
    """Adapt a scale to the classes that a window is not of (no share of it is).

    Args:
        scale: The scale.
        cosine: `(batch, classes)`.
        labels: Soft labels, `(batch, classes)`.
    """
    others = (scale.value * cosine).masked_fill(labels > 0, -torch.inf)
    own = (labels * cosine).sum(dim=1).clamp(-1.0, 1.0)
    scale.follow(torch.logsumexp(others, dim=1), torch.arccos(own))
