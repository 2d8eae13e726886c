"""Train an autoencoder from scratch to restore healthy sound."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from rich.progress import Progress
from torch import Tensor, nn

from agent.bundle.manifest import Row
from agent.core.errors import AudioError, ConfigError
from agent.recordings.held import forget_mapped
from trainer.encoders.base import Encoder
from trainer.encoders.joined import Joined, Part
from trainer.encoders.reconstructing import Autoencoder
from trainer.fit.classes import plan_classes
from trainer.fit.classify import FitResult
from trainer.fit.config import TrainingConfig
from trainer.fit.heads import Head, make_head
from trainer.fit.loop import rate_factor
from trainer.fit.material import all_finite, hold_out

_HEARD_AT_ONCE = 16  # windows whose spectra are computed together: bounds the memory
_REPORT_EVERY = 50  # steps


def fit_autoencoder(
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

    The windows are heard once and kept as spectra; examples are drawn from those. Sound that two
    overlapping windows share is one example, not two. With `classification` above 0 the compressed
    form also learns to tell operating conditions apart, by the section's `head`, from mixed pairs.
    With `held_out`, that share of each domain's recordings is not learnt from, and export
    calibrates the threshold on those alone. The same arguments give the same encoder on the same
    number of threads; the global random state is left as it was.

    Args:
        encoder: What to train, an autoencoder; or a joined encoder, whose autoencoders are trained
            and whose other parts stay as they are.
        waveforms: Healthy windows, float32 `(n, window_samples)`.
        rows: Origin of each.
        config: The preset's `training` section; `batch` counts examples.
        machine: The machine's name.
        seed: Seed of everything random.
        progress: Where to show progress.

    Returns:
        Classes (0 without classification), their rule, and the losses.

    Raises:
        AudioError: A window holds values that aren't finite.
        ConfigError: There is no autoencoder, or the loss became infinite or undefined.
    """
    chosen = _restoring(encoder)
    if not chosen:
        raise ConfigError(
            f"{encoder.kind} restores nothing that an error could be measured of",
            where="training.kind",
            remedy="Set it to frozen or classify, or choose an autoencoder (ae, bigru, acae).",
        )
    if not all_finite(waveforms):
        raise AudioError(
            "a training window holds values that aren't finite",
            where=machine,
            remedy="Check the recordings with `auscult record --check` or leave the file out.",
        )
    labels, count, rule = None, 0, "no classes: healthy sound is restored"
    if config.classification:
        # Spectra heard once cannot be distorted anew, so the classes are those of the recordings.
        plan = plan_classes(
            rows,
            waveforms,
            machine=machine,
            rate=encoder.sample_rate,
            seed=seed,
            settings=config.classes,
            distort=False,
        )
        labels, count, rule = torch.from_numpy(plan.labels), len(plan.names), plan.rule
        if count < 2:
            labels, count = None, 0
            rule = "no classes: all recordings are of one; healthy sound is restored"
    held = _held_out(rows, config.held_out, seed)
    learnt = [i for i in range(len(rows)) if i not in held]
    found = []
    for number, (autoencoder, listen) in enumerate(chosen):
        with torch.no_grad():
            autoencoder.eval()
            parts = []
            for part in torch.split(waveforms, _HEARD_AT_ONCE):
                parts.append(autoencoder.hear(listen(part)))
                forget_mapped()
            heard = torch.cat(parts)
            autoencoder.prepare(heard[learnt])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + number)
            head = None if labels is None else make_head(autoencoder.code_dim, count, config)
            examples = fresh_weights(autoencoder, rows, learnt)
            found.append(
                _train(autoencoder, heard, examples, config, head, labels, machine, progress)
            )
        autoencoder.eval()
        autoencoder.settle(heard[learnt], [rows[i].domain for i in learnt])
    losses = [math.fsum(epoch) / len(epoch) for epoch in zip(*found, strict=True)]
    return FitResult(
        classes=count,
        class_rule=rule,
        losses=losses,
        held_out=tuple(sorted({f"{machine}/{rows[i].source}" for i in held})),
    )


def _held_out(rows: Sequence[Row], share: float, seed: int) -> set[int]:
    """Windows of the recordings that are not learnt from: a share of each domain's."""
    held: set[int] = set()
    for domain in sorted({row.domain for row in rows}):
        own = [i for i, row in enumerate(rows) if row.domain == domain]
        names = [rows[i].source for i in own]
        if len(set(names)) > 1:
            _, places = hold_out(names, [0] * len(own), share, seed)
            held.update(own[place] for place in places)
    return held


def _restoring(encoder: Encoder) -> list[tuple[Autoencoder, nn.Module]]:
    """The autoencoders in an encoder, each with what brings the waveform to its rate.

    The other parts of a joined encoder stay as they are.
    """
    if isinstance(encoder, Autoencoder):
        return [(encoder, nn.Identity())]
    if not isinstance(encoder, Joined):
        return []
    return [
        (part.encoder, part.resample)
        for part in encoder.parts
        if isinstance(part, Part) and isinstance(part.encoder, Autoencoder)
    ]


def fresh_weights(encoder: Autoencoder, rows: Sequence[Row], learnt: Sequence[int]) -> Tensor:
    """Window and place of every example that no earlier window holds, int64 `(m, 2)`."""
    if encoder.places == 1:
        windows = torch.tensor(learnt)
        return torch.stack([windows, torch.zeros_like(windows)], dim=1)
    seconds = encoder.window_samples / encoder.sample_rate
    ends: dict[str, float] = {}
    found: list[Tensor] = []
    for number in sorted(learnt, key=lambda i: (rows[i].source, rows[i].start)):
        row = rows[number]
        first = 0
        if row.source in ends:
            known = ends[row.source] - row.start - encoder.span_seconds
            first = max(0, math.floor(known / encoder.place_seconds + 1e-6) + 1)
        places = torch.arange(min(first, encoder.places), encoder.places)
        found.append(torch.stack([torch.full_like(places, number), places], dim=1))
        ends[row.source] = row.start + seconds
    return torch.cat(found)


def _train(
    encoder: Autoencoder,
    heard: Tensor,
    examples: Tensor,
    config: TrainingConfig,
    head: Head | None,
    labels: Tensor | None,
    machine: str,
    progress: Progress | None,
) -> list[float]:
    """The epochs; gives the mean loss of each."""
    parameters = [p for p in encoder.parameters() if p.requires_grad]
    if head is not None:
        parameters.extend(head.parameters())
    made = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    # Fused: one call a step instead of a dozen a parameter. The networks are small, the steps many.
    optimizer = made(
        parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    size = min(config.batch, len(examples))
    # A last batch less than half full is left out: batch norms need many.
    steps = len(examples) // size + (len(examples) % size >= max(2, size // 2))
    task = None
    if progress is not None:
        task = progress.add_task(f"training {machine}", total=config.epochs * steps)
    encoder.train()
    losses: list[float] = []
    for epoch in range(config.epochs):
        order = examples[torch.randperm(len(examples))]
        total = torch.zeros(())
        for step, chosen in enumerate(torch.split(order, size)[:steps], start=1):
            factor = rate_factor(epoch * steps + step - 1, config.epochs * steps, config)
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * factor
            optimizer.zero_grad(set_to_none=True)
            batch = encoder.examples(heard, chosen[:, 0], chosen[:, 1])
            if head is None or labels is None:
                restored, _ = encoder.reconstruct(batch)
                loss = nn.functional.mse_loss(restored, batch)
            else:
                loss = _mixed_loss(encoder, head, batch, labels[chosen[:, 0]], config)
            torch.autograd.backward(loss)
            optimizer.step()
            total += loss.detach()
            if progress is not None and task is not None and step % _REPORT_EVERY == 0:
                progress.advance(task, _REPORT_EVERY)
        mean = float(total) / steps
        if not math.isfinite(mean):
            raise ConfigError(
                f"the loss became {mean} in epoch {epoch + 1}",
                where="training.learning_rate",
                remedy=f"Lower it (it is {config.learning_rate:g}).",
            )
        losses.append(mean)
        if progress is not None and task is not None:
            text = f"training {machine}, epoch {epoch + 1}, loss {mean:.3f}"
            progress.update(task, completed=(epoch + 1) * steps, description=text)
    return losses


def _mixed_loss(
    encoder: Autoencoder,
    head: Head,
    batch: Tensor,
    labels: Tensor,
    config: TrainingConfig,
) -> Tensor:
    """Squared error of mixed examples, and the classification loss of their compressed form."""
    other = torch.randperm(len(batch))
    part = torch.distributions.Beta(config.mixup_alpha, config.mixup_alpha).sample((len(batch),))
    shape = (-1, *[1] * (batch.dim() - 1))
    mixed = part.reshape(shape) * batch + (1 - part).reshape(shape) * batch[other]
    restored, code = encoder.reconstruct(mixed)
    targets = torch.stack([labels, labels[other]], dim=1)
    told_apart: Tensor = head(code, targets, torch.stack([part, 1 - part], dim=1))
    return nn.functional.mse_loss(restored, mixed) + config.classification * told_apart
