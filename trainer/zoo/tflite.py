"""Weights out of a TensorFlow Lite file, without TensorFlow.

A .tflite file is a FlatBuffer (schema.fbs of TensorFlow, Apache-2.0): tables that begin with the
signed distance to their vtable, whose entries say where each field lies. Read are a model's
operators in order, and the constants that they take: weights and biases, INT8 and INT32 by channel,
as float32. Every offset is held to the file's length, so that a damaged file is refused.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from agent.core.errors import ConfigError

Array: TypeAlias = npt.NDArray[np.float32]

_IDENTIFIER = b"TFL3"
# TensorType of the schema.
_TYPES = {0: "<f4", 2: "<i4", 9: "<i1"}
_MOST = 1 << 28  # values of a tensor


@dataclass(frozen=True, slots=True)
class Layer:
    """The constants of an operator.

    Attributes:
        weight: As it lies in the file: `(out, height, width, in)` of a convolution, `(1, height,
            width, channels)` of a depthwise one, `(out, in)` of a dense layer.
        bias: Shape `(out,)`.
    """

    weight: Array
    bias: Array


def read_layers(path: Path) -> list[Layer]:
    """Weights and biases of a file's operators that have both, in order.

    Raises:
        ConfigError: It is missing, or no such file.
    """
    try:
        data = path.read_bytes()
    except OSError as fault:
        raise ConfigError(
            "the pre-trained weights are not there",
            where=path,
            remedy="Say where they are with --weights.",
        ) from fault
    try:
        return _layers(_Table.root(data))
    except (struct.error, ValueError, IndexError, KeyError, OverflowError) as fault:
        raise ConfigError(
            f"cannot be read as a TensorFlow Lite model: {fault}",
            where=path,
            remedy="It is damaged or something else: fetch it again.",
        ) from fault


def _layers(model: _Table) -> list[Layer]:
    (graph,) = model.tables(2)
    tensors, buffers = graph.tables(0), model.tables(4)
    found = []
    for operator in graph.tables(3):
        given = operator.vector(1, "<i4")
        constants = [_constant(tensors[i], buffers) for i in given[1:] if i >= 0]
        if len(constants) == 2 and all(one is not None for one in constants):
            weight, bias = constants
            assert weight is not None
            assert bias is not None
            if weight.ndim in (2, 4) and bias.ndim == 1:
                found.append(Layer(weight, bias))
    return found


def _constant(tensor: _Table, buffers: list[_Table]) -> Array | None:
    """A tensor's values as float32; None for one that is computed."""
    data = buffers[tensor.scalar(2, "<I")].vector(0, "u1")
    kind = _TYPES.get(tensor.scalar(1, "<b"))
    if not len(data) or kind is None:
        return None
    shape = tuple(int(length) for length in tensor.vector(0, "<i4"))
    if int(np.prod(shape)) > _MOST:
        raise ValueError(f"a tensor of shape {shape}")
    raw: npt.NDArray[Any] = np.frombuffer(data.tobytes(), np.dtype(kind))
    values: npt.NDArray[np.float64] = raw.reshape(shape).astype(np.float64)
    rules = tensor.table(4)
    scales = np.zeros(0) if rules is None else rules.vector(2, "<f4").astype(np.float64)
    if rules is not None and len(scales):
        if rules.vector(3, "<i8").any():
            raise ValueError("weights that are not symmetric")
        wanted = [1] * values.ndim
        wanted[rules.scalar(6, "<i") if len(scales) > 1 else 0] = len(scales)
        values = values * scales.reshape(wanted)
    found: Array = values.astype(np.float32)
    return found


class _Table:
    """A table of a FlatBuffer."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data, self._at = data, at
        (back,) = struct.unpack_from("<i", data, at)
        self._vtable = at - back
        if self._vtable < 0:
            raise ValueError("a table's fields lie before the file")
        (self._size,) = struct.unpack_from("<H", data, self._vtable)

    @staticmethod
    def root(data: bytes) -> _Table:
        if data[4:8] != _IDENTIFIER:
            raise ValueError("it does not begin as one")
        return _Table(data, struct.unpack_from("<I", data, 0)[0])

    def _field(self, number: int) -> int:
        """Where a field lies; 0 where it is left at its default."""
        entry = 4 + 2 * number
        if entry + 2 > self._size:
            return 0
        (offset,) = struct.unpack_from("<H", self._data, self._vtable + entry)
        return self._at + offset if offset else 0

    def scalar(self, number: int, kind: str) -> int:
        """A number; 0 where it is left out."""
        place = self._field(number)
        return int(struct.unpack_from(kind, self._data, place)[0]) if place else 0

    def _behind(self, place: int) -> int:
        (offset,) = struct.unpack_from("<I", self._data, place)
        return place + int(offset)

    def table(self, number: int) -> _Table | None:
        """A table; None where it is left out."""
        place = self._field(number)
        return _Table(self._data, self._behind(place)) if place else None

    def vector(self, number: int, kind: str) -> npt.NDArray[Any]:
        """Numbers; none where they are left out."""
        dtype = np.dtype(kind)
        place = self._field(number)
        if not place:
            return np.zeros(0, dtype)
        start = self._behind(place)
        (count,) = struct.unpack_from("<I", self._data, start)
        if start + 4 + count * dtype.itemsize > len(self._data):
            raise ValueError("it is cut short")
        return np.frombuffer(self._data, dtype, count, start + 4)

    def tables(self, number: int) -> list[_Table]:
        """Tables of a vector."""
        place = self._field(number)
        if not place:
            return []
        start = self._behind(place)
        offsets = self.vector(number, "<u4")
        return [
            _Table(self._data, start + 4 + 4 * i + int(offset)) for i, offset in enumerate(offsets)
        ]
