"""A 10 s window through BEATs (base, random weights): the published way against ours, in one run.

    .venv/bin/python benchmarks/beats.py [--rounds 9] [--threads 2] [--json FILE] [--quick]

`reference` is PyTorch, float32, eager, as published: the relative bias looked up and the gates
computed anew in every layer, scores kept whole, their greatest taken off before the softmax.
`torch` is our own encoder in PyTorch (one bias for all layers, PyTorch's fused attention),
`float32` the exported graph in onnxruntime, `int8_plain` the same with its matrix products in
INT8, `int8` what a bundle holds, `int8_4` to `int8_10` those of presets whose last layer
is that one. Each runs in a process of its own, and they take turns window by window, so that other
work on the machine meets all alike; ratios are of medians.

The floor is what the window's arithmetic would take at the best rates that onnxruntime's products
reach here in the same run, all of it in INT8: linear layers, position convolution, attention.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
import timeit
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from agent.core.records import Matrix

SAMPLES = 160000
SHORTER = (4, 6, 8, 10)
WAYS = ("reference", "torch", "float32", "int8_plain", "int8", *(f"int8_{n}" for n in SHORTER))
QUICK = ("reference", "int8")
Run = Callable[[Matrix], Matrix]
_LAYERS, _TOKENS, _WIDTH, _HIDDEN = 12, 496, 768, 3072
# Multiplications and additions of a window, by part.
_OPERATIONS = {
    "linear": 2.0 * _LAYERS * _TOKENS * (4 * _WIDTH**2 + 2 * _WIDTH * _HIDDEN),
    "attention": 4.0 * _LAYERS * _TOKENS**2 * _WIDTH,
    "position": 2.0 * _TOKENS * _WIDTH * (_WIDTH // 16) * 128,
}


def build(layers: tuple[int, ...] = ()) -> Any:
    """BEATs base with random weights."""
    from trainer.encoder_config import EncoderConfig
    from trainer.encoders.registry import build_encoder

    config = EncoderConfig(kind="beats", size="base", layers=layers)
    return build_encoder(config, window_seconds=10.0, weights=None, seed=0).eval()


def in_torch(threads: int, *, published: bool) -> Run:
    """Our encoder, or the same with its attention computed as published."""
    import torch

    torch.set_num_threads(threads)
    encoder = build()
    if published:
        for layer in encoder.backbone.layers:
            layer.self_attn.forward = _published(encoder.backbone, layer.self_attn)

    def run(waveforms: Matrix) -> Matrix:
        with torch.inference_mode():
            embeddings: Matrix = encoder(torch.from_numpy(waveforms)).numpy()
        return embeddings

    return run


def _published(backbone: Any, attention: Any) -> Callable[..., Any]:
    """Attention in the steps of the published computation, nothing shared between layers."""
    from torch import Tensor

    from trainer.zoo import beats

    heads, calm = attention.heads, 32.0  # published: scores are held small until the softmax

    def forward(tokens: Tensor, _bias: Tensor, _mask: Tensor | None) -> Tensor:
        batch, length, width = tokens.shape
        size = width // heads
        places = beats.buckets(length)
        bias = backbone.relative_bias(places).permute(2, 0, 1).unsqueeze(0)
        bias = bias.repeat(batch, 1, 1, 1).view(batch * heads, length, length)

        def split(values: Tensor) -> Tensor:
            return values.view(batch, length, heads, size).transpose(1, 2).flatten(0, 1)

        query = split(attention.q_proj(tokens))
        key, value = split(attention.k_proj(tokens)), split(attention.v_proj(tokens))
        gates = attention.grep_linear(query).view(batch * heads, length, 2, 4).sum(dim=-1)
        first, second = gates.sigmoid().chunk(2, dim=-1)
        scale = attention.grep_a.view(heads, 1, 1).repeat(batch, 1, 1)
        scores = (query / (calm * math.sqrt(size))) @ key.transpose(1, 2)
        scores = (scores - scores.max(dim=-1, keepdim=True)[0]) * calm
        scores = scores + (first * (second * scale - 1.0) + 2.0) * bias
        mixed = scores.softmax(dim=-1) @ value
        joined = mixed.view(batch, heads, length, size).transpose(1, 2)
        result: Tensor = attention.out_proj(joined.reshape(batch, length, width))
        return result

    return forward


def exported(path: Path, threads: int) -> Run:
    """The agent's own encoder."""
    from agent.bundle.manifest import EncoderInfo
    from agent.config.encode import InferenceConfig
    from agent.encode.onnx import OnnxEncoder

    info = EncoderInfo.model_validate_json((path.parent / "info.json").read_text())
    how = InferenceConfig(threads=threads, spinning=threads > 1)
    encoder = OnnxEncoder(path, info, inference=how)
    encoder.start()
    return encoder.encode


def export_all(folder: Path, ways: tuple[str, ...]) -> None:
    """Write the graphs."""
    from dataclasses import replace

    from export.quantize import quantize_weights
    from trainer.graph.encoder_info import encoder_info
    from trainer.graph.onnx_graph import export_graph

    folder.mkdir(parents=True, exist_ok=True)
    sounds = np.concatenate([sound(seed) for seed in range(4)])
    for name in [way for way in ways if way not in {"reference", "torch", "int8_plain"}]:
        layers = int(name.partition("_")[2] or _LAYERS)
        encoder = build((layers,))
        graph = export_graph(encoder, folder / "graph.onnx")
        if name == "float32":
            graph.path.replace(folder / "float32.onnx")
            plain = replace(graph, path=folder / "float32.onnx", fused=None)
            quantize_weights(plain, folder / "int8_plain.onnx")
        else:
            quantize_weights(graph, folder / f"{name}.onnx", sounds)
        told = encoder_info(encoder, "float32", graph.opset).model_dump_json()
        (folder / "info.json").write_text(told)


def sound(seed: int) -> Matrix:
    """Decaying tones over noise, `(1, SAMPLES)`."""
    random = np.random.default_rng(seed)
    clock = np.arange(SAMPLES) / 16000.0
    window = random.normal(0, 0.02, SAMPLES)
    for hertz in random.uniform(50, 4000, 6):
        window += 0.05 * np.sin(2 * np.pi * hertz * clock) * np.exp(-0.2 * clock)
    return window[None].astype(np.float32)


def work(way: str, folder: Path, threads: int) -> None:
    """A process that embeds one window for each line it reads, and tells what it took."""
    if way in {"reference", "torch"}:
        run = in_torch(threads, published=way == "reference")
    else:
        run = exported(folder / f"{way}.onnx", threads)
    waveforms = sound(99)
    run(waveforms)
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        embedding = run(waveforms)
        told = {
            "wall": time.perf_counter() - wall,
            "cpu": time.process_time() - cpu,
            "peak_mb": peak_mb(),
            "embedding": embedding[0].tolist(),
        }
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()


def peak_mb() -> float:
    """Most memory of this process so far; `ru_maxrss` would hold its parent's as well."""
    told = Path("/proc/self/status").read_text().split()
    return int(told[told.index("VmHWM:") + 1]) / 1024


def rates(threads: int) -> dict[str, float]:
    """Best operations a second of onnxruntime's products in the shape of a layer's widest."""
    import onnx.parser
    import onnxruntime
    from onnx import numpy_helper

    random = np.random.default_rng(0)
    best = {}
    kinds = {"uint8": (np.uint8, np.int8, "int32", "MatMulInteger"), "float": (np.float32,) * 2}
    for kind, (given, weights, *rest) in kinds.items():
        made, operation = rest or ("float", "MatMul")
        model = onnx.parser.parse_model(
            '<ir_version: 9, opset_import: ["" : 18]> product '
            f"({kind}[{_TOKENS},{_WIDTH}] x) => ({made}[{_TOKENS},{_HIDDEN}] y) "
            f"{{ y = {operation}(x, w) }}"
        )
        stored = random.integers(-127, 127, (_WIDTH, _HIDDEN)).astype(weights)
        model.graph.initializer.append(numpy_helper.from_array(stored, "w"))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        feed = {"x": random.integers(0, 255, (_TOKENS, _WIDTH)).astype(given)}
        took = timeit.repeat(partial(session.run, None, feed), number=1, repeat=60)
        best[kind] = 2.0 * _TOKENS * _WIDTH * _HIDDEN / min(took)
    return {"int8": best["uint8"], "float32": best["float"]}


def compare(folder: Path, ways: tuple[str, ...], rounds: int, threads: int) -> list[dict[str, Any]]:
    """Run every way in turns, `rounds` windows each."""
    rest = ["--graphs", str(folder), "--threads", str(threads)]
    processes = {
        way: subprocess.Popen(
            [sys.executable, __file__, "--work", way, *rest],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for way in ways
    }
    told: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, process in processes.items():
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("\n")
            process.stdin.flush()
            told[way].append(json.loads(process.stdout.readline()))
    for process in processes.values():
        process.communicate()
    base: dict[str, Any] = {}
    found = []
    for way in ways:
        one, other = (np.array(told[name][0]["embedding"]) for name in (ways[0], way))
        values = {
            "way": way,
            "wall_ms": 1e3 * float(np.median([each["wall"] for each in told[way]])),
            "cpu_ms": 1e3 * float(np.median([each["cpu"] for each in told[way]])),
            "peak_mb": max(each["peak_mb"] for each in told[way]),
        }
        if way == "int8_plain" or "_" not in way:
            values["cosine"] = float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))
        base = base or values
        for name in ("wall_ms", "cpu_ms", "peak_mb"):
            values[f"{name.split('_')[0]}_ratio"] = base[name] / values[name]
        found.append(values)
    rate = rates(threads)
    parts = {f"floor_{name}_ms": 1e3 * each / rate["int8"] for name, each in _OPERATIONS.items()}
    tell = {f"{name}_gops": each / 1e9 for name, each in rate.items()}
    found.append({"way": "floor", "wall_ms": sum(parts.values()), **parts, **tell})
    return found


def show(found: list[dict[str, Any]], threads: int) -> None:
    """Print the table."""
    table = Table(title=f"BEATs base, a 10 s window, {threads} threads")
    columns = ("wall_ms", "wall_ratio", "cpu_ms", "cpu_ratio", "peak_mb", "peak_ratio", "cosine")
    for name in ("way", *columns):
        table.add_column(name, justify="left" if name == "way" else "right")
    for one in found:
        cells = [f"{one[name]:.5g}" if name in one else "" for name in columns]
        table.add_row(one["way"], *cells)
    Console(width=120).print(table)
    Console(width=120).print(found[-1])


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9, help="windows each way")
    parser.add_argument("--quick", action="store_true", help="fewer ways, three windows each")
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--graphs", type=Path, help="keep the exported graphs here, and reuse them")
    parser.add_argument("--threads", type=int, default=2, help="of each way")
    parser.add_argument("--work", choices=WAYS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        work(given.work, given.graphs, given.threads)
        return
    ways, rounds = (QUICK, 3) if given.quick else (WAYS, given.rounds)
    with tempfile.TemporaryDirectory(prefix="auscult-beats-") as place:
        folder = given.graphs or Path(place)
        if not (folder / "info.json").exists():
            export_all(folder, ways)
        found = compare(folder, ways, rounds, given.threads)
    show(found, given.threads)
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
