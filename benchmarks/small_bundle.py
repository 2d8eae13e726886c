"""A bundle to measure with: mn04 with random weights, whose costs are those of the real ones.

Shared by the benchmarks; nothing in it knows a machine.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from agent.bundle.manifest import (
    BANK,
    ENCODER,
    ROW_CONSTANTS,
    ROWS,
    Manifest,
    Quantization,
    Threshold,
    TrainedOn,
)
from agent.bundle.seal import seal
from agent.config.scorer_knn import KnnConfig
from agent.core.storage import write_json
from agent.learn.embed import embed
from export.framed import write_parts
from export.quantize import quantize_static
from trainer.encoders.mn04 import Mn04
from trainer.graph.encoder_info import encoder_info
from trainer.graph.onnx_graph import OPSET, export_graph

FEATURES = "block12_balanced"
# Below any cosine: random weights are no matter of accuracy, and ranking operations takes minutes.
_ANY_COSINE = -3.0


def noise(count: int, samples: int, seed: int = 0) -> np.ndarray:
    """Windows of noise, each of another colour, float32 `(count, samples)`."""
    random = np.random.default_rng(seed)
    white = random.normal(0, 0.03, (count, samples + 1)).astype(np.float32)
    mixed = random.uniform(-0.9, 0.9, (count, 1)).astype(np.float32)
    return white[:, 1:] + mixed * white[:, :-1]


def make_bundle(out: Path, *, rows: int = 1000, window_seconds: float = 10.0) -> Path:
    """Write the bundle in INT8, with a bank of so many rows."""
    torch.manual_seed(0)
    encoder = Mn04(window_seconds=window_seconds, features=FEATURES).eval()
    out.mkdir(parents=True)
    windows = noise(8, encoder.window_samples)
    graph = export_graph(encoder, out / "float.onnx")
    info = encoder_info(encoder, "int8", OPSET)
    quantize_static(graph, out / ENCODER, windows, info, min_cosine=_ANY_COSINE)
    write_parts(encoder, out / ENCODER, info, windows)
    size = graph.path.stat().st_size
    graph.path.unlink()
    few = embed(out / ENCODER, info, windows)
    spread = np.random.default_rng(1).normal(0, 0.1 * few.std(), (rows, info.dim))
    bank = (few[np.arange(rows) % len(few)] + spread).astype(np.float32)
    np.save(out / BANK, bank)
    np.save(out / ROW_CONSTANTS, np.tile(np.float32([1, 0]), (rows, 1)))
    names = [f"{i % 100}.wav" for i in range(rows)]
    write_json(out / ROWS, [{"source": one, "start": 0.0, "group": one} for one in names])
    manifest = Manifest(
        auscult_version="0",
        created="2026-01-01T00:00:00Z",
        encoder=info,
        window_seconds=window_seconds,
        hop_seconds=1.0,
        clip_hop_seconds=5.0,
        scorer=KnnConfig(normalization="none"),
        threshold=Threshold(
            value=10.0, false_alarm_rate=0.01, clip_value=10.0,
            method="none: made to measure with", healthy_windows=rows, healthy_recordings=100,
        ),
        trained_on=TrainedOn(
            machine="noise", preset="mn04", seed=0, recordings=100, seconds=10.0 * rows,
            domains={"unknown": 100}, level_dbfs=(-40.0, -20.0), data_sha256="0" * 64,
        ),
        quantization=Quantization(
            mode="static", float_bytes=size, bytes=(out / ENCODER).stat().st_size,
            cosine_mean=1.0, cosine_min=1.0, torch_cosine_min=1.0,
        ),
        files={},
    )  # fmt: skip
    seal(out, manifest)
    return out
