"""What each step of a classification shows, and what it loses by it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from agent.recordings.held import forget_mapped
from trainer.encoders.base import Encoder
from trainer.fit.augment import (
    BATCH,
    ORDER,
    WINDOW,
    Augmenter,
    Mixture,
    Shown,
    mix,
    mixture_of,
    random_of,
)
from trainer.fit.classes import ClassPlan
from trainer.fit.config import TrainingConfig
from trainer.fit.frontend import FrontEnds
from trainer.fit.heads import Head
from trainer.fit.heads.base import AdaptiveScale
from trainer.fit.material import Material

if TYPE_CHECKING:
    from lightning_fabric import Fabric

# An epoch shows at least this many windows; a smaller training set is shown several times, each
# time rolled and mixed anew. Sixteen recordings would otherwise make ten steps of ten epochs.
WINDOWS_AN_EPOCH = 256


class ClassTask:
    """The classification, as the loop sees it.

    What a step shows depends on seed, epoch and step alone, so that a resumed training, or one of
    several processes, makes the same windows.
    """

    def __init__(
        self,
        name: str,
        encoder: Encoder,
        head: Head,
        material: Material,
        plan: ClassPlan,
        learnt: Sequence[int],
        held: Sequence[int],
        config: TrainingConfig,
        fabric: Fabric,
        fronts: FrontEnds,
        seed: int,
    ) -> None:
        self.name, self.head, self.config, self.fabric = name, head, config, fabric
        self.material, self.plan, self.fronts, self.seed = material, plan, fronts, seed
        self.learnt, self.held = list(learnt), list(held)
        self.augmenter = Augmenter(
            config.augment, plan.perturbations, encoder.sample_rate, material.noise
        )
        self.quantum = config.accumulate * fabric.world_size
        self._order: tuple[int, npt.NDArray[np.int64]] | None = None

    def steps(self) -> int:
        """Batches an epoch. A last batch less than half full is left out: batch norms need many."""
        size = self._size()
        full, rest = divmod(len(self.learnt) * self._times(), size)
        return full + (rest - rest % self.quantum >= max(2, size // 2))

    def losses(
        self, run: Callable[..., Tensor], epoch: int, step: int
    ) -> Sequence[Callable[[], Tensor]]:
        """The parts of a step's batch; one batch has one mixture and one choice of FeatEx."""
        order, size = self._epoch_order(epoch), self._size()
        batch = order[step * size : (step + 1) * size]
        batch = batch[: len(batch) - len(batch) % self.quantum]
        random = random_of(self.seed, epoch, BATCH, step)
        each = self.config.draw == "window"
        mixture = mixture_of(
            len(batch), self.config.mixup, self.config.mixup_alpha, random, each=each
        )
        drawn = random.random(len(batch) if each else 1) < self.config.feature_exchange
        exchange = np.broadcast_to(drawn, len(batch))
        part = len(batch) // self.config.accumulate
        forget_mapped()

        def loss_of(first: int) -> Callable[[], Tensor]:
            places = range(first, first + part)
            return lambda: self._loss(
                run, epoch, step, batch, places, mixture, exchange[first : first + part]
            )

        return [loss_of(first) for first in range(0, len(batch), part)]

    def held_loss(self, run: Callable[..., Tensor]) -> float | None:
        """Loss of the held-out windows as they are: not rolled, not mixed, not masked."""
        if not self.held:
            return None
        total, count = 0.0, 0
        world, rank = self.fabric.world_size, self.fabric.global_rank
        size = max(1, self.config.batch // self.quantum) * world
        for first in range(0, len(self.held), size):
            numbers = self.held[first : first + size]
            # Every process takes as many; what is shown twice to fill up is shown to all alike.
            numbers += numbers[:1] * (-len(numbers) % world)
            shown = [
                self.augmenter.plain(
                    self.material.waveforms[number],
                    random_of(self.seed, -1, WINDOW, number),
                )
                for number in numbers
            ]
            targets = self._targets(numbers, shown)[:, None]
            each = len(numbers) // world
            windows = torch.stack([s.waveform for s in shown[rank * each : (rank + 1) * each]])
            still = np.zeros(len(numbers), dtype=np.bool_)
            loss = self._call(run, windows, targets, torch.ones(len(numbers), 1), still)
            total += float(loss) * len(numbers)
            count += len(numbers)
        return total / count

    def scalars(self) -> dict[str, float]:
        """The adaptive scale, where the head has one."""
        scale = getattr(self.head, "scale", None)
        return {"scale": float(scale.value)} if isinstance(scale, AdaptiveScale) else {}

    def _loss(
        self,
        run: Callable[..., Tensor],
        epoch: int,
        step: int,
        batch: npt.NDArray[np.int64],
        places: range,
        mixture: Mixture,
        exchange: npt.NDArray[np.bool_],
    ) -> Tensor:
        """Loss of the batch's places; this process makes and encodes its own part of them."""
        each = len(places) // self.fabric.world_size
        mine = list(places[self.fabric.global_rank * each :][:each])
        partners = [mixture.order[place] for place in mine if mixture.shares[place] < 1]
        shown: dict[int, Shown] = {}
        for place in {*mine, *partners}:
            random = random_of(self.seed, epoch, WINDOW, step * self._size() + place)
            shown[place] = self.augmenter.show(
                self.material.waveforms[self.learnt[int(batch[place])]], random
            )
        own = self._labels(batch, places, epoch, step)
        shares = torch.ones(len(places), 1)
        targets = own[:, None]
        if mixture.mixed:
            other = self._labels(batch, [mixture.order[place] for place in places], epoch, step)
            targets = torch.stack([own, other], dim=1)
            shares = torch.tensor(
                [[share, 1 - share] for share in (mixture.shares[place] for place in places)]
            )
        self.fronts.masks = torch.stack([shown[place].masks for place in mine])
        try:
            return self._call(run, mix(shown, mine, mixture), targets, shares, exchange)
        finally:
            self.fronts.masks = None

    def _call(
        self,
        run: Callable[..., Tensor],
        windows: Tensor,
        targets: Tensor,
        shares: Tensor,
        exchange: npt.NDArray[np.bool_],
    ) -> Tensor:
        device = self.fabric.device
        return run(
            windows.to(device),
            targets.to(device),
            shares.to(device),
            torch.tensor(exchange, device=device),
        )

    def _labels(
        self, batch: npt.NDArray[np.int64], places: Sequence[int], epoch: int, step: int
    ) -> Tensor:
        """Classes of the batch's windows at some places, their distortions told as `show` will."""
        kinds = [
            self.augmenter.kind(random_of(self.seed, epoch, WINDOW, step * self._size() + place))
            for place in places
        ]
        numbers = [self.learnt[int(batch[place])] for place in places]
        return self._classes(numbers, kinds)

    def _targets(self, numbers: Sequence[int], shown: Sequence[Shown]) -> Tensor:
        return self._classes(numbers, [one.kind for one in shown])

    def _classes(self, numbers: Sequence[int], kinds: Sequence[int]) -> Tensor:
        labels = self.plan.labels[np.asarray(numbers)] * len(self.plan.perturbations)
        return torch.from_numpy(labels + np.asarray(kinds))

    def _size(self) -> int:
        """Windows of a full batch."""
        size = min(self.config.batch, len(self.learnt) * self._times())
        return max(self.quantum, size - size % self.quantum)

    def _times(self) -> int:
        """How often an epoch shows each window."""
        return max(1, math.ceil(WINDOWS_AN_EPOCH / len(self.learnt)))

    def _epoch_order(self, epoch: int) -> npt.NDArray[np.int64]:
        """Places in `learnt` as the epoch takes them: each set whole before it comes again."""
        if self._order is None or self._order[0] != epoch:
            random = random_of(self.seed, epoch, ORDER)
            rounds = [random.permutation(len(self.learnt)) for _ in range(self._times())]
            self._order = (epoch, np.concatenate(rounds))
        return self._order[1]
