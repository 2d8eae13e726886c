"""What a training needs to go on after its process died.

state.json points to the folder of the newest whole checkpoint:

    00000042/encoder.safetensors   what is trained, and buffers
    00000042/head.safetensors      the loss's centres and scale
    00000042/best.safetensors      the encoder of the lowest held-out loss, when there is one
    00000042/optimizer.pt          the optimizer's state; read with weights_only

A folder is written before `state.json` names it, so a death at any moment leaves the one before.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Annotated, Any

import torch
from pydantic import Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from agent.core.errors import ConfigError
from agent.core.schema import Strict, explain

STATE = "state.json"
_ENCODER, _HEAD, _BEST, _OPTIMIZER = (
    "encoder.safetensors",
    "head.safetensors",
    "best.safetensors",
    "optimizer.pt",
)


class TrainingState(Strict):
    """How far a training has come."""

    fingerprint: Annotated[str, Field(description="Of everything that decides its outcome")]
    member: Annotated[int, Field(ge=0, description="Model of the ensemble in training")] = 0
    epoch: Annotated[int, Field(ge=0, description="Epoch in progress, counted from 0")] = 0
    step: Annotated[int, Field(ge=0, description="Steps of that epoch already done")] = 0
    found: Annotated[tuple[float, ...], Field(description="Losses of those steps")] = ()
    losses: Annotated[tuple[float, ...], Field(description="Mean loss of each epoch")] = ()
    held_losses: Annotated[tuple[float, ...], Field(description="Held-out loss of each epoch")] = ()
    best_epoch: Annotated[int | None, Field(description="Epoch of the lowest of these")] = None
    curves: Annotated[
        tuple[tuple[tuple[float, ...], tuple[float, ...], int | None], ...],
        Field(description="losses, held-out losses and best epoch of the members before"),
    ] = ()


class Snapshot(Strict, arbitrary_types_allowed=True):
    """Tensors of one moment."""

    encoder: dict[str, Tensor]
    head: dict[str, Tensor]
    best: dict[str, Tensor] | None
    optimizer: dict[str, Any]


class Checkpoints:
    """The checkpoints of one training, in a folder of their own.

    Args:
        folder: Where; made when the first is saved.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, state: TrainingState, snapshot: Snapshot) -> None:
        """Write a checkpoint, then drop the one before."""
        done = f"{state.member:02}{state.epoch:05}{state.step:06}"
        place = self.folder / done
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        save_file(_plain(snapshot.encoder), place / _ENCODER)
        save_file(_plain(snapshot.head), place / _HEAD)
        if snapshot.best is not None:
            save_file(_plain(snapshot.best), place / _BEST)
        torch.save(snapshot.optimizer, place / _OPTIMIZER)
        part = self.folder / f"{STATE}.part"
        part.write_text(
            json.dumps({"folder": done, "state": state.model_dump(mode="json")}), encoding="utf-8"
        )
        part.replace(self.folder / STATE)
        for old in self.folder.iterdir():
            if old.is_dir() and old != place:
                shutil.rmtree(old, ignore_errors=True)

    def load(self, fingerprint: str) -> tuple[TrainingState, Snapshot] | None:
        """The newest checkpoint; None when there is none.

        Args:
            fingerprint: Of the training that is to go on.

        Raises:
            ConfigError: It is another training's, or damaged.
        """
        path = self.folder / STATE
        if not path.is_file():
            return None
        try:
            held = json.loads(path.read_text(encoding="utf-8"))
            state = TrainingState.model_validate(held["state"])
            place = self.folder / Path(str(held["folder"])).name
        except (OSError, ValueError, KeyError, TypeError) as fault:
            told = explain(fault) if isinstance(fault, ValidationError) else str(fault)
            raise ConfigError(f"is not a checkpoint: {told}", where=path, remedy=_AGAIN) from fault
        if state.fingerprint != fingerprint:
            raise ConfigError(
                "is of another training: preset, seed, recordings or encoder have changed",
                where=path,
                remedy="Put them back as they were, or train anew: --force, not --resume.",
            )
        try:
            best = place / _BEST
            return state, Snapshot(
                encoder=load_file(place / _ENCODER),
                head=load_file(place / _HEAD),
                best=load_file(best) if best.is_file() else None,
                optimizer=torch.load(place / _OPTIMIZER, map_location="cpu", weights_only=True),
            )
        except (
            OSError,
            SafetensorError,
            RuntimeError,
            EOFError,
            UnpicklingError,
            ValidationError,
        ) as fault:
            raise ConfigError(f"cannot be read: {fault}", where=place, remedy=_AGAIN) from fault

    def clear(self) -> None:
        """Remove them all: the training is over, or begins anew."""
        shutil.rmtree(self.folder, ignore_errors=True)


_AGAIN = "Train anew: --force, not --resume."


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as safetensors takes them: contiguous, none sharing memory with another."""
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
