"""Graphs that take their turns work in the same memory."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MEGABYTE = 1 << 20
# Working memory of a window: two tensors of so many numbers.
WIDE = 4 * MEGABYTE
GRAPHS = 4

CODE = """
import sys
from pathlib import Path
import numpy as np
from agent.bundle.manifest import EncoderInfo
from agent.config.encode import InferenceConfig
from agent.encode.onnx import OnnxEncoder

def held():
    text = Path("/proc/self/smaps_rollup").read_text()
    return 1024 * int(text.partition("Anonymous:")[2].split()[0])

info = EncoderInfo(kind="wide", sample_rate=100, window_samples=1, dim=1, precision="float32", opset=18)
how = InferenceConfig(arena=sys.argv[1] == "arena")
running, sizes = [], []
for path in sys.argv[2:]:
    encoder = OnnxEncoder(Path(path), info, inference=how)
    encoder.start()
    running.append(encoder)
    sizes.append(held())
found = [float(one.encode(np.float32([[3.0]]))[0, 0]) for one in running]
print("GREW", sizes[-1] - sizes[0], found)
"""

PARTS = """
info = EncoderInfo(kind="wide", sample_rate=100, window_samples=4, dim=1, precision="float32", opset=18)
encoder = OnnxEncoder(Path(sys.argv[2]), info, framed=True)
encoder.start()
window = np.float32([1, 2, 3, 4])
sizes = []
for _ in range(3):
    whole = encoder.encode(window[None])
    sizes.append(held())
    frames = encoder.frames(np.stack([window[:2], window[2:]]))
    by_parts = encoder.embed_frames(frames.reshape(1, 1, 4), window)
    sizes.append(held())
print("SIZES", *sizes)
print("FOUND", float(whole[0, 0]), float(by_parts[0, 0]))
"""


def wide(path: Path, factor: float) -> Path:
    """A graph that spreads its one sample over many numbers, and adds them up again."""
    shape = numpy_helper.from_array(np.array([1, WIDE], np.int64), "shape")
    scale = numpy_helper.from_array(np.float32([factor]), "factor")
    nodes = [
        helper.make_node("Expand", ["waveform", "shape"], ["many"]),
        helper.make_node("Exp", ["many"], ["more"]),
        helper.make_node("ReduceMax", ["more"], ["most"], keepdims=1),
        helper.make_node("Mul", ["most", "factor"], ["embedding"]),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 1])
        for name in ("waveform", "embedding")
    ]
    graph = helper.make_graph(nodes, "wide", ends[:1], ends[1:], [shape, scale])
    opset = helper.make_opsetid("", 13)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)
    return path


def in_parts(folder: Path) -> Path:
    """The same of a window of four samples, and its parts, which need next to no memory."""
    shape = numpy_helper.from_array(np.array([1, WIDE], np.int64), "shape")
    whole = [
        helper.make_node("ReduceMax", ["waveform"], ["top"], axes=[1], keepdims=1),
        helper.make_node("Expand", ["top", "shape"], ["many"]),
        helper.make_node("Neg", ["many"], ["more"]),
        helper.make_node("ReduceMin", ["more"], ["embedding"], axes=[1], keepdims=1),
    ]
    front = [helper.make_node("Unsqueeze", ["waveform", "one"], ["frames"])]
    body = [
        helper.make_node("ReduceMax", ["frames"], ["top"], axes=[1, 2], keepdims=0),
        helper.make_node("Neg", ["top"], ["less"]),
        helper.make_node("Unsqueeze", ["less", "one"], ["embedding"]),
    ]
    one = numpy_helper.from_array(np.array([1], np.int64), "one")
    for name, nodes, stored, ends in (
        ("encoder", whole, [shape], [("waveform", ["batch", 4]), ("embedding", ["batch", 1])]),
        ("frames", front, [one], [("waveform", ["batch", 2]), ("frames", ["batch", 1, 2])]),
        ("body", body, [one], [("frames", ["batch", 1, 4]), ("embedding", ["batch", 1])]),
    ):
        values = [helper.make_tensor_value_info(end, TensorProto.FLOAT, dims) for end, dims in ends]
        graph = helper.make_graph(nodes, name, values[:1], values[1:], stored)
        opset = helper.make_opsetid("", 13)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=8)
        layout = {"hop": "1", "head": "0", "tail": "0", "chunk": "2", "count": "4"}
        helper.set_model_props(model, layout)
        onnx.save(model, folder / f"{name}.onnx")
    return folder / "encoder.onnx"


def run(how: str, tmp_path: Path) -> tuple[int, list[float]]:
    """Bytes that the graphs after the first took, and what all of them found."""
    paths = [wide(tmp_path / f"{n}.onnx", 1.0 + n) for n in range(GRAPHS)]
    done = subprocess.run(
        [sys.executable, "-c", CODE, how, *map(str, paths)],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    found = re.search(r"GREW (-?\d+) \[(.*)\]", done.stdout)
    assert found, done.stderr
    return int(found[1]), [float(one) for one in found[2].split(",")]


def test_more_graphs_take_no_more_working_memory(tmp_path):
    grew, found = run("arena", tmp_path)
    # One alone works in two tensors of sixteen megabytes.
    assert grew < 4 * WIDE
    np.testing.assert_allclose(found, np.exp(3.0) * np.arange(1, GRAPHS + 1), rtol=1e-5)


def test_without_an_arena_graphs_run_as_well(tmp_path):
    _, found = run("none", tmp_path)
    np.testing.assert_allclose(found, np.exp(3.0) * np.arange(1, GRAPHS + 1), rtol=1e-5)


def test_parts_give_back_what_the_whole_graph_worked_in(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", CODE.partition("info =")[0] + PARTS, "arena", in_parts(tmp_path)],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    lines = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()}
    sizes = [int(size) for size in lines["SIZES"]]
    assert lines["FOUND"] == ["-4.0", "-4.0"]
    for whole, parts in zip(sizes[::2], sizes[1::2], strict=True):
        assert whole - parts > 4 * WIDE
