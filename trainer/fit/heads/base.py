"""What every classification loss offers, and the scale that some of them adapt."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Protocol

import torch
from torch import Tensor, nn

# Two classes start AdaCos at sqrt(2) ln 1 = 0, and a scale of zero learns nothing.
LEAST_SCALE = 1.0
# A scale may grow this many times its start and no further. Sub-cluster AdaCos counts the target's
# own logits, so each step can raise the scale, and with it the logits that raise the next one.
MOST_GROWTH = 2.0


class Gather(Protocol):
    """Collects a batch's parts from all processes, in order; gradients flow back."""

    def __call__(self, part: Tensor) -> Tensor:
        """`(n, ...)` of this process to `(processes * n, ...)`."""
        ...


class Head(nn.Module, ABC):
    """A loss with weights of its own that leaves with the training.

    A window that is a mixture has several targets with shares that sum to one.
    """

    classes: int

    @abstractmethod
    def similarities(self, embedding: Tensor) -> Tensor:
        """Cosine to each class, `(batch, dim)` to `(batch, classes)`; the largest is the guess."""

    @abstractmethod
    def forward(self, embedding: Tensor, targets: Tensor, shares: Tensor) -> Tensor:
        """Mean loss of a batch.

        Args:
            embedding: `(batch, dim)`.
            targets: Class numbers, int64 `(batch, t)`; the first is the window's own.
            shares: Share of each target, `(batch, t)`, rows summing to one.

        Returns:
            A scalar.
        """


def soft_labels(targets: Tensor, shares: Tensor, classes: int) -> Tensor:
    """Targets and shares as one row of probabilities a window, `(batch, classes)`."""
    return shares.new_zeros(len(targets), classes).scatter_add(1, targets, shares)


def start_scale(centres: int) -> float:
    """AdaCos' first scale (Zhang et al., CVPR 2019, eq. 11): sqrt(2) ln(centres - 1)."""
    return max(LEAST_SCALE, math.sqrt(2.0) * math.log(max(centres - 1, 1)))


class AdaptiveScale(nn.Module):
    """The logits' scale, following the batch (AdaCos eq. 13, 15).

    Args:
        centres: Centres in all, for the start.
        adaptive: Whether it changes at all.
    """

    def __init__(self, centres: int, *, adaptive: bool) -> None:
        super().__init__()
        self.adaptive = adaptive
        self.start = start_scale(centres)
        self.value: Tensor
        self.register_buffer("value", torch.tensor(self.start))

    @torch.no_grad()
    def follow(self, others: Tensor, angle: Tensor) -> None:
        """Adapt to a batch, in training only.

        Args:
            others: Logarithm of the sum of exp(scale cos) that the scale is chosen against, a
                value a window, `(batch,)`.
            angle: Angle of each window to its own class, radians, `(batch,)`.
        """
        if not (self.adaptive and self.training):
            return
        average = torch.logsumexp(others.double(), dim=0) - math.log(len(others))
        middle = angle.double().median().clamp(max=math.pi / 4)
        wanted = average / torch.cos(middle)
        if bool(torch.isfinite(wanted)):
            bounded = wanted.clamp(LEAST_SCALE, MOST_GROWTH * self.start)
            self.value.copy_(bounded.to(self.value.dtype))
