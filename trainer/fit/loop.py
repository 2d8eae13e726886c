"""The training loop: steps, schedule, held-out loss, checkpoints, logs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from rich.progress import Progress
from torch import Tensor, nn

from agent.core.errors import ConfigError
from trainer.fit.checkpoint import Checkpoints, Snapshot, TrainingState
from trainer.fit.config import TrainingConfig

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from lightning_fabric.wrappers import _FabricModule, _FabricOptimizer

# Within an epoch a checkpoint is written when the last is this old, seconds.
SAVE_EVERY = 600.0


class Task(Protocol):
    """What is learnt: it knows the data, the loop does not."""

    name: str

    def steps(self) -> int:
        """Steps an epoch."""
        ...

    def losses(
        self, run: Callable[..., Tensor], epoch: int, step: int
    ) -> Sequence[Callable[[], Tensor]]:
        """The parts of one step, each of which gives its mean loss when called."""
        ...

    def held_loss(self, run: Callable[..., Tensor]) -> float | None:
        """Loss of what was held out; None when nothing was."""
        ...

    def scalars(self) -> dict[str, float]:
        """Further values for the log."""
        ...


@dataclass(frozen=True, slots=True)
class Curve:
    """What one model's training showed.

    Attributes:
        losses: Mean loss of each epoch.
        held_losses: Held-out loss of each epoch; empty when nothing was held out.
        best_epoch: Epoch whose weights were kept, counted from 1; None for the last.
    """

    losses: tuple[float, ...]
    held_losses: tuple[float, ...] = ()
    best_epoch: int | None = None


def rate_factor(step: int, steps: int, config: TrainingConfig) -> float:
    """Share of the largest step size at a step, counted from 0: linear warm-up, then the schedule.

    Args:
        step: The step.
        steps: Steps of the whole training.
        config: The preset's `training` section.
    """
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return 1.0
    done = (step - config.warmup_steps) / max(1, steps - config.warmup_steps)
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))


def make_optimizer(
    module: nn.Module, head: nn.Module, config: TrainingConfig
) -> torch.optim.Optimizer:
    """Adam or AdamW; weight decay on the encoder's matrices and kernels only."""
    trained = [p for p in module.parameters() if p.requires_grad]
    decayed = [p for p in trained if p.dim() > 1]
    rest = [p for p in trained if p.dim() <= 1]
    centres = [p for p in head.parameters() if p.requires_grad]
    made = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return made(
        [
            {"params": decayed, "weight_decay": config.weight_decay, "factor": 1.0},
            {"params": rest, "weight_decay": 0.0, "factor": 1.0},
            {"params": centres, "weight_decay": 0.0, "factor": config.head_rate},
        ],
        lr=config.learning_rate,
    )


class Loop:
    """Trains one model.

    Args:
        fabric: The engine, launched.
        whole: The encoder whose state is saved; `model`'s, or the ensemble that it is one of.
        config: The preset's `training` section.
        state: Where to begin.
        checkpoints: Where to save; None for nowhere.
        logs: Folder of TensorBoard's logs; None for none.
        seed: Seeds what an encoder itself draws (dropout).
        progress: Where to show progress.
        ended: Called with how many epochs have ended, after each and before it is saved.
    """

    def __init__(
        self,
        fabric: Fabric,
        whole: nn.Module,
        config: TrainingConfig,
        state: TrainingState,
        *,
        checkpoints: Checkpoints | None,
        logs: Path | None,
        seed: int,
        progress: Progress | None,
        ended: Callable[[int], None] | None = None,
    ) -> None:
        self.ended = ended
        self.fabric, self.whole, self.config, self.state = fabric, whole, config, state
        self.checkpoints, self.logs, self.seed, self.progress = checkpoints, logs, seed, progress
        self._saved = time.monotonic()
        self._best: dict[str, Tensor] | None = None

    def run(
        self,
        objective: nn.Module,
        encoder: nn.Module,
        head: nn.Module,
        task: Task,
        resumed: Snapshot | None,
    ) -> Curve:
        """Train for the configured epochs, from where the state says.

        Args:
            objective: What gives the loss; holds `encoder` and `head`.
            encoder: The model.
            head: Its loss.
            task: What it learns.
            resumed: The checkpoint's tensors; None at the beginning.

        Raises:
            ConfigError: The loss became infinite or undefined.
        """
        optimizer = make_optimizer(encoder, head, self.config)
        if resumed is not None:
            self.whole.load_state_dict(resumed.encoder, strict=False)
            head.load_state_dict(resumed.head)
            self._best = resumed.best
        run, stepper = self.fabric.setup(objective, optimizer)
        if resumed is not None:
            optimizer.load_state_dict(resumed.optimizer["optimizer"])
            self.fabric.strategy.precision.load_state_dict(resumed.optimizer["precision"])
        steps = task.steps()
        total = steps * self.config.epochs
        shown = self._show(task.name, self.state.epoch * steps + self.state.step, total)
        writer = self._writer(self.state.epoch * steps + self.state.step)
        while self.state.epoch < self.config.epochs and not self._enough():
            run.train()
            found = list(self.state.found)
            for step in range(self.state.step, steps):
                at = self.state.epoch * steps + step
                value, norm = self._step(run, stepper, task, step, at, total)
                found.append(value)
                shown(self.state.epoch, value)
                if writer:
                    writer.add_scalar("loss/step", value, at)
                    writer.add_scalar("learning_rate", optimizer.param_groups[0]["lr"], at)
                    if norm is not None:
                        writer.add_scalar("gradient_norm", norm, at)
                    for name, scalar in task.scalars().items():
                        writer.add_scalar(name, scalar, at)
                if step + 1 < steps and self._stale():
                    self._turn(step=step + 1, found=tuple(found))
                    self._save(head, optimizer)
            self._end_epoch(run, task, found, writer)
            if self.ended is not None:
                self.ended(self.state.epoch)
            self._save(head, optimizer)
        if writer:
            writer.close()
        if self._best is not None and self.state.best_epoch is not None:
            self.whole.load_state_dict(self._best, strict=False)
        kept = None if self.state.best_epoch is None else self.state.best_epoch + 1
        return Curve(self.state.losses, self.state.held_losses, kept)

    def _step(
        self,
        run: _FabricModule,
        stepper: _FabricOptimizer,
        task: Task,
        step: int,
        at: int,
        total: int,
    ) -> tuple[float, float | None]:
        """One step of the optimizer: its loss, and the norm of its gradient where that is bound."""
        rate = self.config.learning_rate * rate_factor(at, total, self.config)
        for group in stepper.param_groups:
            group["lr"] = rate * group["factor"]
        # What an encoder draws for itself follows from the step, so that a resumed one agrees.
        torch.manual_seed((self.seed * 1_000_003 + at) * 64 + self.fabric.global_rank)
        stepper.zero_grad(set_to_none=True)
        parts = task.losses(run, self.state.epoch, step)
        value = 0.0
        for index, part in enumerate(parts):
            with self.fabric.no_backward_sync(run, enabled=index + 1 < len(parts)):
                loss = part() / len(parts)
                value += float(loss.detach())
                if not math.isfinite(value):
                    raise ConfigError(
                        f"the loss became {value} in epoch {self.state.epoch + 1}",
                        where="training.learning_rate",
                        remedy=f"Lower it (it is {self.config.learning_rate:g}) or the margin.",
                    )
                self.fabric.backward(loss)
        norm: float | None = None
        if self.config.clip_norm is not None:
            clipped = self.fabric.clip_gradients(
                run, stepper, max_norm=self.config.clip_norm, error_if_nonfinite=False
            )
            norm = None if clipped is None else float(clipped)
        stepper.step()
        return value, norm

    def _end_epoch(
        self, run: _FabricModule, task: Task, found: Sequence[float], writer: Any
    ) -> None:
        epoch = self.state.epoch
        loss = math.fsum(found) / len(found)
        run.eval()
        with torch.no_grad():
            held = task.held_loss(run)
        if writer:
            writer.add_scalar("loss/epoch", loss, epoch + 1)
            if held is not None:
                writer.add_scalar("loss/held_out", held, epoch + 1)
        update: dict[str, Any] = {}
        if held is not None:
            best = self.state.best_epoch
            if best is None or held < self.state.held_losses[best]:
                update["best_epoch"] = epoch
                self._best = {k: v.detach().clone() for k, v in self._tensors().items()}
            update["held_losses"] = (*self.state.held_losses, held)
        self._turn(epoch=epoch + 1, step=0, found=(), losses=(*self.state.losses, loss), **update)

    def _enough(self) -> bool:
        """Whether patience is at an end."""
        if self.config.patience is None or self.state.best_epoch is None:
            return False
        return self.state.epoch - self.state.best_epoch > self.config.patience

    def _turn(self, **update: Any) -> None:
        self.state = self.state.model_copy(update=update)

    def _stale(self) -> bool:
        return self.checkpoints is not None and time.monotonic() - self._saved > SAVE_EVERY

    def _tensors(self) -> dict[str, Tensor]:
        """What training changes in the encoder: parameters that learn, and buffers."""
        fixed = {name for name, p in self.whole.named_parameters() if not p.requires_grad}
        return {k: v for k, v in self.whole.state_dict().items() if k not in fixed}

    def _save(self, head: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self._saved = time.monotonic()
        if self.checkpoints is None or not self.fabric.is_global_zero:
            return
        self.checkpoints.save(
            self.state,
            Snapshot(
                encoder=self._tensors(),
                head=head.state_dict(),
                best=self._best,
                optimizer={
                    "optimizer": optimizer.state_dict(),
                    "precision": self.fabric.strategy.precision.state_dict(),
                },
            ),
        )

    def _writer(self, step: int) -> Any:
        if self.logs is None or not self.fabric.is_global_zero:
            return None
        # TensorBoard takes seconds to import.
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415

        folder = self.logs / f"member{self.state.member}" if self.state.member else self.logs
        return SummaryWriter(str(folder), purge_step=step)

    def _show(self, name: str, done: int, total: int) -> Callable[[int, float], None]:
        progress = self.progress
        if progress is None:
            return lambda _epoch, _loss: None
        bar = progress.add_task(f"training {name}", total=total, completed=done)

        def show(epoch: int, loss: float) -> None:
            text = f"training {name}, epoch {epoch + 1}, loss {loss:.3f}"
            progress.update(bar, advance=1, description=text)

        return show
