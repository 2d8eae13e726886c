"""ONNX files of any size: above 2 GB the weights lie in a second file beside the graph.

Protocol buffers end at 2 GiB, and so does one ONNX file. Dasheng 0.6B in float32 is 2.5 GB: its
float graph, an intermediate of the export, keeps its tensors in `<name>.data`. In INT8 it fits into
one file again. A float32 bundle of it holds both files.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx.external_data_helper import uses_external_data

# Bytes of tensors that a graph may hold itself; the rest of the 2 GiB is for its nodes.
ONE_FILE_LIMIT = 2**31 - 2**26
# Tensors below so many bytes stay in the graph's own file.
_SMALL = 1024


def weight_bytes(model: onnx.ModelProto) -> int:
    """Bytes of the tensors a model holds in memory."""
    return sum(len(tensor.raw_data) for tensor in model.graph.initializer)


def is_large(model: onnx.ModelProto) -> bool:
    """Whether a model does not fit into one file."""
    return weight_bytes(model) > ONE_FILE_LIMIT


def data_file(path: Path) -> Path:
    """Where the tensors of a large graph lie."""
    return path.with_name(path.name + ".data")


def save(model: onnx.ModelProto, path: Path) -> None:
    """Write a model, its tensors in a second file if they must be; an older one is removed.

    Args:
        model: What to write. A large one's tensors are moved out of it.
        path: The graph's file.
    """
    beside = data_file(path)
    beside.unlink(missing_ok=True)
    if is_large(model):
        # Shape inference reads the small ones, and can't from another file.
        onnx.save(
            model, path, save_as_external_data=True, location=beside.name, size_threshold=_SMALL
        )
    else:
        path.write_bytes(model.SerializeToString(deterministic=True))


def copy(path: Path, to: Path) -> None:
    """Write a graph again under another name, with its tensors if they lie in a second file."""
    save(onnx.load(path), to)


def check(path: Path) -> None:
    """Hold a written graph to the ONNX specification.

    Raises:
        Exception: What the checker has against it.
    """
    # By path: a model in memory is serialised first, which ends at 2 GiB.
    onnx.checker.check_model(str(path), full_check=True)


def is_split(path: Path) -> bool:
    """Whether a graph's tensors lie in a second file."""
    model = onnx.load(path, load_external_data=False)
    return any(uses_external_data(tensor) for tensor in model.graph.initializer)


def size(path: Path) -> int:
    """Bytes of a graph with its tensors."""
    beside = data_file(path)
    return path.stat().st_size + (beside.stat().st_size if beside.exists() else 0)
