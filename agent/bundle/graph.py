"""A reader of ONNX graphs that finds the files which they would have weights read from.

A tensor of a graph may name a file, and a runtime reads whatever that leads to. So the names are
found before any runtime is given the graph: by walking its protobuf messages, which needs no
package (`onnx` is not on devices) and reads no weight.

Source of the field numbers: onnx.proto3 of ONNX 1.16.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from agent.core.errors import BundleError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
# Messages that lead to tensors or nodes: by kind, field number -> kind of the message in it.
_INTO = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {4: "operator", 5: "attribute"},
    "attribute": {
        5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse",
    },
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
    "entry": {1: "key", 2: "value"},
}  # fmt: skip
# Their nodes have an engine read from a file that they name.
_OUTSIDE = frozenset({b"EPContext"})
_LENGTHS = frozenset({b"offset", b"length", b"checksum"})
_DEPTH = 64
# Of the graphs that auscult exports the largest has some 200,000.
_MOST_FIELDS = 5_000_000
_REMEDY = "Do not use this bundle: export it again."


def external_files(graph: Path) -> set[str]:
    """Names of the files that a graph's tensors are in, beside the graph itself.

    Args:
        graph: The ONNX file.

    Raises:
        BundleError: It is no ONNX model, or has a node that reads files itself.
    """
    try:
        with graph.open("rb") as file:
            if not graph.stat().st_size:
                return set()
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _Walk(data).names()
    except OSError as fault:
        raise BundleError(f"cannot be read: {fault.strerror}", where=graph) from fault
    except (ValueError, IndexError) as fault:
        raise BundleError(f"is no ONNX model: {fault}", where=graph, remedy=_REMEDY) from fault


class _Walk:
    """Through one model; protobuf lets a message be given in pieces, so every piece is walked."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._left = _MOST_FIELDS
        self._found: set[str] = set()

    def names(self) -> set[str]:
        """What its tensors name."""
        self._message("model", 0, len(self._data), 0)
        return self._found

    def _message(self, kind: str, start: int, end: int, depth: int) -> None:
        if depth > _DEPTH:
            raise ValueError("is nested too deep")
        if kind == "entry":
            self._entry(start, end)
            return
        into = _INTO[kind]
        for field, first, last in self._fields(start, end):
            inner = into.get(field)
            if inner == "operator":
                if self._data[first:last] in _OUTSIDE:
                    raise ValueError("a node of it has a file of its own read")
            elif inner is not None:
                self._message(inner, first, last, depth + 1)

    def _entry(self, start: int, end: int) -> None:
        """A key and its value; every value that may be a place counts as one."""
        keys: list[bytes] = []
        values: list[bytes] = []
        for field, first, last in self._fields(start, end):
            if field in _INTO["entry"]:
                (keys if field == 1 else values).append(self._data[first:last])
        if not keys or not set(keys) <= _LENGTHS:
            self._found.update(value.decode("utf-8", "replace") for value in values)

    def _fields(self, at: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Fields of a message that have a length: number, and where their bytes are."""
        while at < end:
            self._left -= 1
            if self._left < 0:
                raise ValueError("has too many parts")
            tag, at = self._varint(at)
            field, wire = tag >> 3, tag & 7
            if wire == _BYTES:
                size, at = self._varint(at)
                if at + size > end:
                    raise ValueError("is cut short")
                yield field, at, at + size
                at += size
            elif wire == _VARINT:
                _, at = self._varint(at)
            elif wire in {_FIXED64, _FIXED32}:
                at += 8 if wire == _FIXED64 else 4
            else:
                raise ValueError("holds what no model has")
        if at != end:
            raise ValueError("is cut short")

    def _varint(self, at: int) -> tuple[int, int]:
        value = shift = 0
        while True:
            byte = self._data[at]
            value |= (byte & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if byte < 0x80:
                return value, at
            if shift >= 70:
                raise ValueError("a number of it has no end")
