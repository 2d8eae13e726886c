"""What a checkpoint file is, and whether it is whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from agent.bundle.seal import file_record
from trainer.zoo.backbone import Architecture, Backbone, CheckpointError, compare
from trainer.zoo.checkpoints import Checkpoint
from trainer.zoo.families import FAMILIES, Family

_WINDOW = 160000  # ten seconds: no tensor's shape depends on it


@dataclass(frozen=True, slots=True)
class Identity:
    """A recognised checkpoint.

    Attributes:
        family: Whose it is.
        size: The published size; empty for one that nobody published.
        architecture: Its numbers: the published size's where its width is one.
    """

    family: Family
    size: str
    architecture: Architecture


@dataclass(frozen=True, slots=True)
class Report:
    """What `check` found.

    Attributes:
        path: The file.
        identity: What it is.
        layout: How its tensors are laid out.
        tensors: Tensors in the file.
        parameters: Values the encoder takes from it.
        dtypes: Types of those tensors (`float32`).
        ignored: Tensors the encoder does not need.
        unknown: Tensors of no known purpose, which are left out.
        faults: Why it can't be used, in words; empty when it is whole.
        sha256: Of the file.
    """

    path: Path
    identity: Identity
    layout: str
    tensors: int
    parameters: int
    dtypes: tuple[str, ...]
    ignored: tuple[str, ...]
    unknown: tuple[str, ...]
    faults: tuple[str, ...]
    sha256: str


def identify(checkpoint: Checkpoint) -> Identity:
    """Recognise a checkpoint by its tensors' names and shapes.

    Raises:
        CheckpointError: It is none of the encoders known here, or its folder's name was changed.
    """
    for family in FAMILIES.values():
        if family.recognise(checkpoint.tensors):
            return _size(family, checkpoint)
    first = next(iter(checkpoint.tensors))
    raise CheckpointError(
        f"is no checkpoint of {', '.join(f.title for f in FAMILIES.values())} "
        f"({len(checkpoint.tensors)} tensors, the first is '{first}')",
        where=checkpoint.path,
        remedy="`auscult pretrained list` says which files are known.",
    )


def _size(family: Family, checkpoint: Checkpoint) -> Identity:
    try:
        found = family.read(checkpoint.tensors, checkpoint.config)
    except KeyError as fault:
        if fault.args == ("folder",):
            raise CheckpointError(
                f"is {family.title}'s, but its folder '{checkpoint.config['folder']}' does not "
                "tell its input size",
                where=checkpoint.path,
                remedy="Keep the published folder's name, such as m2d_vit_base-80x608p16x16-...",
            ) from fault
        raise CheckpointError(
            f"looks like {family.title}, but the tensor {fault} is missing",
            where=checkpoint.path,
            remedy="Download it again.",
        ) from fault
    for size in (*family.sizes, *family.aliases(found)):
        named = family.resolve(size)
        # The width says which size was meant; a missing last layer must not make it another one.
        same = (named.width, named.heads, named.extra) == (found.width, found.heads, found.extra)
        if same:
            return Identity(family, size, named)
    return Identity(family, "", found)


def check(checkpoint: Checkpoint) -> Report:
    """Say what a checkpoint is and whether it is whole.

    Every tensor's name and shape is compared with the full model's, every value must be finite.

    Raises:
        CheckpointError: It can't be recognised.
    """
    identity = identify(checkpoint)
    translation = identity.family.translate(checkpoint.tensors)
    faults = compare(expected(identity), translation)
    broken = [
        name
        for name, tensor in translation.tensors.items()
        if not torch.isfinite(tensor.float()).all()
    ]
    if broken:
        faults.append(f"{len(broken)} tensors hold values that are not finite: {broken[0]}")
    return Report(
        path=checkpoint.path,
        identity=identity,
        layout=checkpoint.layout,
        tensors=len(checkpoint.tensors),
        parameters=sum(tensor.numel() for tensor in translation.tensors.values()),
        dtypes=tuple(
            sorted({str(t.dtype).removeprefix("torch.") for t in checkpoint.tensors.values()})
        ),
        ignored=translation.ignored,
        unknown=translation.unexpected,
        faults=tuple(faults),
        sha256=file_record(checkpoint.path).sha256,
    )


def expected(identity: Identity) -> Mapping[str, Tensor]:
    """Names and shapes of a model's state, without its memory (tensors on the meta device)."""
    return skeleton(identity.family, identity.architecture).state_dict()


def skeleton(family: Family, architecture: Architecture) -> Backbone:
    """A model of any size without values."""
    with torch.device("meta"):
        return family.build(architecture, _WINDOW)
