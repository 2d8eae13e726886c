"""Train an encoder from scratch by letting it tell operating conditions apart."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from rich.progress import Progress
from torch import Tensor

from agent.bundle.manifest import Row
from agent.errors import AudioError, ConfigError
from trainer.encoders.base import Encoder
from trainer.fit.classes import ClassPlan, plan_classes
from trainer.fit.margin import AngularMargin
from trainer.fit.perturb import perturb
from trainer.preset import TrainingConfig

# An epoch shows at least this many windows; a smaller training set is shown several times, each
# time rolled and mixed anew. Sixteen recordings would otherwise make ten steps of ten epochs.
WINDOWS_AN_EPOCH = 256
_WEIGHT_DECAY = 1e-5


@dataclass(frozen=True, slots=True)
class FitResult:
    """What a training did.

    Attributes:
        classes: Classes told apart; 0 when nothing was trained.
        class_rule: What they were, in words.
        losses: Mean loss of each epoch (over the members of an ensemble).
    """

    classes: int
    class_rule: str
    losses: list[float] = field(default_factory=list)


def fit_classifier(
    encoder: Encoder,
    waveforms: Tensor,
    rows: Sequence[Row],
    config: TrainingConfig,
    *,
    machine: str,
    seed: int,
    progress: Progress | None = None,
) -> FitResult:
    """Train `encoder` in place, and leave it in evaluation mode.

    Each step takes windows, rolls each by a random time, distorts it where the class plan asks,
    mixes a share of the batches with themselves in another order (mixup, Zhang et al. 2018), and
    lowers the angular-margin loss by Adam. The members of an ensemble are trained one after
    another with seeds of their own. The same arguments give the same encoder on the same number of
    threads; the global random state is left as it was.

    Args:
        encoder: What to train.
        waveforms: Healthy windows, float32 `(n, window_samples)`.
        rows: Origin of each.
        config: The preset's `training` section.
        machine: The machine's name.
        seed: Seed of everything random.
        progress: Where to show progress.

    Returns:
        Classes, their rule, and the losses.

    Raises:
        AudioError: A window holds values that aren't finite.
        ConfigError: The loss became infinite or undefined, or the encoder has nothing to train.
    """
    if not bool(torch.isfinite(waveforms).all()):
        raise AudioError(
            "a training window holds values that aren't finite",
            where=machine,
            remedy="Remove the recording it comes from.",
        )
    plan = plan_classes(rows, waveforms, machine=machine, rate=encoder.sample_rate, seed=seed)
    members = encoder.members()
    curves: list[list[float]] = []
    for index, member in enumerate(members):
        name = machine if len(members) == 1 else f"{machine} {index + 1}/{len(members)}"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + 7919 * index)
            fit = _Fit(member, waveforms, plan, config, seed=seed + 7919 * index)
            curves.append(fit.run(name, progress))
    encoder.eval()
    losses = [math.fsum(epoch) / len(epoch) for epoch in zip(*curves, strict=True)]
    return FitResult(classes=plan.count, class_rule=plan.rule, losses=losses)


class _Fit:
    """The training of one model."""

    def __init__(
        self,
        encoder: Encoder,
        waveforms: Tensor,
        plan: ClassPlan,
        config: TrainingConfig,
        *,
        seed: int,
    ) -> None:
        self.encoder, self.waveforms, self.plan, self.config = encoder, waveforms, plan, config
        self.labels = torch.from_numpy(plan.labels)
        self.random = torch.Generator().manual_seed(seed)
        # FeatEx triples the classes: as they are, first branch's, other branches'.
        self.exchanges = config.feature_exchange > 0
        self.loss = AngularMargin(
            encoder.dim,
            plan.count * (3 if self.exchanges else 1),
            margin=config.margin,
            scale=config.scale,
            subcentres=config.subcentres,
        )

    def run(self, name: str, progress: Progress | None) -> list[float]:
        """Train for the configured epochs; gives the mean loss of each."""
        trained = [p for p in self.encoder.parameters() if p.requires_grad]
        if not trained:
            raise ConfigError(
                f"the encoder {self.encoder.kind} has nothing to train",
                where="training.kind",
                remedy="Set it to frozen.",
            )
        decayed: list[Tensor] = [p for p in trained if p.dim() > 1]
        rest: list[Tensor] = [p for p in trained if p.dim() <= 1]
        rest.extend(self.loss.parameters())
        groups: list[dict[str, Any]] = [
            {"params": decayed, "weight_decay": _WEIGHT_DECAY},
            {"params": rest},
        ]
        optimizer = torch.optim.Adam(groups, lr=self.config.learning_rate)
        steps = self.config.epochs * self._steps()
        task = progress.add_task(f"training {name}", total=steps) if progress else None
        self.encoder.train()
        losses: list[float] = []
        for epoch in range(self.config.epochs):
            found: list[float] = []
            for batch in self._batches():
                optimizer.zero_grad(set_to_none=True)
                loss = self._loss(batch)
                value = float(loss.detach())
                if not math.isfinite(value):
                    raise ConfigError(
                        f"the loss became {value} in epoch {epoch + 1}",
                        where="training.learning_rate",
                        remedy=f"Lower it (it is {self.config.learning_rate:g}) or the margin.",
                    )
                torch.autograd.backward(loss)
                optimizer.step()
                found.append(value)
                if progress and task is not None:
                    text = f"training {name}, epoch {epoch + 1}, loss {value:.3f}"
                    progress.update(task, advance=1, description=text)
            losses.append(math.fsum(found) / len(found))
        self.encoder.eval()
        return losses

    def _steps(self) -> int:
        """Batches an epoch. A last batch less than half full is left out: batch norms need many."""
        windows, times = len(self.waveforms), self._times()
        size = min(self.config.batch, windows * times)
        full, rest = divmod(windows * times, size)
        return full + (rest >= max(2, size // 2))

    def _times(self) -> int:
        """How often an epoch shows each window."""
        return max(1, math.ceil(WINDOWS_AN_EPOCH / len(self.waveforms)))

    def _batches(self) -> Iterator[Tensor]:
        """Window numbers of one epoch, shuffled, in batches."""
        windows = len(self.waveforms)
        shuffled = [torch.randperm(windows, generator=self.random) for _ in range(self._times())]
        order = torch.cat(shuffled)
        return iter(torch.split(order, min(self.config.batch, len(order)))[: self._steps()])

    def _loss(self, batch: Tensor) -> Tensor:
        windows, targets = self._windows(batch)
        shares = torch.ones(len(batch), 1)
        targets = targets[:, None]
        if self._chance() < self.config.mixup:
            part = self._chance()
            order = torch.randperm(len(batch), generator=self.random)
            windows = part * windows + (1 - part) * windows[order]
            targets = torch.cat([targets, targets[order]], dim=1)
            shares = torch.cat([part * shares, (1 - part) * shares], dim=1)
        branches = self.encoder.branches(windows)
        if self.exchanges and len(branches) > 1 and self._chance() < self.config.feature_exchange:
            # FeatEx (Wilkinghoff, ICASSP 2024, eq. 5): the first branch keeps its window, the
            # others see the window from the batch's other end.
            branches = (branches[0], *(branch.flip(0) for branch in branches[1:]))
            count = self.plan.count
            targets = torch.cat([targets + count, targets.flip(0) + 2 * count], dim=1)
            shares = torch.cat([shares / 2, shares.flip(0) / 2], dim=1)
        loss: Tensor = self.loss(torch.cat(branches, dim=1), targets, shares)
        return loss

    def _windows(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """The windows, rolled (a window has no natural beginning) and distorted; their classes."""
        windows, targets = [], []
        kinds = self.plan.perturbations
        for number in batch.tolist():
            window = self.waveforms[number]
            shift = int(torch.randint(window.shape[0], (), generator=self.random))
            kind = int(torch.randint(len(kinds), (), generator=self.random))
            window = torch.roll(window, shift)
            windows.append(perturb(window, kinds[kind], self.encoder.sample_rate, self.random))
            targets.append(int(self.labels[number]) * len(kinds) + kind)
        return torch.stack(windows), torch.tensor(targets)

    def _chance(self) -> float:
        return float(torch.rand((), generator=self.random))
