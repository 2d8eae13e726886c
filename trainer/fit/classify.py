"""Train an encoder by letting it tell operating conditions apart."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import Progress
from torch import Tensor

from agent.bundle.manifest import Row
from agent.core.errors import AudioError, ConfigError
from agent.recordings.held import forget_mapped
from trainer.encoders.base import Encoder
from trainer.fit.adapters import Tuning, leave_unused
from trainer.fit.checkpoint import Checkpoints, Snapshot, TrainingState
from trainer.fit.classes import ClassPlan, plan_classes
from trainer.fit.config import TrainingConfig
from trainer.fit.engine import make_engine
from trainer.fit.epochs import EpochParts
from trainer.fit.frontend import FrontEnds
from trainer.fit.heads import make_head
from trainer.fit.loop import Curve, Loop
from trainer.fit.material import Material, all_finite, hold_out, own_material
from trainer.fit.objective import Objective
from trainer.fit.task import ClassTask
from trainer.zoo.encoder import PretrainedEncoder

if TYPE_CHECKING:
    from lightning_fabric import Fabric

CHECKPOINT = "checkpoint"
LOGS = "logs"


@dataclass(frozen=True, slots=True)
class FitResult:
    """What a training did.

    Attributes:
        classes: Classes told apart; 0 when nothing was trained.
        class_rule: What they were, in words.
        losses: Mean loss of each epoch (over the members of an ensemble, as long as all trained).
        held_losses: The same of what was held out; empty when nothing was.
        held_out: Recordings that were.
        best_epochs: Epoch whose weights each member kept, counted from 1; empty for the last.
    """

    classes: int
    class_rule: str
    losses: list[float] = field(default_factory=list)
    held_losses: list[float] = field(default_factory=list)
    held_out: tuple[str, ...] = ()
    best_epochs: tuple[int, ...] = ()


def fit_classifier(
    encoder: Encoder,
    waveforms: Tensor,
    rows: Sequence[Row],
    config: TrainingConfig,
    *,
    machine: str,
    seed: int,
    progress: Progress | None = None,
    material: Material | None = None,
    fabric: Fabric | None = None,
    place: Path | None = None,
    resume: bool = False,
) -> FitResult:
    """Train `encoder` in place, and leave it in evaluation mode on the processor.

    Each step takes windows, rolls each by a random time, changes it as `config.augment` and the
    class plan ask, mixes a share of the batches with themselves in another order (mixup), and
    lowers the head's loss. The members of an ensemble are trained one after another with seeds of
    their own; with `keep_epochs` one is, and the joined encoder's parts are its models of those
    epochs. The same arguments give the same encoder on the same number of threads; the global
    random state is left as it was. Adapters are merged at the end.

    Args:
        encoder: What to train.
        waveforms: Healthy windows, float32 `(n, window_samples)`.
        rows: Origin of each.
        config: The preset's `training` section.
        machine: The machine's name.
        seed: Seed of everything random.
        progress: Where to show progress.
        material: The windows with machine and role of each, in place of `waveforms` and `rows`.
        fabric: The engine, launched; None for this process alone.
        place: Run folder for checkpoints and logs; None for neither.
        resume: Go on from the checkpoint in `place`, if there is one.

    Returns:
        Classes, their rule, and the losses.

    Raises:
        AudioError: A window holds values that aren't finite.
        ConfigError: The loss became infinite or undefined, the encoder has nothing to train, the
            batch can't be shared out, or a checkpoint is of another training.
    """
    material = material or own_material(waveforms, rows, machine)
    if not all_finite(material.waveforms):
        raise AudioError(
            "a training window holds values that aren't finite",
            where=machine,
            remedy="Remove the recording it comes from.",
        )
    fabric = fabric or make_engine(config)
    share = config.accumulate * fabric.world_size
    if config.batch % share:
        raise ConfigError(
            f"{config.batch} windows can't be shared out among {fabric.world_size} processes with "
            f"{config.accumulate} parts each",
            where="training.batch",
            remedy=f"Make it a multiple of {share}.",
        )
    plan = plan_classes(
        material.rows,
        material.waveforms,
        machine=machine,
        rate=encoder.sample_rate,
        seed=seed,
        settings=config.classes,
        machines=material.machines,
        roles=material.roles,
        listen=(
            (lambda chunk: _embed(encoder, chunk))
            if config.classes.pseudo_features == "embedding"
            else None
        ),
    )
    learnt, held = hold_out(material.recordings, plan.labels.tolist(), config.held_out, seed)
    checkpoints = None if place is None else Checkpoints(place / CHECKPOINT)
    state = TrainingState(fingerprint=_fingerprint(encoder, material, config, plan, seed))
    snapshot: Snapshot | None = None
    if checkpoints is not None:
        found = checkpoints.load(state.fingerprint) if resume else None
        if found is not None:
            state, snapshot = found
        elif fabric.is_global_zero and place is not None:
            checkpoints.clear()
            shutil.rmtree(place / LOGS, ignore_errors=True)
        fabric.barrier()
    _learn_from(encoder, config)
    tuning = Tuning(encoder, config)
    kept = EpochParts(encoder, config.keep_epochs) if config.keep_epochs else None
    members = encoder.members() if kept is None else (kept.learner,)
    curves = [Curve(losses, held_curve, best) for losses, held_curve, best in state.curves]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # adapters begin at random
        tuning.start()
        if kept is not None:
            kept.begin()
        if fabric.world_size > 1:
            leave_unused(encoder)
        for index in range(state.member, len(members)):
            own_seed = seed + 7919 * index
            torch.manual_seed(own_seed)
            member = members[index]
            name = machine if len(members) == 1 else f"{machine} {index + 1}/{len(members)}"
            # FeatEx triples the classes: as they are, first branch's, other branches'.
            classes = plan.count * (3 if config.feature_exchange > 0 else 1)
            head = make_head(member.learnt_dim, classes, config)
            loop = Loop(
                fabric,
                encoder,
                config,
                state,
                checkpoints=checkpoints,
                logs=None if place is None else place / LOGS,
                seed=own_seed,
                progress=progress,
                ended=None if kept is None else kept.ended,
            )
            fronts = FrontEnds(member, config.augment)
            task = ClassTask(
                name, member, head, material, plan, learnt, held, config, fabric, fronts, own_seed
            )
            objective = Objective(member, head, fabric, plan.count)
            with fronts.watched():
                curves.append(loop.run(objective, member, head, task, snapshot))
            snapshot = None
            state = TrainingState(
                fingerprint=state.fingerprint,
                member=index + 1,
                curves=tuple((c.losses, c.held_losses, c.best_epoch) for c in curves),
            )
    encoder.cpu()
    _learn_from(encoder, TrainingConfig())
    tuning.finish()
    encoder.eval()
    return FitResult(
        classes=plan.count,
        class_rule=plan.rule,
        losses=_mean([curve.losses for curve in curves]),
        held_losses=_mean([curve.held_losses for curve in curves]),
        held_out=tuple(sorted({material.recordings[i] for i in held})),
        best_epochs=tuple(c.best_epoch for c in curves if c.best_epoch is not None),
    )


def _learn_from(encoder: Encoder, config: TrainingConfig) -> None:
    """Show the loss what `learn_from` asks for.

    Raises:
        ConfigError: The encoder has no layers to choose from.
    """
    last = config.learn_from == "last_layer"
    layered = [part for part in encoder.modules() if isinstance(part, PretrainedEncoder)]
    if last and not layered:
        raise ConfigError(
            f"the encoder {encoder.kind} has no layers of which a loss could see the last",
            where="training.learn_from",
            remedy="Set it to embedding.",
        )
    for part in layered:
        part.learn_last = last


def _embed(encoder: Encoder, waveforms: Tensor) -> npt.NDArray[np.float64]:
    """Embeddings before training, `(n, dim)`."""
    encoder.eval()
    with torch.no_grad():
        found = []
        for chunk in torch.split(waveforms, 16):
            found.append(encoder(chunk))
            forget_mapped()
    return torch.cat(found).numpy().astype(np.float64)


def _fingerprint(
    encoder: Encoder, material: Material, config: TrainingConfig, plan: ClassPlan, seed: int
) -> str:
    """Of what decides a training's outcome, short of the weights it starts from."""
    digest = hashlib.sha256()
    shapes = {name: list(value.shape) for name, value in encoder.state_dict().items()}
    what = {
        "encoder": [encoder.kind, encoder.window_samples, shapes],
        "config": config.model_dump(mode="json"),
        "classes": plan.names,
        "windows": [
            [name, row.start] for name, row in zip(material.recordings, material.rows, strict=True)
        ],
        "seed": seed,
    }
    digest.update(json.dumps(what, sort_keys=True).encode())
    digest.update(plan.labels.tobytes())
    # Another channel, or files recorded anew, have the same names and times.
    for sound in (material.waveforms, material.noise):
        for chunk in torch.split(sound, 64) if len(sound) else ():
            digest.update(chunk.contiguous().numpy().data)
            forget_mapped()
    return digest.hexdigest()


def _mean(curves: Sequence[Sequence[float]]) -> list[float]:
    """Mean over the members, epoch by epoch."""
    return [math.fsum(epoch) / len(epoch) for epoch in zip(*curves, strict=False)]
