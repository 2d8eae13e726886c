"""Writes the encoders that auscult ships (`python -m tools.graphs`), by the exporter's own code."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

from agent.bundle.manifest import BODY, ENCODER, FRAMES
from agent.bundle.seal import file_record
from agent.config.recipe import Recipe
from agent.learn.encoders import GRAPHS, RECORD, ShippedEncoder
from export.framed import write_parts
from export.origin import view_infos
from trainer.encoders.base import placed
from trainer.encoders.registry import build_encoder
from trainer.graph import storage
from trainer.graph.encoder_info import encoder_info
from trainer.graph.onnx_graph import export_graph, verify_parity
from trainer.graph.shipped import source_digest
from trainer.preset_file import load_preset

# Presets whose encoders have learnt nothing from data.
SHIPPED = ("auscult_scratch",)


def write(name: str, folder: Path) -> None:
    """Write one encoder.

    Args:
        name: The preset's.
        folder: Where to; made when it is not there.
    """
    preset = load_preset(name)
    encoder = build_encoder(
        preset.encoder, window_seconds=preset.window.seconds, weights=None, seed=0
    )
    noise = np.random.default_rng(0).standard_normal((2, encoder.window_samples))
    windows = (0.05 * noise).astype(np.float32)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        graph = export_graph(encoder, Path(work) / ENCODER)
        info = encoder_info(encoder, "float32", graph.opset)
        cosine = verify_parity(encoder, graph.path, windows)
        storage.copy(graph.path, folder / ENCODER)
    write_parts(encoder, folder / ENCODER, info, windows)
    recipe = Recipe(
        name=preset.name,
        window=preset.window,
        scorer=placed(preset.scorer, encoder),
        threshold=preset.threshold,
        drift=preset.drift,
    )
    files = {
        part: file_record(folder / part).sha256
        for part in (ENCODER, FRAMES, BODY)
        if (folder / part).is_file()
    }
    record = ShippedEncoder(
        encoder=info,
        views=view_infos(encoder),
        recipe=recipe,
        torch_cosine_min=round(cosine, 6),
        files=files,
        made_of=source_digest(encoder, preset),
        pinned=graph.pinned,
    )
    text = record.model_dump_json(indent=1) + "\n"
    (folder / RECORD).write_text(text, encoding="utf-8")


def main() -> None:
    """Write all of them."""
    for name in SHIPPED:
        write(name, GRAPHS / name)
        sys.stdout.write(f"{GRAPHS / name}\n")


if __name__ == "__main__":
    main()
