"""Full-size encoders through export, as a table: size, INT8 against float32, time of a window.

    .venv/bin/python benchmarks/full_size.py [FAMILY:SIZE ...]

The weights are random (checkpoints are not part of the project), so the cosine tells only that the
INT8 graph computes what the float graph does; the sizes and the ratio of the times are real. Each
encoder runs in a process of its own, whose peak memory is that of exporting it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

CASES = (
    "beats:base",
    "eat:base",
    "eat:large",
    "m2d:80x608p16x16",
    "m2d:80x1001p16x16",
    "dasheng:base",
    "dasheng:06b",
    "dasheng:12b",
    "muq:large",
)


def measure(case: str) -> dict[str, object]:
    """Export one encoder and time it."""
    import numpy as np
    import torch

    from agent.learn.embed import embed
    from export.compare import window_ms
    from export.quantize import quantize_weights
    from trainer.encoder_config import EncoderConfig
    from trainer.encoders.registry import build_encoder
    from trainer.graph import storage
    from trainer.graph.encoder_info import encoder_info
    from trainer.graph.onnx_graph import OPSET, cosines, export_graph, verify_parity

    family, size = case.split(":")
    encoder = build_encoder(
        EncoderConfig(kind=family, size=size), window_seconds=10.0, weights=None, seed=0
    )
    values = sum(p.numel() for p in encoder.parameters())
    random = np.random.default_rng(0)
    windows = random.normal(0, 0.05, (3, encoder.window_samples)).astype(np.float32)
    windows[1] *= np.linspace(0, 1, encoder.window_samples, dtype=np.float32)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        graph = export_graph(encoder, Path(folder) / "float.onnx")
        parity = verify_parity(encoder, graph.path, windows[:1])
        with torch.inference_mode():
            one = torch.from_numpy(windows[:1])
            encoder(one)
            start = time.perf_counter()
            encoder(one)
            eager = 1e3 * (time.perf_counter() - start)
        info = encoder_info(encoder, "float32", OPSET)
        del encoder
        float_ms = window_ms(graph.path, info, windows[:1])
        reference = embed(graph.path, info, windows)
        small = quantize_weights(graph, Path(folder) / "int8.onnx")
        took = time.perf_counter() - began
        return {
            "case": case,
            "values": values,
            "float_mb": storage.size(graph.path) / 1e6,
            "split": storage.is_split(graph.path),
            "int8_mb": storage.size(small.path) / 1e6,
            "int8_split": storage.is_split(small.path),
            "torch_cosine": parity,
            "int8_cosine": float(cosines(reference, embed(small.path, info, windows)).min()),
            "eager_ms": eager,
            "float_ms": float_ms,
            "int8_ms": window_ms(small.path, info, windows[:1]),
            "export_s": took,
            "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("cases", nargs="*", default=CASES, help=f"default {', '.join(CASES)}")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        sys.stdout.write(json.dumps(measure(chosen.one)))
        return
    console, found = Console(width=150), []
    table = Table(title="Full size, random weights, 10 s window, 2 threads", title_justify="left")
    for heading in (
        "encoder", "values", "float32", "INT8", "cosine to torch", "INT8 to float",
        "torch", "float32", "INT8", "torch / INT8", "export", "peak memory",
    ):  # fmt: skip
        table.add_column(heading, justify="left" if heading == "encoder" else "right")
    for case in chosen.cases:
        done = subprocess.run(
            [sys.executable, __file__, "--one", case], capture_output=True, text=True, check=False
        )
        if done.returncode:
            console.print(f"{case}: failed\n{done.stderr[-800:]}")
            continue
        row = json.loads(done.stdout)
        found.append(row)
        table.add_row(
            case,
            f"{row['values'] / 1e6:.0f} M",
            f"{row['float_mb']:.0f} MB" + (" in 2" if row["split"] else ""),
            f"{row['int8_mb']:.0f} MB" + (" in 2" if row["int8_split"] else ""),
            f"{row['torch_cosine']:.6f}",
            f"{row['int8_cosine']:.4f}",
            f"{row['eager_ms']:.0f} ms",
            f"{row['float_ms']:.0f} ms",
            f"{row['int8_ms']:.0f} ms",
            f"{row['eager_ms'] / row['int8_ms']:.1f}",
            f"{row['export_s']:.0f} s",
            f"{row['peak_gb']:.1f} GB",
        )
    console.print(table)
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
