"""The convolution over the sequence that gives a transformer its positions, in INT8.

It is grouped and wide (BEATs: 128 taps, 16 groups), and takes as long in float32 as half the INT8
products of the layers (docs/notes/speed.md). onnxruntime has an integer convolution with one scale
a channel, `QLinearConv`, four times faster, whose ranges must be known beforehand: measured here on
healthy windows. They hold for other sounds too, since what this convolution takes is normed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import numpy_helper
from onnx.helper import get_attribute_value, make_node

from agent.core.records import Matrix
from export.ranges import WEIGHT_LIMIT
from trainer.graph import storage

# Other sounds may reach further than those the ranges were measured on.
_MARGIN = 1.25

_Range = tuple[float, float]
_Array = npt.NDArray[np.generic]


def quantize_positions(path: Path, pinned: Collection[str], windows: Matrix) -> int:
    """Put every convolution of this kind in a graph into INT8, in place.

    Args:
        path: A float32 graph with its tensors in one file.
        pinned: Nodes that stay float32.
        windows: Windows to measure ranges on, float32 `(n, window_samples)`.

    Returns:
        How many there were; with no window, none is changed.
    """
    model = onnx.load(path)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    found = [
        node
        for node in model.graph.node
        if node.op_type == "Conv" and node.name not in pinned and _is_wide(node, stored)
    ]
    if not found or not len(windows):
        return 0
    ranges = _ranges(path, [name for n in found for name in (n.input[0], n.output[0])], windows)
    own = {id(node) for node in found}
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        nodes.extend(_in_int8(model.graph, node, stored, ranges) if id(node) in own else [node])
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    storage.save(model, path)
    return len(found)


def _is_wide(node: onnx.NodeProto, stored: Mapping[str, onnx.TensorProto]) -> bool:
    """Over a sequence, in groups of several channels; those of one channel lose too much."""
    groups = {one.name: get_attribute_value(one) for one in node.attribute}.get("group", 1)
    if groups == 1 or node.input[1] not in stored:
        return False
    shape = stored[node.input[1]].dims
    return len(shape) == 3 and shape[1] > 1


def _ranges(path: Path, names: list[str], windows: Matrix) -> dict[str, _Range]:
    """Least and greatest value of tensors over the windows, zero and a margin included."""
    model = onnx.load(path)
    del model.graph.output[:]
    model.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        for name in dict.fromkeys(names)
    )
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    found: dict[str, _Range] = {}
    asked = [one.name for one in session.get_outputs()]
    for window in windows:
        for name, values in zip(
            asked, session.run(asked, {session.get_inputs()[0].name: window[None]}), strict=True
        ):
            least, greatest = found.get(name, (0.0, 0.0))
            found[name] = (min(least, float(values.min())), max(greatest, float(values.max())))
    return {name: (_MARGIN * low, _MARGIN * high) for name, (low, high) in found.items()}


def _in_int8(
    graph: onnx.GraphProto,
    node: onnx.NodeProto,
    stored: Mapping[str, onnx.TensorProto],
    ranges: Mapping[str, _Range],
) -> list[onnx.NodeProto]:
    """A convolution as three nodes: to INT8, the convolution, to float32."""

    def keep(what: str, values: _Array) -> str:
        name = f"{node.name}/{what}"
        graph.initializer.append(numpy_helper.from_array(values, name))
        return name

    def scale_of(tensor: str) -> tuple[np.float32, np.uint8]:
        low, high = ranges[tensor]
        step = max((high - low) / 255.0, 1e-9)
        return np.float32(step), np.uint8(round(-low / step))

    given, made = node.input[0], node.output[0]
    kernel = numpy_helper.to_array(stored[node.input[1]]).astype(np.float64)
    channels = len(kernel)
    steps = np.maximum(np.abs(kernel).reshape(channels, -1).max(axis=1) / WEIGHT_LIMIT, 1e-12)
    whole = np.round(kernel / steps[:, None, None]).astype(np.int8)
    (in_step, in_zero), (out_step, out_zero) = scale_of(given), scale_of(made)
    taken = [keep("in_scale", np.array(in_step)), keep("in_zero", np.array(in_zero))]
    told = [keep("out_scale", np.array(out_step)), keep("out_zero", np.array(out_zero))]
    weights = [
        keep("kernel", whole),
        keep("kernel_scale", steps.astype(np.float32)),
        keep("kernel_zero", np.zeros(channels, np.int8)),
    ]
    bias = []
    if len(node.input) > 2 and node.input[2]:
        offset = numpy_helper.to_array(stored[node.input[2]]).astype(np.float64)
        bias = [keep("bias", np.round(offset / (float(in_step) * steps)).astype(np.int32))]
    small, result = f"{node.name}/in", f"{node.name}/out"
    convolution = make_node(
        "QLinearConv", [small, *taken, *weights, *told, *bias], [result], name=node.name
    )
    convolution.attribute.extend(node.attribute)
    return [
        make_node("QuantizeLinear", [given, *taken], [small], name=f"{node.name}/quantize"),
        convolution,
        make_node("DequantizeLinear", [result, *told], [made], name=f"{node.name}/dequantize"),
    ]
