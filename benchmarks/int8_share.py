"""What share of the processor's own INT8 rate BEATs and EAT reach, and where the rest goes.

    .venv/bin/python benchmarks/int8_share.py [--encoders beats eat] [--graphs FOLDER] [--json FILE]

Products (multiplications with addition) are counted node by node of the graph that a bundle holds,
as onnxruntime runs it: from the shapes that its profiler notes. The rate is that of one large INT8
product (512 x 768 by 768 x 3072, agent/tune/product.py) in the same process, its calls taking turns
with the encoder's windows. One thread, processor time, so that other work on the machine counts
less; of the product the median and the least are taken. The share is the time that all products
would take at that rate, of what a window takes. Weights are random: they don't matter to the cost.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from rich.console import Console
from rich.table import Table

from agent.encode.processor import in_words, this_processor
from agent.tune.product import COLUMNS, MIDDLE, ROWS, product_graph
from export.quantize import quantize_weights
from trainer.encoder_config import EncoderConfig
from trainer.encoders.registry import build_encoder
from trainer.graph.onnx_graph import export_graph

_SECONDS = 10.0
_RATE = 16_000
_PRODUCTS = {"MatMulInteger", "DynamicQuantizeMatMul", "MatMulIntegerToFloat", "MatMul",
             "FusedMatMul", "Gemm", "QGemm", "QLinearMatMul"}  # fmt: skip
_CONVOLUTIONS = {"Conv", "FusedConv", "ConvInteger", "QLinearConv", "NhwcFusedConv"}
_ATTENTION = {"MultiHeadAttention", "Attention"}


def make(kind: str, folder: Path) -> Path:
    """The INT8 graph of an encoder of base size, random weights."""
    path = folder / f"{kind}.onnx"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        config = EncoderConfig(kind=kind, size="base")  # type: ignore[arg-type]
        encoder = build_encoder(config, window_seconds=_SECONDS, weights=None, seed=0).eval()
        graph = export_graph(encoder, folder / "float.onnx")
        quantize_weights(graph, path, np.concatenate([sound(seed) for seed in range(2)]))
    return path


def sound(seed: int) -> np.ndarray:
    """Noise with a tone, `(1, samples)`."""
    random = np.random.default_rng(seed)
    clock = np.arange(round(_SECONDS * _RATE)) / _RATE
    tone = 0.1 * np.sin(2 * np.pi * random.uniform(50, 2000) * clock)
    return np.float32(tone + random.normal(0, 0.02, len(clock)))[None]


def session(graph: Any, profile: Path | None = None) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def nodes(path: Path, folder: Path, windows: int) -> list[dict[str, Any]]:
    """What ran, in order: kind, milliseconds (least of some windows), products."""
    running = session(str(path), folder / "profile")
    name = running.get_inputs()[0].name
    for seed in range(windows):
        running.run(None, {name: sound(seed)})
    events = json.loads(Path(running.end_profiling()).read_text(encoding="utf-8"))
    held = onnx.load(path)
    shapes = {one.name: tuple(one.dims) for one in held.graph.initializer}
    weights = {node.name: [shapes.get(x, ()) for x in node.input] for node in held.graph.node}
    found: dict[str, dict[str, Any]] = {}
    for event in events:
        told = event.get("args", {})
        if event.get("cat") != "Node" or not event["name"].endswith("_kernel_time"):
            continue
        node = event["name"].removesuffix("_kernel_time")
        one = found.setdefault(node, {"op": told["op_name"], "ms": np.inf, "macs": 0.0})
        one["ms"] = min(one["ms"], event["dur"] / 1e3)
        one["macs"] = macs(told, weights.get(node, []))
        one["int8"] = "uint8" in json.dumps(told.get("input_type_shape", [])) or (
            one["op"] in {"DynamicQuantizeMatMul", "MatMulInteger"}
        )
    return list(found.values())


def macs(told: dict[str, Any], weights: list[tuple[int, ...]]) -> float:
    """Products of a node, from the shapes it was given and gave."""
    given = [next(iter(one.values())) for one in told.get("input_type_shape", [])]
    gave = [next(iter(one.values())) for one in told.get("output_type_shape", [])]
    if not given or not gave:
        return 0.0
    size, op = float(np.prod(gave[0])), told["op_name"]
    if op in _PRODUCTS:
        return size * given[0][-1]
    if op in _CONVOLUTIONS:
        kernel = max((shape for shape in weights if len(shape) >= 3), key=len, default=None)
        kernel = kernel or next((one for one in given[1:] if len(one) >= 3), None)
        return size * float(np.prod(kernel[1:])) if kernel else 0.0
    if op in _ATTENTION:
        batch, length, width = given[0]
        keys = given[1][-2] if len(given) > 1 else length
        return 2.0 * batch * length * keys * width
    return 0.0


def spent(run: Any) -> float:
    """Milliseconds of processor."""
    start = time.process_time()
    run()
    return 1e3 * (time.process_time() - start)


def measure(kind: str, folder: Path, rounds: int) -> dict[str, Any]:
    """One encoder."""
    path = make(kind, folder)
    ran = nodes(path, folder, 3)
    encoder, random = session(str(path)), np.random.default_rng(0)
    name, window = encoder.get_inputs()[0].name, sound(9)
    plain = session(product_graph("int8", random.integers(-64, 64, (MIDDLE, COLUMNS))))
    left = {"x": random.integers(0, 255, (ROWS, MIDDLE)).astype(np.uint8)}
    windows, products = [], []
    for turn in range(rounds + 1):
        times = [spent(lambda: plain.run(None, left)) for _ in range(5)]
        took = spent(lambda: encoder.run(None, {name: window}))
        if turn:
            products += times
            windows.append(took)
    total = sum(one["macs"] for one in ran)
    count = float(ROWS * MIDDLE * COLUMNS)
    told: dict[str, Any] = {
        "encoder": kind,
        "processor": in_words(this_processor()),
        "gmacs": total / 1e9,
        "window_ms": float(np.median(windows)),
        "least_ms": min(windows),
        "rate_gmacs": count / float(np.median(products)) / 1e6,
        "best_rate_gmacs": count / min(products) / 1e6,
    }
    told["share"] = total / told["rate_gmacs"] / 1e6 / told["window_ms"]
    told["share_of_best"] = total / told["best_rate_gmacs"] / 1e6 / told["least_ms"]
    by: dict[str, dict[str, float]] = defaultdict(lambda: {"nodes": 0, "ms": 0.0, "gmacs": 0.0})
    for one in ran:
        here = by[f"{one['op']}{' (8 bits)' if one['int8'] and one['macs'] else ''}"]
        here["nodes"] += 1
        here["ms"] += one["ms"]
        here["gmacs"] += one["macs"] / 1e9
    told["by"] = dict(sorted(by.items(), key=lambda item: -item[1]["ms"]))
    return told


def show(told: dict[str, Any]) -> None:
    """Print one encoder's."""
    console = Console(width=120)
    console.print({name: value for name, value in told.items() if name != "by"})
    table = Table(title=f"{told['encoder']}: by operation, wall clock of the profiler")
    for heading in ("operation", "nodes", "ms", "GMAC", "GMAC/s"):
        table.add_column(heading, justify="left" if heading == "operation" else "right")
    for name, one in list(told["by"].items())[:18]:
        rate = f"{1e3 * one['gmacs'] / one['ms']:.0f}" if one["gmacs"] else ""
        table.add_row(
            name, str(one["nodes"]), f"{one['ms']:.1f}", f"{one['gmacs']:.2f}", rate
        )  # fmt: skip
    console.print(table)


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--encoders", nargs="+", default=["beats", "eat"])
    parser.add_argument("--graphs", type=Path, help="keep the exported graphs here, and reuse them")
    parser.add_argument("--rounds", type=int, default=9, help="windows of each encoder")
    parser.add_argument("--json", type=Path, help="where the figures go")
    given = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory(prefix="auscult-share-") as place:
        for kind in given.encoders:
            found.append(measure(kind, given.graphs or Path(place), given.rounds))
            show(found[-1])
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
