"""Reading checkpoints that come from elsewhere, without running what they may hold.

A `.pt` or `.pth` file is a pickle, which can call any function when it is opened. It is read with
torch's restricted unpickler, which knows tensors and plain containers and nothing else; the one
class allowed besides is `argparse.Namespace`, a bag of named values that M2D's full files (and old
fairseq files) hold their options in. Anything else is refused by name.
"""

from __future__ import annotations

import argparse
import json
import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from trainer.zoo.backbone import CheckpointError

_GLOBAL = re.compile(r"(?:GLOBAL|global) `?'?([\w.]+)")
_WHOLE = "Download it again: `auscult pretrained list` says from where."


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A file's tensors, and what it says about itself.

    Attributes:
        path: The file.
        tensors: By published name.
        config: The configuration it holds or that lies beside it, and `folder`, its folder's name.
        layout: `safetensors`, or the keys that lead to the tensors (`model`), or `flat`.
    """

    path: Path
    tensors: dict[str, Tensor]
    config: Mapping[str, Any]
    layout: str


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a published checkpoint.

    Args:
        path: `.pt`, `.pth`, `.bin` or `.safetensors`, in float32 or half precision.

    Raises:
        CheckpointError: It is missing, cut short, not a checkpoint, or wants to run code.
    """
    if path.is_dir():
        raise CheckpointError(
            "is a folder", where=path, remedy="Give the checkpoint file inside it."
        )
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as fault:
        raise CheckpointError(
            f"cannot be read: {fault.strerror}",
            where=path,
            remedy="`auscult pretrained list` says what there is and how to get it.",
        ) from fault
    # A safetensors file begins with the length of its header and the header's brace.
    if path.suffix == ".safetensors" or head[8:9] == b"{":
        tensors, config, layout = _read_safetensors(path), _beside(path), "safetensors"
    else:
        tensors, config, layout = _sort(_read_pickle(path, head), path)
    if not tensors:
        raise CheckpointError("holds no tensors", where=path, remedy=_WHOLE)
    return Checkpoint(path, tensors, {**config, "folder": path.resolve().parent.name}, layout)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as fault:
        raise CheckpointError(
            f"is not a whole safetensors file: {fault}", where=path, remedy=_WHOLE
        ) from fault


def _beside(path: Path) -> dict[str, Any]:
    """The `config.json` that Hugging Face puts beside the weights; empty when there is none."""
    config = path.with_name("config.json")
    try:
        found = json.loads(config.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as fault:
        raise CheckpointError(
            f"cannot be read: {fault}", where=config, remedy="Download it again, or remove it."
        ) from fault
    return found if isinstance(found, dict) else {}


def _read_pickle(path: Path, head: bytes) -> Any:
    zipped = zipfile.is_zipfile(path)
    if head.startswith(b"PK") and not zipped:
        raise CheckpointError(
            "is cut short: the end of the file is missing", where=path, remedy=_WHOLE
        )
    if zipped:
        _check_archive(path)
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            # Mapped, not read: a file of several gigabytes then costs memory only once.
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as fault:
        refused = _GLOBAL.search(str(fault))
        if refused and "weights" in str(fault).lower():
            raise CheckpointError(
                f"wants to run '{refused[1]}' when it is opened, which a checkpoint has no need "
                "to; nothing was run",
                where=path,
                remedy="Don't use this file. Get it from its authors.",
            ) from fault
        raise CheckpointError("is not a checkpoint", where=path, remedy=_WHOLE) from fault
    except Exception as fault:
        # The unpickler stumbles over arbitrary bytes in arbitrary ways (struct.error, EOFError,
        # IndexError, MemoryError...): whatever it was, the file can't be used.
        raise CheckpointError(
            f"is damaged or not a checkpoint ({type(fault).__name__})", where=path, remedy=_WHOLE
        ) from fault


def _check_archive(path: Path) -> None:
    """Tell an archive with checkpoints inside from a checkpoint, which is an archive as well."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile as fault:
        raise CheckpointError(f"is damaged: {fault}", where=path, remedy=_WHOLE) from fault
    inside = [name for name in names if name.endswith((".pth", ".pt", ".safetensors"))]
    if inside:
        raise CheckpointError(
            f"is an archive that holds {inside[0]}", where=path, remedy="Unpack it first."
        )


def _sort(content: Any, path: Path) -> tuple[dict[str, Tensor], dict[str, Any], str]:
    """Find the tensors and the configuration in what a pickle held."""
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"holds a {type(content).__name__}, not a table of tensors", where=path, remedy=_WHOLE
        )
    config: dict[str, Any] = {}
    for key in ("cfg", "config", "args"):
        value = content.get(key)
        if isinstance(value, argparse.Namespace):
            value = vars(value)
        if isinstance(value, Mapping):
            config = dict(value)
            break
    for key in ("model", "state_dict"):
        inner = content.get(key)
        if isinstance(inner, Mapping):
            return _tensors(inner), config, key
    return _tensors(content), config, "flat"


def _tensors(table: Mapping[Any, Any]) -> dict[str, Tensor]:
    """The tensors of a table; what else it holds (fairseq's nested `_ema`) is no weight of ours."""
    return {str(name): value for name, value in table.items() if isinstance(value, Tensor)}
