"""AdaProj: classes as subspaces instead of centres.

Wilkinghoff, "AdaProj: adaptively scaled angular margin subspace projections for anomalous sound
detection with auxiliary classification tasks", DCASE workshop 2024 (arXiv 2403.14179).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from agent.core.errors import ConfigError
from trainer.fit.heads.adacos import follow_others
from trainer.fit.heads.base import AdaptiveScale, Head, soft_labels


class AdaProj(Head):
    """Cross-entropy of the scaled cosine between a window and its projection onto each class.

    The squared distance of two unit vectors is 2 - 2 cos, so nearness to the projection (brought
    to unit length) and this cosine order the classes alike, and the scale takes up the factor. A
    class's basis is made orthonormal before projecting: drawn vectors are only nearly so, and
    learnt ones not at all, and a projection that isn't one could give "cosines" above 1.

    Args:
        dim: Length of the embedding.
        classes: Classes.
        subspace: Dimensions of a class; fewer than `dim`, or every window lies in every class.
        adaptive: False leaves the scale at sqrt(2) ln(classes - 1); else as AdaCos.

    Raises:
        ConfigError: The subspace is as large as the embedding.
    """

    def __init__(self, dim: int, classes: int, *, subspace: int, adaptive: bool = True) -> None:
        super().__init__()
        if subspace >= dim:
            raise ConfigError(
                f"is {subspace}, but the embedding itself has {dim} dimensions",
                where="training.subspace_dim",
                remedy="Make it smaller than that, 32 being usual.",
            )
        self.classes = classes
        self.scale = AdaptiveScale(classes, adaptive=adaptive)
        self.centres = nn.Parameter(torch.empty(classes, dim, subspace))
        nn.init.normal_(self.centres)

    def similarities(self, embedding: Tensor) -> Tensor:
        """Length of the unit embedding's projection: its cosine to the class's subspace."""
        basis = torch.linalg.qr(self.centres).Q
        direction = nn.functional.normalize(embedding, dim=1)
        coordinates = torch.einsum("bd,cdk->bck", direction, basis)
        # The root's gradient is infinite at zero, where a window is at right angles to a class.
        return coordinates.square().sum(dim=2).clamp_min(1e-12).sqrt()

    def forward(self, embedding: Tensor, targets: Tensor, shares: Tensor) -> Tensor:
        """Mean loss of a batch, by the scale as this batch makes it."""
        cosine = self.similarities(embedding)
        labels = soft_labels(targets, shares, self.classes)
        follow_others(self.scale, cosine, labels)
        logits = self.scale.value * cosine
        return -(labels * logits.log_softmax(dim=1)).sum(dim=1).mean()
