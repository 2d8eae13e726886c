"""ArcFace with sub-centres, and noisy-ArcMix, for labels that may be shared.

Deng et al., "ArcFace", CVPR 2019 (eq. 3) and "Sub-center ArcFace", ECCV 2020.
Choi and Choi, "Noisy-ArcMix: additive noisy angular margin loss combined with mixup for anomalous
sound detection", ICASSP 2024.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from trainer.fit.heads.base import Head


class ArcFace(Head):
    """Cross-entropy of scaled cosines to class centres, with a margin on the target's angle.

    A class's cosine is the largest over its sub-centres. The target's cos(t) becomes cos(t + m);
    past a right angle it stays as it is ("easy margin"), or past pi - m it becomes
    cos(t) - m sin(m), since there the margin would turn the gradient round. Only the target gets
    the margin.

    Of a mixture the loss is the mean, weighted by share, of the losses it would have with each
    target alone, each with that target's own margin. Without a margin this is the cross-entropy
    to the soft label.

    Args:
        dim: Length of the embedding.
        classes: Classes.
        margin: m, radians.
        scale: Factor s of the cosines.
        subcentres: Centres a class.
        easy: Whether the margin ends at a right angle.
    """

    def __init__(
        self,
        dim: int,
        classes: int,
        *,
        margin: float,
        scale: float,
        subcentres: int = 1,
        easy: bool = True,
    ) -> None:
        super().__init__()
        self.classes, self.subcentres = classes, subcentres
        self.margin, self.scale, self.easy = margin, scale, easy
        self.centres = nn.Parameter(torch.empty(classes * subcentres, dim))
        nn.init.xavier_uniform_(self.centres)

    def similarities(self, embedding: Tensor) -> Tensor:
        """Cosine to each class's nearest centre."""
        directions = nn.functional.normalize(self.centres, dim=1)
        cosine = nn.functional.normalize(embedding, dim=1) @ directions.T
        return cosine.reshape(-1, self.classes, self.subcentres).amax(dim=2)

    def forward(self, embedding: Tensor, targets: Tensor, shares: Tensor) -> Tensor:
        """Mean loss of a batch."""
        cosine = self.similarities(embedding)
        loss = embedding.new_zeros(embedding.shape[0])
        for target, share in zip(targets.unbind(1), shares.unbind(1), strict=True):
            logits = self.scale * self.with_margin(cosine, target)
            one = nn.functional.cross_entropy(logits, target, reduction="none")
            loss = loss + share * one
        return loss.mean()

    def with_margin(self, cosine: Tensor, target: Tensor) -> Tensor:
        """The cosines `(batch, classes)`, that of each window's target turned by the margin."""
        own = cosine.gather(1, target[:, None])
        # The floor keeps the gradient of the root finite where the angle is zero.
        sine = torch.sqrt((1 - own * own).clamp_min(1e-6))
        turned = own * math.cos(self.margin) - sine * math.sin(self.margin)
        if self.easy:
            turned = torch.where(own > 0, turned, own)
        else:
            past = own - self.margin * math.sin(self.margin)
            turned = torch.where(own > math.cos(math.pi - self.margin), turned, past)
        return cosine.scatter(1, target[:, None], turned)


class NoisyArcMix(ArcFace):
    """ArcFace in which a mixture gets its margin on its first target alone.

    With labels y_a and y_b and share l: l CE(z, y_a) + (1 - l) CE(z, y_b), where only z's entry
    y_a has the margin. The second label is then told apart without one, as noise would be.
    """

    def forward(self, embedding: Tensor, targets: Tensor, shares: Tensor) -> Tensor:
        """Mean loss of a batch."""
        logits = self.scale * self.with_margin(self.similarities(embedding), targets[:, 0])
        chosen = logits.log_softmax(dim=1).gather(1, targets)
        return -(shares * chosen).sum(dim=1).mean()
