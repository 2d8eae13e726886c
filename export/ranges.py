"""How many of their eight bits INT8 weights use: seven, so that no processor cuts a sum off.

x86 processors without VNNI multiply uint8 activations by int8 weights in pairs (`vpmaddubsw`) and
add both products into 16 bits, where 2 * 255 * 127 = 64770 does not fit: the sum is cut off at
32767, silently, and the same graph gives other embeddings there. With weights up to 64 the largest
sum is 2 * 255 * 64 = 32640, which fits. onnxruntime's quantizers call this `reduce_range`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

WEIGHT_LIMIT = 64
_PAIR_LIMIT = 2**15 - 1


def largest_weight(path: Path) -> int:
    """The largest absolute INT8 weight in a graph; 0 of a graph without any.

    Vectors are no weights but zero points.

    Args:
        path: The graph.
    """
    model = onnx.load(path)
    return max(
        (
            int(np.abs(numpy_helper.to_array(tensor).astype(np.int16)).max(initial=0))
            for tensor in model.graph.initializer
            if tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) > 1
        ),
        default=0,
    )


def saturates(path: Path) -> bool:
    """Whether a graph's INT8 products may be cut off on a processor without VNNI."""
    return 2 * 255 * largest_weight(path) > _PAIR_LIMIT
