"""Graphs that come with auscult, in place of exporting the same encoder on every workstation."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path

import numpy as np
import torch

from agent.bundle.manifest import ENCODER, FRAMES
from agent.core.errors import AuscultError
from agent.learn.encoders import GRAPHS, shipped_names, shipped_record
from trainer.encoders.base import Encoder
from trainer.graph import storage
from trainer.graph.onnx_graph import FloatGraph, verify_parity
from trainer.preset import Preset

log = logging.getLogger(__name__)


def source_digest(encoder: Encoder, preset: Preset) -> str:
    """Digest of what a graph follows from beside the code: recipe of the encoder and weights."""
    recipe = preset.encoder.without_weights()
    facts = [
        # Without defaults: a setting that is new, and not used, makes no other graph.
        {"kind": recipe.kind, **recipe.model_dump(mode="json", exclude_defaults=True)},
        preset.window.seconds,
        preset.training.ensemble,
    ]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name, tensor in sorted(encoder.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def shipped_graph(encoder: Encoder, preset: Preset, path: Path) -> FloatGraph | None:
    """Copy the shipped graph of an encoder, once it has been held against PyTorch.

    Args:
        encoder: The encoder with its weights.
        preset: The preset that it was built from.
        path: The file to write.

    Returns:
        The graph; None where none is shipped of this encoder, or (with a notice) none that agrees.
    """
    folder = _folder(encoder, preset)
    if folder is None:
        return None
    try:
        verify_parity(encoder, folder / ENCODER, np.zeros((0, encoder.window_samples), np.float32))
    except AuscultError as fault:
        log.warning("the graph in %s is not used, and exported anew: %s", folder, fault)
        return None
    record = shipped_record(folder.name)
    storage.copy(folder / ENCODER, path)
    return FloatGraph(path, record.encoder.opset, record.pinned)


def shipped_frames(encoder: Encoder, preset: Preset, path: Path) -> FloatGraph | None:
    """Copy the shipped graph of an encoder's frames; None where none is shipped of it.

    What they give is held against the whole graph when a bundle is made (`export.framed`).
    """
    folder = _folder(encoder, preset)
    if folder is None or not (folder / FRAMES).is_file():
        return None
    storage.copy(folder / FRAMES, path)
    return FloatGraph(path, shipped_record(folder.name).encoder.opset, ())


def _folder(encoder: Encoder, preset: Preset) -> Path | None:
    """Where the graph of this very encoder lies; None where none is shipped."""
    made_of = ""
    for name in shipped_names():
        try:
            record = shipped_record(name)
        except AuscultError as fault:
            log.warning("%s: %s", name, fault)
            continue
        made_of = made_of or source_digest(encoder, preset)
        if record.made_of == made_of:
            return GRAPHS / name
    return None
