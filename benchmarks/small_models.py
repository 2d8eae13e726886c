"""Small models: windows a second against torch, INT8 against float, and what overlapping costs.

    python -m benchmarks.small_models --json small_models.json

Random weights, noise: what is measured is cost. Each model is run by torch (eager, float32, the
peer), and by the agent's encoder as float32, static INT8 and dynamic INT8; then as a stream at hops
of 1 s and 10 s, each window whole, and with shared frames where the model's windows can share them.
Two threads; runs are interleaved and the median taken, so that other work is everybody's alike.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnxruntime
import torch
from rich.console import Console
from rich.table import Table

from agent.core.records import Window
from agent.encode.frames import SharedFrames
from agent.encode.onnx import OnnxEncoder
from benchmarks.small_bundle import noise
from export.framed import write_parts
from export.quantize import quantize_static, quantize_weights
from trainer.encoders.base import Encoder
from trainer.encoders.dual_path import DualPath
from trainer.encoders.joined import Joined
from trainer.encoders.mn04 import Mn04
from trainer.encoders.quantiles import SpectralQuantiles
from trainer.encoders.shape import SpectralShape
from trainer.graph.encoder_info import encoder_info
from trainer.graph.onnx_graph import OPSET, export_graph

WINDOW = 10.0
THREADS = 2
_ANY_COSINE = -3.0  # random weights: which operations INT8 hurts is no question here
MODELS: dict[str, Callable[[], Encoder]] = {
    "mn04": lambda: Mn04(window_seconds=WINDOW, features="block12_balanced"),
    "dual_path": lambda: DualPath(window_seconds=WINDOW),
    "spectral_shape": lambda: SpectralShape(window_seconds=WINDOW),
    "auscult_small": lambda: Joined(
        [
            SpectralQuantiles(window_seconds=WINDOW),
            Mn04(window_seconds=WINDOW, features="block12_balanced"),
        ],
        window_seconds=WINDOW,
        unit=False,
        together=False,
    ),
}


class _Stream:
    """A stream's windows, one after the other, over a sound that goes round."""

    def __init__(self, encoder: OnnxEncoder, hop: float, *, shared: bool) -> None:
        info = encoder.info
        self._encoder, self._step = encoder, round(hop * info.sample_rate)
        self._sound = noise(1, 3 * info.window_samples, seed=5)[0]
        self._info, self._index = info, 0
        self._shared = SharedFrames() if shared else None

    def __call__(self) -> None:
        at = self._index * self._step % (2 * self._info.window_samples)
        samples = self._sound[at : at + self._info.window_samples].copy()
        if self._shared is None:
            self._encoder.encode(samples[None])
        else:
            rate = self._info.sample_rate
            at = self._index * self._step
            window = Window(samples, rate, self._index, 0.0, 0.0, step=self._step, position=at)
            self._shared.encode(self._encoder, window)
        self._index += 1


def _measure(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, dict[str, float]]:
    """Of each way the median wall and processor milliseconds of a call, interleaved."""
    wall: dict[str, list[float]] = {name: [] for name in ways}
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(2):
        for run in ways.values():
            run()
    for _ in range(rounds):
        for name, run in ways.items():
            began, used = time.perf_counter(), time.process_time()
            run()
            wall[name].append(1e3 * (time.perf_counter() - began))
            cpu[name].append(1e3 * (time.process_time() - used))
    return {
        name: {"ms": statistics.median(wall[name]), "cpu_ms": statistics.median(cpu[name])}
        for name in ways
    }


def measure_model(name: str, place: Path, rounds: int) -> dict[str, Any]:
    """All ways of one model."""
    torch.manual_seed(0)
    encoder = MODELS[name]().eval()
    windows = noise(8, encoder.window_samples)
    graph = export_graph(encoder, place / "float.onnx")
    info = encoder_info(encoder, "float32", OPSET)
    folders: dict[str, Path] = {}
    for kind in ("float32", "static", "dynamic"):
        folder = folders[kind] = place / kind
        folder.mkdir()
        if kind == "static":
            quantize_static(graph, folder / "encoder.onnx", windows, info, min_cosine=_ANY_COSINE)
        elif kind == "dynamic":
            quantize_weights(graph, folder / "encoder.onnx")
        else:
            shutil.copy(graph.path, folder / "encoder.onnx")
    # As it would be shipped: INT8 where there is anything to make INT8 of.
    framed = write_parts(encoder, folders["static"] / "encoder.onnx", info, windows)
    encoders = {
        kind: OnnxEncoder(
            folder / "encoder.onnx", info, threads=THREADS, framed=framed and kind == "static"
        )
        for kind, folder in folders.items()
    }
    batch = torch.from_numpy(windows[:1])

    def eager() -> None:
        with torch.inference_mode():
            encoder(batch)

    ways: dict[str, Callable[[], object]] = {"torch": eager}
    for kind, running in encoders.items():
        running.start()
        ways[kind] = lambda running=running: running.encode(windows[:1])
    for hop in (1.0, 10.0):
        ways[f"hop {hop:g} whole"] = _Stream(encoders["static"], hop, shared=False)
        if framed:
            ways[f"hop {hop:g} shared"] = _Stream(encoders["static"], hop, shared=True)
    found = _measure(ways, rounds)
    for running in encoders.values():
        running.stop()
    peer = found["torch"]["ms"]
    for kind in ("torch", *folders):
        one = found[kind]
        one["windows_a_second"] = 1e3 / one["ms"]
        one["times_torch"] = peer / one["ms"]
    for how in ("whole", "shared"):
        if f"hop 1 {how}" in found:
            # A hop of 1 s asks for ten windows where one of 10 s asks for one.
            one = found[f"hop 1 {how}"]
            one["times_hop_10"] = 10 * one["cpu_ms"] / found["hop 10 whole"]["cpu_ms"]
            one["percent_of_core"] = one["cpu_ms"] / 10
    return {"shares_frames": framed, "ways": found}


@click.command()
@click.option("--model", "names", multiple=True, type=click.Choice(list(MODELS)))
@click.option("--rounds", default=30, show_default=True, help="Calls of each way.")
@click.option("--quick", is_flag=True, help="mn04 alone, ten calls of each way.")
@click.option("--json", "--out", "out", type=click.Path(path_type=Path), help="JSON to write.")
def main(names: tuple[str, ...], rounds: int, out: Path | None, *, quick: bool) -> None:
    """Measure the small models."""
    if quick:
        names, rounds = names or ("mn04",), min(rounds, 10)
    torch.set_num_threads(THREADS)
    results = {}
    for name in names or tuple(MODELS):
        with tempfile.TemporaryDirectory(prefix="auscult-") as place:
            results[name] = measure_model(name, Path(place), rounds)
    table = Table("model", "way", "ms", "CPU ms", "windows/s", "x torch", "hop 1 s / hop 10 s")
    for name, result in results.items():
        for way, one in result["ways"].items():
            cells = [one["ms"], one["cpu_ms"], one.get("windows_a_second")]
            cells += [one.get("times_torch"), one.get("times_hop_10")]
            table.add_row(name, way, *("" if cell is None else f"{cell:.2f}" for cell in cells))
    Console(width=110).print(table)
    if out is not None:
        machine = {
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "threads": THREADS,
            "torch": torch.__version__,
            "onnxruntime": onnxruntime.__version__,
            "numpy": np.__version__,
        }
        out.write_text(json.dumps({"machine": machine, "models": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
