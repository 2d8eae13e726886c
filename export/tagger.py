"""Converts a published sound tagger, YAMNet as TensorFlow Lite, into the ONNX that agents run.

The network is MobileNet: convolutions, a mean, one fully connected layer and a sigmoid. Weights are
taken out of their 8 bits into float32; activations are float32, clipped where the quantised ones
are. Which of AudioSet's tags make a kind of sound from elsewhere is written into the graph.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import tflite
from onnx import TensorProto, helper, numpy_helper

from agent.core.errors import AuscultError

# Tags of the published order (yamnet_class_map.csv) by kind of sound, as ranges with both ends.
# Engines, fans, pumps and mechanisms are none: a machine is one.
GROUPS: dict[str, tuple[tuple[int, int], ...]] = {
    "speech": ((0, 6), (9, 9), (11, 13), (63, 65)),
    "music": ((24, 31), (35, 35), (132, 276)),
    "vehicle": ((294, 336),),
    "rain": ((280, 289),),
    "tools": ((339, 341), (371, 371), (412, 419), (447, 447)),
    "impulses": (
        (348, 348), (351, 354), (356, 357), (420, 430), (434, 437), (454, 455), (460, 464),
        (478, 478),
    ),
}  # fmt: skip
TAGS = 521
_PATCH = (96, 64)
_OPSET = 17
_REMEDY = (
    "Give YAMNet with spectra as its input, such as yamnet_spectra_in.tflite of the Coral Micro "
    "examples; other taggers have to be ONNX already."
)

Array = npt.NDArray[Any]


class _Graph:
    """One TensorFlow Lite graph on its way to ONNX; tensors keep their numbers as names."""

    def __init__(self, data: bytes) -> None:
        model = tflite.Model.GetRootAsModel(data, 0)
        self._model, self._graph = model, model.Subgraphs(0)
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self._names: dict[int, str] = {}
        self._kinds = {
            number: name
            for name, number in vars(tflite.BuiltinOperator).items()
            if isinstance(number, int)
        }

    def convert(self) -> str:
        """Add a node for each operator; gives the name of the last one's output."""
        steps: dict[str, Callable[[Any, list[int], int], None]] = {
            "CONV_2D": self._conv,
            "DEPTHWISE_CONV_2D": self._depthwise,
            "MEAN": self._mean,
            "FULLY_CONNECTED": self._dense,
            "LOGISTIC": self._sigmoid,
        }
        out = -1
        for number in range(self._graph.OperatorsLength()):
            operator = self._graph.Operators(number)
            code = self._model.OperatorCodes(operator.OpcodeIndex())
            kind = self._kinds[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
            inputs = [int(i) for i in operator.InputsAsNumpy()]
            out = int(operator.OutputsAsNumpy()[0])
            if kind in steps:
                steps[kind](operator, inputs, out)
            elif kind in {"QUANTIZE", "DEQUANTIZE", "RESHAPE", "SPLIT"}:
                # Float32 throughout, one patch a row: these change nothing.
                source = inputs[1] if kind == "SPLIT" else inputs[0]
                self._names[out] = self._names.get(source, "planes")
            else:
                raise AuscultError(f"has an operator {kind}, which YAMNet has not", remedy=_REMEDY)
        return self._names[out]

    def _constant(self, index: int) -> Array:
        tensor = self._graph.Tensors(index)
        kinds = {0: np.float32, 2: np.int32, 3: np.uint8, 9: np.int8}
        raw = self._model.Buffers(tensor.Buffer()).DataAsNumpy()
        values = np.frombuffer(raw.tobytes(), kinds[tensor.Type()])
        values = values.reshape(tensor.ShapeAsNumpy())
        quantization = tensor.Quantization()
        if quantization is None or not quantization.ScaleLength():
            return values
        scale = quantization.ScaleAsNumpy().astype(np.float64)
        zero = quantization.ZeroPointAsNumpy().astype(np.float64)
        shape = [1] * values.ndim
        if len(scale) > 1:
            shape[quantization.QuantizedDimension()] = len(scale)
        found: Array = (values - zero.reshape(shape)) * scale.reshape(shape)
        return found.astype(np.float32)

    def _range(self, index: int) -> tuple[float, float] | None:
        """Least and greatest value that the quantised activation has."""
        quantization = self._graph.Tensors(index).Quantization()
        if quantization is None or not quantization.ScaleLength():
            return None
        scale, zero = float(quantization.Scale(0)), int(quantization.ZeroPoint(0))
        return (-128 - zero) * scale, (127 - zero) * scale

    def _weight(self, name: str, values: Array) -> str:
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def _node(self, kind: str, inputs: list[str], index: int, **attributes: Any) -> None:
        name = f"t{index}"
        self.nodes.append(helper.make_node(kind, inputs, [f"{name}.raw"], name=name, **attributes))
        bounds = self._range(index)
        if bounds is None:
            self._names[index] = f"{name}.raw"
            return
        low, high = (
            self._weight(f"{name}.{side}", np.array(value, np.float32))
            for side, value in zip(("low", "high"), bounds, strict=True)
        )
        self.nodes.append(helper.make_node("Clip", [f"{name}.raw", low, high], [name]))
        self._names[index] = name

    def _conv(self, operator: Any, inputs: list[int], out: int) -> None:
        options = tflite.Conv2DOptions()
        # (out, height, width, in) to (out, in, height, width)
        kernel = self._constant(inputs[1]).transpose(0, 3, 1, 2)
        self._convolve(operator, options, inputs, out, kernel, 1)

    def _depthwise(self, operator: Any, inputs: list[int], out: int) -> None:
        options = tflite.DepthwiseConv2DOptions()
        # (1, height, width, channels) to (channels, 1, height, width)
        kernel = self._constant(inputs[1]).transpose(3, 0, 1, 2)
        self._convolve(operator, options, inputs, out, kernel, len(kernel))

    def _convolve(
        self, operator: Any, options: Any, inputs: list[int], out: int, kernel: Array, group: int
    ) -> None:
        table = operator.BuiltinOptions()
        options.Init(table.Bytes, table.Pos)
        same = options.Padding() == tflite.Padding.SAME
        self._node(
            "Conv",
            [
                self._names[inputs[0]],
                self._weight(f"t{out}.w", kernel),
                self._weight(f"t{out}.b", self._constant(inputs[2])),
            ],
            out,
            group=group,
            strides=[options.StrideH(), options.StrideW()],
            auto_pad="SAME_UPPER" if same else "VALID",
        )

    def _mean(self, _: Any, inputs: list[int], out: int) -> None:
        self._node("ReduceMean", [self._names[inputs[0]]], out, axes=[2, 3], keepdims=0)

    def _dense(self, _: Any, inputs: list[int], out: int) -> None:
        kernel = self._weight(f"t{out}.w", self._constant(inputs[1]))
        bias = self._weight(f"t{out}.b", self._constant(inputs[2]))
        self._node("Gemm", [self._names[inputs[0]], kernel, bias], out, transB=1)

    def _sigmoid(self, _: Any, inputs: list[int], out: int) -> None:
        self._node("Sigmoid", [self._names[inputs[0]]], out)


def convert_tagger(source: Path, target: Path) -> None:
    """Write a TensorFlow Lite tagger as ONNX: `patches` float32 `(n, 96, 64)` to `tags` `(n, 521)`.

    Args:
        source: The `.tflite` file.
        target: Where the graph is written.

    Raises:
        AuscultError: It cannot be read or written, or is another network.
    """
    try:
        data = source.read_bytes()
    except OSError as fault:
        raise AuscultError(
            f"cannot be read: {fault.strerror}", where=source, remedy=_REMEDY
        ) from fault
    if data[4:8] != b"TFL3":
        raise AuscultError("is no TensorFlow Lite file", where=source, remedy=_REMEDY)
    try:
        graph = _Graph(data)
        out = graph.convert()
    except AuscultError as fault:
        raise AuscultError(fault.problem, where=source, remedy=fault.remedy) from fault
    except (ValueError, IndexError, KeyError, TypeError, AttributeError) as fault:
        raise AuscultError("is damaged or another network", where=source, remedy=_REMEDY) from fault
    shape = graph._weight("planes.shape", np.array([-1, 1, *_PATCH], np.int64))  # noqa: SLF001
    nodes = [
        helper.make_node("Reshape", ["patches", shape], ["planes"]),
        *graph.nodes,
        helper.make_node("Identity", [out], ["tags"]),
    ]
    whole = helper.make_graph(
        nodes,
        "tagger",
        [helper.make_tensor_value_info("patches", TensorProto.FLOAT, ["n", *_PATCH])],
        [helper.make_tensor_value_info("tags", TensorProto.FLOAT, ["n", TAGS])],
        graph.weights,
    )
    model = helper.make_model(whole, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=9)
    groups = {
        name: [i for first, last in spans for i in range(first, last + 1)]
        for name, spans in GROUPS.items()
    }
    helper.set_model_props(model, {"auscult.groups": json.dumps(groups)})
    try:
        onnx.checker.check_model(model, full_check=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(model, target)
    except OSError as fault:
        raise AuscultError(f"cannot be written: {fault.strerror}", where=target) from fault
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as fault:
        raise AuscultError("does not make a graph", where=source, remedy=_REMEDY) from fault
