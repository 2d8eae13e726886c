"""What the workstation does most: embedding recordings, and making INT8 of a graph.

    .venv/bin/python benchmarks/trainer_cost.py [--clips 40] [--calibration 16 64]

Embedding: recordings of 10 s are read, resampled from 44.1 kHz and embedded. The plain loop has one
after another through PyTorch in float32; ours runs the exported graph, `export/embed.py`, as export
and evaluation do. Both have two threads. Waiting is the share of the time in which the processor
has nothing to do. INT8: seconds of `quantize_static` by number of windows that ranges are measured
on, and what remains of the direction of embeddings. mn04 with random weights unless --weights.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import torch
from rich.console import Console
from rich.table import Table
from small_bundle import FEATURES, noise

from agent.capture.files import read_audio
from agent.learn.embed import embed
from export.quantize import quantize_static
from trainer.encoder_config import EncoderConfig
from trainer.encoders.mn04 import Mn04
from trainer.encoders.registry import build_encoder
from trainer.graph.encoder_info import encoder_info
from trainer.graph.onnx_graph import OPSET, cosines, export_graph

_RATE = 44_100
_SECONDS = 10
_THREADS = 2


def timed(do: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the clock and of the processor."""
    wall, cpu = time.perf_counter(), time.process_time()
    do()
    return time.perf_counter() - wall, time.process_time() - cpu


def embedding(folder: Path, encoder: Mn04, clips: int) -> list[dict[str, object]]:
    """Clips a second of the plain loop and of ours, from file to embedding."""
    random, files = np.random.default_rng(0), []
    for number in range(clips):
        sound = random.normal(0, 0.03, _RATE * _SECONDS).astype(np.float32)
        files.append(folder / f"{number}.wav")
        soundfile.write(files[-1], sound, _RATE, subtype="PCM_16")
    rate, length = encoder.sample_rate, encoder.window_samples
    graph = export_graph(encoder, folder / "float.onnx")
    info = encoder_info(encoder, "float32", OPSET)
    found: dict[str, np.ndarray] = {}

    def plain() -> None:
        with torch.inference_mode():
            found["plain"] = np.concatenate(
                [
                    encoder(torch.from_numpy(read_audio(file, rate=rate)[:length])[None]).numpy()
                    for file in files
                ]
            )

    def ours() -> None:
        windows = np.stack([read_audio(file, rate=rate)[:length] for file in files])
        found["ours"] = embed(graph.path, info, windows)

    measured = []
    for way, do in (("plain loop", plain), ("auscult", ours)):
        wall, cpu = timed(do)
        measured.append(
            {
                "what": "embedding", "way": way, "clips": clips, "seconds": wall,
                "per_second": clips / wall, "cpu_ms_a_clip": 1e3 * cpu / clips,
                "waiting": max(0.0, 1 - cpu / wall / _THREADS),
            }
        )  # fmt: skip
    agreed = cosines(found["plain"], found["ours"]).min()
    if agreed < 0.9999:
        raise SystemExit(f"the two do not compute the same: cosine {agreed}")
    return measured


def quantizing(
    folder: Path, encoder: Mn04, counts: list[int], min_cosine: float
) -> list[dict[str, object]]:
    """Seconds of making INT8, and the cosine to float on windows it never saw."""
    graph = export_graph(encoder, folder / "float.onnx")
    info = encoder_info(encoder, "int8", OPSET)
    fresh = noise(8, encoder.window_samples, seed=1)
    reference, measured = embed(graph.path, info, fresh), []
    for count in counts:
        windows, out = noise(count, encoder.window_samples), folder / "int8.onnx"
        start, cpu = time.perf_counter(), time.process_time()
        done = quantize_static(graph, out, windows, info, min_cosine=min_cosine)
        measured.append(
            {
                "what": "INT8", "way": f"{count} windows", "seconds": time.perf_counter() - start,
                "cpu_s": time.process_time() - cpu, "left_float": len(done.float_nodes),
                "cosine": float(cosines(reference, embed(out, info, fresh)).mean()),
            }
        )  # fmt: skip
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clips", type=int, default=40)
    parser.add_argument("--calibration", nargs="+", type=int, default=[16, 64])
    parser.add_argument("--weights", type=Path, help="folder of checkpoints: mn04 as trained")
    parser.add_argument("--min-cosine", type=float, default=0.98, help="that INT8 must keep")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    chosen = parser.parse_args()
    torch.set_num_threads(_THREADS)
    torch.manual_seed(0)
    if chosen.weights is None:
        encoder = Mn04(window_seconds=_SECONDS, features=FEATURES).eval()
    else:
        config = EncoderConfig(kind="mn04", features=FEATURES, weights="mn04_as_mAP_432.pt")
        encoder = build_encoder(config, window_seconds=_SECONDS, weights=chosen.weights, seed=0)
    with tempfile.TemporaryDirectory(prefix="auscult-bench-") as place:
        found = embedding(Path(place), encoder, chosen.clips)
        found += quantizing(Path(place), encoder, chosen.calibration, chosen.min_cosine)
    table = Table(title="Trainer", title_justify="left")
    for heading in ("what", "way", "time", "clips/s", "CPU a clip", "waiting", "cosine"):
        table.add_column(heading, justify="left" if heading in ("what", "way") else "right")
    for one in found:
        clips = one["what"] == "embedding"
        table.add_row(
            str(one["what"]), str(one["way"]), f"{one['seconds']:.1f} s",
            f"{one['per_second']:.1f}" if clips else "",
            f"{one['cpu_ms_a_clip']:.1f} ms" if clips else "",
            f"{one['waiting']:.0%}" if clips else "",
            "" if clips else f"{one['cosine']:.4f}",
        )  # fmt: skip
    Console(width=110).print(table)
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
