"""An encoder as an ONNX graph, waveform to embedding, that gives what torch gives.

The front end (spectrograms, filter banks, normalisation) is inside the graph: the device has no
second implementation of it that could drift from the first.
"""

from __future__ import annotations

import ast
import contextlib
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch

from agent import __version__
from agent.core.errors import AuscultError
from agent.encode.frames import BOUNDARY
from agent.encode.onnx import PATCHES
from agent.learn.embed import embed
from trainer.encoders.base import Encoder
from trainer.graph.encoder_info import encoder_info
from trainer.graph.fused import fused
from trainer.graph.storage import check, save

# Onnxruntime 1.19 (the oldest the agent supports) reads operator sets up to 21 and TensorRT 10 up
# to 22 in part; 18 is the exporter's own set, so nothing has to be converted down or up.
OPSET = 18
INPUT = "waveform"
OUTPUT = "embedding"
FRONT_END = "front_end"
_WRAPPED = "encoder"  # where `_WithPatches` keeps it
_SCOPES = "pkg.torch.onnx.name_scopes"
# Float32 arithmetic in another order: measured differences are 1e-6 to 1e-4 of the vector's length.
PARITY = 2e-3

FloatArray = npt.NDArray[np.float32]
_LOG = logging.getLogger(__name__)


class ExportError(AuscultError):
    """A run that cannot become a bundle a device may rely on."""


@dataclass(frozen=True, slots=True)
class FloatGraph:
    """The float32 graph.

    Attributes:
        path: The ONNX file.
        opset: Operator set it needs.
        pinned: Names of the nodes that must stay float32: the front end's, and those of the
            submodules that the encoder excludes (`Encoder.quantization_excludes`).
        fused: Writes the same graph with onnxruntime's own operations (trainer/graph/fused.py),
            where the encoder has such a form and it agrees with torch.
        frames: Writes the graph of its frames (trainer/graph/frames.py), where it is kept; None
            where that is to be exported.
    """

    path: Path
    opset: int
    pinned: tuple[str, ...]
    fused: Callable[[Path], FloatGraph | None] | None = field(default=None, compare=False)
    frames: Callable[[Path], FloatGraph | None] | None = field(default=None, compare=False)


def export_graph(encoder: Encoder, path: Path) -> FloatGraph:
    """Write an encoder as an ONNX graph (above 2 GB its tensors lie in a second file beside it).

    Input `waveform` float32 `(batch, window_samples)`, output `embedding` float32 `(batch, dim)`,
    and of an encoder with patches `patches` float32 `(batch, time, rows, width)`; the batch is
    dynamic. Nodes are named after the module they come from (`front_end/STFT_3`), and
    nothing of the machine that exported it (source paths, stack traces) stays in the file.

    Args:
        encoder: The encoder, trained; it is put into evaluation mode.
        path: The file to write.

    Returns:
        The graph and which of its nodes may not be quantized.

    Raises:
        ExportError: An operation has no ONNX form, or the graph is not valid or not of that shape.
    """
    encoder = encoder.eval().cpu()
    return replace(_write(encoder, path), fused=partial(export_fused, encoder))


def export_fused(encoder: Encoder, path: Path) -> FloatGraph | None:
    """Write an encoder's fused form (trainer/graph/fused.py).

    Args:
        encoder: The encoder, in evaluation mode.
        path: The file to write.

    Returns:
        The graph; None where there is no such form, or (with a notice) none that agrees.
    """
    form = fused(encoder)
    if form is None:
        return None
    try:
        graph = _write(form, path)
        verify_parity(encoder, path, np.zeros((0, encoder.window_samples), np.float32))
    except AuscultError as fault:
        _LOG.warning(
            "The fused graph of '%s' is not used, and the plain one is slower: %s",
            encoder.kind,
            fault,
        )
        return None
    return graph


def _write(encoder: Encoder, path: Path) -> FloatGraph:
    example = torch.zeros(2, encoder.window_samples)
    module = encoder if encoder.patch_grid is None else _WithPatches(encoder)
    outputs = [OUTPUT] if module is encoder else [OUTPUT, PATCHES]
    try:
        model = write_onnx(module, example, [INPUT], outputs)
    except Exception as fault:  # the exporter's own errors share no useful base
        raise ExportError(
            f"the encoder '{encoder.kind}' cannot be written as ONNX: {fault}",
            remedy="Write its forward pass with operations that torch.onnx exports.",
        ) from fault
    _name_boundary(model, encoder)
    pinned = _rename_nodes(model, _excluded_modules(encoder))
    strip(model)
    model.producer_name, model.producer_version = "auscult", __version__
    save(model, path)
    _check(path, encoder)
    return FloatGraph(path=path, opset=OPSET, pinned=pinned)


def write_onnx(
    module: torch.nn.Module,
    example: torch.Tensor,
    inputs: list[str],
    outputs: list[str],
    *,
    stretches: tuple[int, int, int] | None = None,
) -> onnx.ModelProto:
    """A module of one input as an ONNX model, the first dimension dynamic.

    Args:
        module: The module.
        example: An input.
        inputs: The input's name.
        outputs: Names of the outputs.
        stretches: The second dimension is dynamic too: whole stretches of so many values, so many
            of them at least, and at most.
    """
    dimensions: dict[int, object] = {0: torch.export.Dim("batch")}
    if stretches is not None:
        size, least, most = stretches
        dimensions[1] = size * torch.export.Dim("stretches", min=least, max=most)
    # It takes half a second to load, which nobody need wait for who has the graph already.
    import onnxscript.optimizer  # noqa: PLC0415

    with _quiet():
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=inputs,
            output_names=outputs,
            dynamic_shapes=(dimensions,),
            # The exporter's own optimizer takes any constant below 1e-8 for zero and so drops
            # the floor under a logarithm or a root: log(x + 1e-12) became log(x).
            optimize=False,
            external_data=False,
            verbose=False,
        )
        assert program is not None
        onnxscript.optimizer.inline(program.model)
        onnxscript.optimizer.fold_constants(program.model)
        onnxscript.optimizer.remove_unused_nodes(program.model)
    return program.model_proto


def _name_boundary(model: onnx.ModelProto, encoder: Encoder) -> None:
    """Name the tensor that its front end hands on, when overlapping windows can share that."""
    framing = encoder.framing
    if framing is None:
        return
    scope = next(name for name, one in encoder.named_modules() if one is framing.front_end)
    inside = [node for node in model.graph.node if scope in _scopes(node)[:-1]]
    # A constant may serve inside and outside: it is made of no sound.
    made = {name for node in inside if node.op_type != "Constant" for name in node.output}
    own = {id(node) for node in inside}
    used = {
        name
        for node in model.graph.node
        if id(node) not in own
        for name in node.input
        if name in made
    }
    if len(used) != 1:  # it is then run whole
        return
    (old,) = used
    for node in model.graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                if name == old:
                    names[place] = BOUNDARY
    for value in model.graph.value_info:
        if value.name == old:
            value.name = BOUNDARY


class _WithPatches(torch.nn.Module):
    """An encoder that gives its patches too."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, waveform: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.encoder.with_patches(waveform)


def verify_parity(encoder: Encoder, path: Path, waveforms: FloatArray) -> float:
    """Compare a graph with the torch encoder it was exported from.

    Args:
        encoder: The encoder in torch.
        path: Its float32 graph.
        waveforms: Real windows, float32 `(n, window_samples)`; noise and an impulse are added.

    Returns:
        The smallest cosine similarity of the two embeddings of one window.

    Raises:
        ExportError: Some embedding differs by more than `PARITY` of its length (or of a
            twentieth of the usual length, where its own is less).
    """
    encoder = encoder.eval()
    batch = np.concatenate([waveforms, _synthetic(encoder.window_samples)]).astype(np.float32)
    with torch.inference_mode():
        reference = np.concatenate(
            [encoder(torch.from_numpy(batch[i : i + 8])).numpy() for i in range(0, len(batch), 8)]
        )
    exported = embed(path, encoder_info(encoder, "float32", OPSET), batch)
    length = np.linalg.norm(reference, axis=1)
    # An encoder may have next to nothing to say of an impulse or of noise; rounding is then
    # measured by what it says of real sound.
    usual = max(0.05 * float(np.median(length[: len(waveforms)])) if len(waveforms) else 0.0, 1e-9)
    error = np.linalg.norm(exported - reference, axis=1) / np.maximum(length, usual)
    if not np.isfinite(exported).all() or error.max() > PARITY:
        raise ExportError(
            f"the ONNX graph of '{encoder.kind}' disagrees with torch by {error.max():.2%} of the "
            f"embedding's length (at most {PARITY:.2%} is rounding)",
            where=path.name,
            remedy="This is a fault of the export, not of the recordings: please report it with "
            "the versions of torch, onnx and onnxruntime.",
        )
    return float(cosines(reference, exported, encoder.columns).min())


def cosines(
    one: FloatArray, other: FloatArray, spans: Sequence[tuple[int, int]] = ()
) -> FloatArray:
    """Cosine similarity row by row, `(n, d)` and `(n, d)` to `(n,)`; 1 for two zero rows.

    Args:
        one: Embeddings.
        other: Others of the same windows.
        spans: Columns that are compared by themselves, of which the least similar counts: beside
            levels in dB the direction of a learnt part would never show. The whole when empty.
    """
    if len(spans) > 1:
        parts = [cosines(one[:, a:b], other[:, a:b]) for a, b in spans]
        least: FloatArray = np.min(parts, axis=0)
        return least
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    products = np.einsum("nd,nd->n", one.astype(np.float64), other.astype(np.float64))
    same = np.all(one == other, axis=1)
    result = np.where(same, 1.0, products / np.maximum(lengths, 1e-30))
    return np.clip(result, -1.0, 1.0).astype(np.float32)


def _excluded_modules(encoder: Encoder) -> set[str]:
    """Dotted names of the submodules whose operations stay float32."""
    kinds = encoder.quantization_excludes()
    return {
        name
        for name, module in encoder.named_modules()
        if name and (FRONT_END in name.split(".") or (kinds and isinstance(module, kinds)))
    }


def _rename_nodes(model: onnx.ModelProto, excluded: set[str]) -> tuple[str, ...]:
    """Name each node after its module and operation; give the names of those that stay float32."""
    pinned = []
    for index, node in enumerate(model.graph.node):
        scopes = _scopes(node)
        # The last scope is the operation's own name in torch's graph, not a module's.
        module = scopes[-2] if len(scopes) > 1 else ""
        node.name = f"{module.replace('.', '/')}/{node.op_type}_{index}".lstrip("/")
        if excluded.intersection(scopes[:-1]):
            pinned.append(node.name)
    return tuple(pinned)


def _scopes(node: onnx.NodeProto) -> list[str]:
    """Modules a node comes from, outermost first, then its torch operation."""
    for entry in node.metadata_props:
        if entry.key == _SCOPES:
            value = ast.literal_eval(entry.value)
            # The encoder's own names, whether or not it was exported with its patches.
            return [re.sub(rf"^{_WRAPPED}(\.|$)", "", str(part)) for part in value]
    return []


def strip(model: onnx.ModelProto) -> None:
    """Drop what the exporter noted of its own machine: stack traces, paths, torch's names."""
    graph = model.graph
    for holder in (
        model,
        graph,
        *graph.node,
        *graph.input,
        *graph.output,
        *graph.value_info,
        *graph.initializer,
    ):
        holder.ClearField("metadata_props")
        holder.doc_string = ""


def _check(path: Path, encoder: Encoder) -> None:
    model = onnx.load(path, load_external_data=False)
    try:
        check(path)
    except Exception as fault:
        raise ExportError(
            f"the ONNX graph of '{encoder.kind}' is not valid: {fault}",
            remedy="Please report it with the versions of torch and onnx.",
        ) from fault
    shapes = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    want: dict[str, list[str | int]] = {
        INPUT: ["batch", encoder.window_samples],
        OUTPUT: ["batch", encoder.dim],
    }
    patches, grid = shapes.pop(PATCHES, None), encoder.patch_grid
    fits = shapes == want and (patches is None) == (grid is None)
    if patches is not None and grid is not None:
        fits = fits and len(patches) == 4 and patches[2] == len(grid.hertz) - 1
    if not fits:
        raise ExportError(
            f"the ONNX graph of '{encoder.kind}' has inputs and outputs {shapes}, not {want}",
            remedy="The encoder's forward pass must keep the batch dynamic and give (batch, dim).",
        )


def _synthetic(length: int) -> FloatArray:
    """Windows that no recording holds: white noise at two levels, and one click in silence."""
    random = np.random.default_rng(0)
    noise = random.standard_normal((2, length)) * np.array([[0.1], [0.003]])
    click = np.zeros((1, length))
    click[0, length // 3] = 0.5
    windows: FloatArray = np.concatenate([noise, click]).astype(np.float32)
    return windows


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's progress notes and deprecation warnings off the user's console."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
