"""Exported graphs kept on the disk, so that machines which share an encoder export it once.

A graph is found by what it is exported from: the preset's encoder section, the window's length and
every weight. Quantization, bank and threshold are a machine's own and are never kept.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from agent import __version__
from export.onnx_graph import FloatGraph, export_fused, export_graph
from trainer.encoders.base import Encoder
from trainer.preset import Preset

_GRAPH = "graph.onnx"
_ABOUT = "about.json"


@dataclass(frozen=True, slots=True)
class GraphCache:
    """A folder of graphs: `<digest>/{plain,fused}/{graph.onnx,about.json}`.

    Several processes may use it at once: a graph is there whole or not at all.

    Attributes:
        folder: Where they lie; made when the first is written.
    """

    folder: Path

    def graph(self, encoder: Encoder, preset: Preset) -> FloatGraph:
        """Exports a graph (`export.onnx_graph.export_graph`) unless it is kept already.

        Args:
            encoder: The encoder with its weights.
            preset: The preset that it was built from.

        Raises:
            ExportError: As there.
        """
        place = self.folder / _digest(encoder, preset)
        plain = _kept(place / "plain", partial(export_graph, encoder))
        assert plain is not None
        return replace(
            plain, fused=lambda _path: _kept(place / "fused", partial(export_fused, encoder))
        )

    def clear(self) -> None:
        """Remove all of them."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _kept(place: Path, make: Callable[[Path], FloatGraph | None]) -> FloatGraph | None:
    """The graph in a folder, made and put there if it is not; None where there is no such form."""
    if not (place / _ABOUT).is_file():
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".graph-", dir=place.parent) as work:
            folder = Path(work) / place.name
            folder.mkdir()
            graph = make(folder / _GRAPH)
            about = None if graph is None else {"opset": graph.opset, "pinned": graph.pinned}
            (folder / _ABOUT).write_text(json.dumps(about))
            if not (place / _ABOUT).is_file():  # put there by another process meanwhile?
                shutil.rmtree(place, ignore_errors=True)
                folder.rename(place)
    about = json.loads((place / _ABOUT).read_text())
    if about is None:
        return None
    return FloatGraph(place / _GRAPH, about["opset"], tuple(about["pinned"]))


def _digest(encoder: Encoder, preset: Preset) -> str:
    facts = [
        __version__,
        preset.encoder.without_weights().model_dump(mode="json"),
        preset.window.seconds,
        preset.training.ensemble,
    ]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name, tensor in sorted(encoder.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
