"""From windows to a loss: the encoder and its head as one module, so that an engine can wrap it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed, nn

from agent.core.errors import ConfigError
from trainer.encoders.base import Encoder
from trainer.fit.adapters import train_mode
from trainer.fit.heads import Head

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class Objective(nn.Module):
    """The loss of a batch that is spread over the processes.

    Each process encodes its part; the embeddings are gathered (with their gradients), and every
    process works out the loss of the whole batch. So FeatEx, the adaptive scales and the mean are
    what one process would make of it.

    Args:
        encoder: What is trained.
        head: The loss.
        fabric: The engine, launched.
        classes: Classes without those of FeatEx.
    """

    def __init__(self, encoder: Encoder, head: Head, fabric: Fabric, classes: int) -> None:
        super().__init__()
        self.encoder, self.head, self.classes = encoder, head, classes
        self._fabric = fabric

    def forward(self, windows: Tensor, targets: Tensor, shares: Tensor, exchange: Tensor) -> Tensor:
        """Mean loss of a batch.

        Args:
            windows: This process's part, `(n, samples)`.
            targets: Classes of the whole batch, int64 `(processes * n, t)`.
            shares: Their shares, `(processes * n, t)`.
            exchange: Whose branches are exchanged, of the whole batch, bool `(processes * n,)`.

        Returns:
            A scalar, the same in every process.

        Raises:
            ConfigError: Branches are to be exchanged, and there is one.
        """
        branches = self.encoder.branches(windows)
        exchanged = bool(exchange.any())
        if exchanged and len(branches) < 2:
            raise ConfigError(
                f"this encoder ({self.encoder.kind}) has one branch, so there is nothing to "
                "exchange it with",
                where="training.feature_exchange",
                remedy="Set it to 0. dual_path in one piece, and joined encoders trained together, "
                "have several branches.",
            )
        with torch.autocast(windows.device.type, enabled=False):
            parts = [self._gather(branch.float()) for branch in branches]
            if exchanged:
                # FeatEx (Wilkinghoff, ICASSP 2024, eq. 5): the first branch keeps its window, the
                # others see the window from the batch's other end.
                here = exchange[:, None]
                parts = [parts[0], *(torch.where(here, p.flip(0), p) for p in parts[1:])]
                first = torch.where(here, targets + self.classes, targets)
                targets = torch.cat([first, targets.flip(0) + 2 * self.classes], dim=1)
                half = here * 0.5
                shares = torch.cat([shares * (1 - half), shares.flip(0) * half], dim=1)
            loss: Tensor = self.head(torch.cat(parts, dim=1), targets, shares)
        return loss

    def train(self, mode: bool = True) -> Objective:
        """Training mode, but for what was pre-trained (see `adapters.train_mode`)."""
        super().train(mode)
        if mode:
            train_mode(self.encoder)
        return self

    def _gather(self, part: Tensor) -> Tensor:
        if self._fabric.world_size == 1:
            return part
        gathered: Tensor = _Gather.apply(  # type: ignore[no-untyped-call]
            part, self._fabric.global_rank, self._fabric.world_size
        )
        return gathered


class _Gather(torch.autograd.Function):
    """Every process's part of a batch, in order.

    Each process works out the same loss from the same embeddings, so each knows the gradient of
    every part. What reaches the weights is averaged over the processes afterwards, so a part's own
    gradient counts as often as there are processes.
    """

    @staticmethod
    def forward(ctx: Any, part: Tensor, rank: int, world: int) -> Tensor:
        ctx.rank, ctx.world = rank, world
        parts = [torch.empty_like(part) for _ in range(world)]
        distributed.all_gather(parts, part.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0].chunk(ctx.world)[ctx.rank] * ctx.world, None, None
