"""INT8, as much of it as the bound allows.

Weights become int8 of seven bits (export/ranges.py), symmetric, one scale a channel; activations
uint8 with a zero point, their ranges the 99.99th percentile over healthy windows (mn04 with every
operation in INT8, weights of eight bits: mean cosine to float32 0.981; 0.971 with ranges by
relative entropy, 0.948 by minimum and maximum). The front end stays float32, since a spectrogram's
range of 100 dB does not fit into 8 bits. Where the embeddings still turn too far from the float
graph's, the operations that hurt most are given back to float32 one by one.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import onnx
import onnx.shape_inference
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QDQQuantizer,
    QuantType,
    create_calibrator,
    quantize_dynamic,
)
from onnxruntime.quantization.shape_inference import quant_pre_process
from rich.progress import Progress

from agent.bundle.manifest import EncoderInfo
from agent.core.progress import stage
from agent.core.records import Matrix
from agent.learn.embed import embed
from agent.learn.places import spread
from export.fewest import fewest
from export.positions import quantize_positions
from export.ranges import WEIGHT_LIMIT, largest_weight, saturates
from trainer.graph import storage
from trainer.graph.fused import DOMAIN, SCORES
from trainer.graph.onnx_graph import INPUT, ExportError, FloatGraph, cosines

# The operations that hold the weights, and so nearly all of the arithmetic and the size.
WEIGHTED = ("Conv", "Gemm", "MatMul")
_MATRIX_PRODUCTS = ("Gemm", "MatMul")
# A Relu behind one of them is folded into its output range.
_QUANTIZED = (*WEIGHTED, "Relu")
_PERCENTILE = 99.99
# Windows run at once in calibration, whose intermediate results all lie in memory.
_CALIBRATION_BATCH = 2
# Windows that choose which operations stay float32: for the choice, and for ranking each alone.
PROBES = 8
_FEW_PROBES = 2


@dataclass(frozen=True, slots=True)
class Quantized:
    """A quantized graph.

    Attributes:
        path: The ONNX file.
        mode: How it was quantized.
        int8_nodes: Weighted operations (convolutions, matrix products) in INT8.
        float_nodes: Names of those left in float32 to keep the embeddings' direction; the front
            end's are not counted.
    """

    path: Path
    mode: Literal["static", "dynamic"]
    int8_nodes: int
    float_nodes: tuple[str, ...] = ()


def quantize_static(
    graph: FloatGraph,
    out: Path,
    windows: Matrix,
    info: EncoderInfo,
    *,
    min_cosine: float,
    spans: Sequence[tuple[int, int]] = (),
    progress: Progress | None = None,
) -> Quantized:
    """Quantize weights and activations.

    Args:
        graph: The float32 graph.
        out: The file to write.
        windows: Healthy windows that the activation ranges are measured on, float32
            `(n, window_samples)`.
        info: What the graph takes and gives.
        min_cosine: Mean cosine to the float embeddings that the caller demands. A
            quarter of the allowed deviation is aimed at here, since other windows than these fare
            worse, and a few operations in float32 cost neither size nor time that matters.
        spans: Parts of a joined embedding, each held to it by itself.
        progress: Where to show progress.

    Returns:
        The graph; with no weighted operation outside the front end it is a plain copy.

    Raises:
        ExportError: The float graph is above 2 GB, or the quantizer made weights above 64.
    """
    if storage.is_split(graph.path):
        raise ExportError(
            f"a graph of {storage.size(graph.path) / 1e9:.1f} GB is too large for onnxruntime's "
            "calibration, which takes up to 2 GB",
            where="quantization.mode",
            remedy="Set it to dynamic, or name fewer layers (encoder.layers).",
        )
    with tempfile.TemporaryDirectory(prefix="auscult-") as place:
        inferred = Path(place) / "inferred.onnx"
        model = _prepared(graph.path, inferred)
        candidates = weighted_nodes(model, graph.pinned)
        if not candidates:
            storage.copy(graph.path, out)
            return Quantized(out, "static", 0)
        ranges = _activation_ranges(inferred, model, graph.pinned, windows, progress)
        probe = windows[spread(len(windows), PROBES)]
        reference = embed(graph.path, info, probe)

        def attempt(kept: Iterable[str], windows: int = PROBES) -> float:
            """Mean cosine with these operations in float32."""
            _write_qdq(model, out, ranges, [*graph.pinned, *kept])
            return float(
                cosines(reference[:windows], embed(out, info, probe[:windows]), spans).mean()
            )

        aim = 1.0 - (1.0 - min_cosine) / 4.0
        kept: list[str] = []
        if attempt(()) < aim:
            order = _by_harm(candidates, attempt, progress)
            task = None
            if progress is not None:
                task = progress.add_task("leaving operations in float32", total=None)
            kept = order[: fewest(len(order), lambda count: attempt(order[:count]) >= aim)]
            _write_qdq(model, out, ranges, [*graph.pinned, *kept])
            if progress is not None and task is not None:
                progress.update(task, total=1, completed=1)
        _finish(out)
    return Quantized(out, "static", len(candidates) - len(kept), tuple(kept))


def quantize_weights(graph: FloatGraph, out: Path, windows: Matrix | None = None) -> Quantized:
    """Quantize matrix products, their activation ranges found anew for every input (dynamic).

    Follows any input's level: for encoders made of matrix products. Convolutions stay float32,
    since onnxruntime's dynamic integer convolution knows one scale for all channels (on mn04 that
    turned the embeddings to a cosine of 0.66) and is slower than float; but for the wide ones of
    positions (export/positions.py). The front end is left out as in `quantize_static`. Where the
    encoder has a fused form, that is quantized: what lies between the products in INT8 costs as
    much as they do (docs/notes/speed.md).

    Args:
        graph: The float32 graph.
        out: The file to write.
        windows: Healthy windows, float32 `(n, window_samples)`; without them every convolution
            stays float32.

    Returns:
        The graph; with no operation to quantize it is a plain copy.
    """
    with tempfile.TemporaryDirectory(prefix="auscult-") as place:
        if graph.fused is not None:
            graph = graph.fused(Path(place) / "fused.onnx") or graph
        inferred = Path(place) / "inferred.onnx"
        model = _prepared(graph.path, inferred)
        candidates = weighted_nodes(model, graph.pinned, kinds=_MATRIX_PRODUCTS)
        if not candidates:  # an empty list would mean every node to the quantizer
            storage.copy(graph.path, out)
            return Quantized(out, "dynamic", 0)
        _approximate(inferred)
        positions = 0
        if windows is not None and not storage.is_split(inferred):
            chosen = windows[spread(len(windows), PROBES)]
            positions = quantize_positions(inferred, graph.pinned, chosen)
        with _quiet():
            quantize_dynamic(
                inferred,
                out,
                op_types_to_quantize=["MatMul"],  # the quantizer makes <gemm>_MatMul first
                per_channel=True,
                reduce_range=True,
                weight_type=QuantType.QInt8,
                nodes_to_quantize=[
                    *candidates,
                    *(f"{name}_MatMul" for name in candidates),
                    *(node.name for node in model.graph.node if SCORES in node.name),
                ],
                extra_options={"MatMulConstBOnly": False},
            )
    _finish(out)
    return Quantized(out, "dynamic", len(candidates) + positions)


def _approximate(path: Path) -> None:
    """Fused Gelus by a tanh: off by 5e-4 at most, less than INT8 is, in 0.6 of the time."""
    model = onnx.load(path, load_external_data=False)
    if not any(map(_is_fused_gelu, model.graph.node)):
        return
    # Read anew: writing a large model moves its tensors out of it.
    model = onnx.load(path)
    for node in filter(_is_fused_gelu, model.graph.node):
        node.op_type = "FastGelu"
    storage.save(model, path)


def _is_fused_gelu(node: onnx.NodeProto) -> bool:
    return node.op_type == "Gelu" and node.domain == DOMAIN


def weighted_nodes(
    model: onnx.ModelProto, pinned: Iterable[str], *, kinds: Collection[str] = WEIGHTED
) -> list[str]:
    """Names of the operations with stored weights that may be quantized."""
    stored = {tensor.name for tensor in model.graph.initializer}
    closed = set(pinned)
    return [
        node.name
        for node in model.graph.node
        if node.op_type in kinds and node.name not in closed and node.input[1] in stored
    ]


def _prepared(graph: Path, out: Path) -> onnx.ModelProto:
    """The graph with shapes inferred, constants folded and batch norms merged into convolutions."""
    if storage.is_split(graph):
        model = _with_shapes(graph)
    else:
        with _quiet():
            quant_pre_process(str(graph), str(out), skip_symbolic_shape=True)
        model = onnx.load(out)
    # Shapes noted of stored weights go stale when the quantizer transposes those.
    stored = {tensor.name for tensor in model.graph.initializer}
    shapes = [value for value in model.graph.value_info if value.name not in stored]
    del model.graph.value_info[:]
    model.graph.value_info.extend(shapes)
    storage.save(model, out)
    return model


def _with_shapes(graph: Path) -> onnx.ModelProto:
    """A large graph with shapes inferred. onnxruntime's preparation takes a single file only; what
    it would fold besides is batch norms, which no encoder of that size has.
    """
    inferred = graph.with_suffix(".shapes.onnx")  # beside the tensors, which it refers to
    onnx.shape_inference.infer_shapes_path(str(graph), str(inferred))
    try:
        return onnx.load(inferred)
    finally:
        inferred.unlink()


class _Windows(CalibrationDataReader):  # type: ignore[misc]
    """Feeds windows one at a time to onnxruntime's calibrator."""

    def __init__(self, windows: Matrix) -> None:
        self._left = iter(windows)

    def get_next(self) -> dict[str, Matrix] | None:
        window = next(self._left, None)
        return None if window is None else {INPUT: window[None]}


def _activation_ranges(
    inferred: Path,
    model: onnx.ModelProto,
    pinned: Iterable[str],
    windows: Matrix,
    progress: Progress | None,
) -> Any:
    """Range of every activation around an operation that may be quantized."""
    advance = stage(progress, "calibrating INT8", len(windows))
    with tempfile.TemporaryDirectory(prefix="auscult-") as place, _quiet():
        augmented = Path(place) / "augmented.onnx"
        calibrator = create_calibrator(
            inferred,
            list(_QUANTIZED),
            augmented_model_path=str(augmented),
            calibrate_method=CalibrationMethod.Percentile,
            extra_options={"percentile": _PERCENTILE, "symmetric": False},
        )
        # It measures by the type of operation: the front end's too, the largest by far, for which
        # nobody asks.
        calibrator.tensors_to_calibrate &= _tensors_of(model, pinned)
        observed = onnx.load(augmented)
        outputs = [
            one for one in observed.graph.output if one.name in calibrator.tensors_to_calibrate
        ]
        del observed.graph.output[:]
        observed.graph.output.extend(outputs)
        onnx.save(observed, augmented)
        calibrator.create_inference_session()
        for start in range(0, len(windows), _CALIBRATION_BATCH):
            part = windows[start : start + _CALIBRATION_BATCH]
            calibrator.collect_data(_Windows(part))
            advance(len(part))
        return calibrator.compute_data()


def _tensors_of(model: onnx.ModelProto, pinned: Iterable[str]) -> set[str]:
    """What goes into and comes out of operations that may be quantized."""
    closed = set(pinned)
    return {
        name
        for node in model.graph.node
        if node.op_type in _QUANTIZED and node.name not in closed
        for name in (*node.input, *node.output)
    }


def _write_qdq(model: onnx.ModelProto, out: Path, ranges: Any, float_nodes: list[str]) -> None:
    """Put quantize and dequantize pairs around every operation but the named ones."""
    loaded = onnx.ModelProto()
    loaded.CopyFrom(model)  # the quantizer changes what it is given
    # A Relu alone in INT8 between two float operations would only add noise.
    made_by = {name: node for node in loaded.graph.node for name in node.output}
    closed = set(float_nodes)
    for node in loaded.graph.node:
        if node.op_type == "Relu":
            source = made_by.get(node.input[0])
            if source is None or source.op_type not in WEIGHTED or source.name in closed:
                closed.add(node.name)
    with _quiet():
        quantizer = QDQQuantizer(
            loaded,
            per_channel=True,
            reduce_range=True,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=ranges,
            nodes_to_quantize=[],
            nodes_to_exclude=sorted(closed),
            op_types_to_quantize=list(_QUANTIZED),
            extra_options={"ActivationSymmetric": False, "WeightSymmetric": True},
        )
        quantizer.quantize_model()
        quantizer.model.topological_sort()
    storage.save(quantizer.model.model, out)


def _by_harm(candidates: list[str], attempt: Any, progress: Progress | None) -> list[str]:
    """Operations ordered by what each alone in INT8 does to the embeddings, the worst first."""
    advance = stage(progress, "finding sensitive operations", len(candidates))
    cosine = {}
    for name in candidates:
        cosine[name] = attempt([other for other in candidates if other != name], _FEW_PROBES)
        advance()
    return sorted(candidates, key=lambda name: cosine[name])


def _finish(path: Path) -> None:
    """Take the quantizer's own marks off, so that equal runs give equal bytes, and check.

    Raises:
        ExportError: Its products could be cut off on processors without VNNI.
    """
    model = onnx.load(path)
    model.ClearField("metadata_props")
    storage.save(model, path)
    storage.check(path)
    if saturates(path):
        raise ExportError(
            f"an INT8 weight of {largest_weight(path)} was made where {WEIGHT_LIMIT} is the most: "
            "on processors without VNNI its products would be cut off",
            where=path,
            remedy="Report this, with the versions of onnx and onnxruntime; meanwhile --float.",
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep onnxruntime's quantization tools, which print and log to the root, off the console."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        root.setLevel(level)
