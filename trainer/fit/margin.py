"""Angular-margin classification loss (ArcFace with sub-centres) for labels that may be shared.

Deng et al., "ArcFace", CVPR 2019 (eq. 3) and "Sub-center ArcFace", ECCV 2020.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class AngularMargin(nn.Module):
    """Cross-entropy of scaled cosines to class centres, with a margin on the target's angle.

    A class's cosine is the largest over its sub-centres. The target's cos(t) becomes cos(t + m)
    where cos(t) > 0 and stays as it is elsewhere ("easy margin"): past a right angle the margin
    would turn the gradient round. Only the target gets the margin.

    A window that is a mixture has several targets with shares that sum to one. Its loss is the
    mean, weighted by share, of the losses it would have with each target alone, each with that
    target's own margin. Without a margin this is the cross-entropy to the soft label.

    Args:
        dim: Length of the embedding.
        classes: Classes.
        margin: m, radians.
        scale: Factor s of the cosines.
        subcentres: Centres a class.
    """

    def __init__(
        self, dim: int, classes: int, *, margin: float, scale: float, subcentres: int = 1
    ) -> None:
        super().__init__()
        self.classes, self.subcentres = classes, subcentres
        self.margin, self.scale = margin, scale
        self.centres = nn.Parameter(torch.empty(classes * subcentres, dim))
        nn.init.xavier_uniform_(self.centres)

    def cosines(self, embedding: Tensor) -> Tensor:
        """Cosine to each class, `(batch, classes)`."""
        directions = nn.functional.normalize(self.centres, dim=1)
        cosine = nn.functional.normalize(embedding, dim=1) @ directions.T
        return cosine.reshape(-1, self.classes, self.subcentres).amax(dim=2)

    def forward(self, embedding: Tensor, targets: Tensor, shares: Tensor) -> Tensor:
        """Mean loss of a batch.

        Args:
            embedding: `(batch, dim)`.
            targets: Class numbers, int64 `(batch, t)`.
            shares: Share of each target, `(batch, t)`, rows summing to one.

        Returns:
            A scalar.
        """
        cosine = self.cosines(embedding)
        loss = embedding.new_zeros(embedding.shape[0])
        for target, share in zip(targets.unbind(1), shares.unbind(1), strict=True):
            logits = self.scale * self._with_margin(cosine, target)
            one = nn.functional.cross_entropy(logits, target, reduction="none")
            loss = loss + share * one
        return loss.mean()

    def _with_margin(self, cosine: Tensor, target: Tensor) -> Tensor:
        own = cosine.gather(1, target[:, None])
        # The floor keeps the gradient of the root finite where the angle is zero.
        sine = torch.sqrt((1 - own * own).clamp_min(1e-6))
        turned = own * math.cos(self.margin) - sine * math.sin(self.margin)
        return cosine.scatter(1, target[:, None], torch.where(own > 0, turned, own))
