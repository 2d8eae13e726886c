"""Bundles that end, or wedge, whatever opens them."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from agent.bundle.manifest import ENCODER
from agent.bundle.seal import seal
from agent.bundle.verify import read_manifest
from support.bundles import WINDOW


def spoil(folder, extra, constants, *, name="burden"):
    """Add to the graph what its embedding then waits for."""
    model = onnx.load(folder / ENCODER)
    graph = model.graph
    graph.initializer.extend(
        numpy_helper.from_array(value, key) for key, value in constants.items()
    )
    last = graph.node[-1]
    last.output[0] = "before"
    graph.node.extend([*extra, helper.make_node("Add", ["before", name], ["embedding"])])
    onnx.save(model, folder / ENCODER)
    seal(folder, read_manifest(folder))


def never_ending(folder):
    """`Loop` whose condition stays true, for as many turns as there are numbers."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["going_on"]),
            helper.make_node("Add", ["sum", "one"], ["sum_out"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum", TensorProto.FLOAT, []),
        ],
        [
            helper.make_tensor_value_info("going_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum_out", TensorProto.FLOAT, []),
        ],
    )
    loop = helper.make_node("Loop", ["turns", "yes", "zero"], ["burden"], body=body)
    spoil(
        folder, [loop],
        {
            "turns": np.array(2**62, np.int64), "yes": np.array(True),
            "zero": np.array(0, np.float32), "one": np.array(1, np.float32),
        },
    )  # fmt: skip


def enormous(folder):
    """8 GiB of numbers, added up; how many is known only as it runs."""
    spoil(
        folder,
        [
            helper.make_node("Shape", ["waveform"], ["shape_of"]),
            helper.make_node("ReduceProd", ["shape_of"], ["samples"], keepdims=1),
            helper.make_node("Mul", ["samples", "times"], ["many"]),
            helper.make_node("ConstantOfShape", ["many"], ["numbers"]),
            helper.make_node("ReduceMax", ["numbers"], ["burden"], keepdims=0),
        ],
        {"times": np.array([2**31 // WINDOW], np.int64)},
    )
