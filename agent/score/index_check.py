"""A checker of HNSW index files, read before hnswlib reads them.

hnswlib follows every number of its file unchecked: an entry point, link or label beyond the rows
reads or writes where no row is, and ends the process. A checksum is no defence, for whoever alters
an index can seal it again. So every header, link, vector and label is held to the bank here first,
with NumPy alone. The file, as `saveIndex` of hnswlib 0.5 to 0.8 writes it (little-endian):

    header      `_HEADER`
    rows        count times: links of level 0 (uint32 length, 2 M uint32), vector (dim float32),
                label (uint64)
    levels      count times: uint32 bytes, then so many bytes of links: of each level above 0 a
                uint32 length and M uint32
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from agent.config.scorer_knn import Metric
from agent.core.errors import BundleError
from agent.core.records import Matrix
from agent.score.bank import prepare
from agent.score.reduction import Reduction

_HEADER = struct.Struct("<6QiI3QdQ")
_WORD = struct.Struct("<I")
_MOST_LINKS = 256
_MOST_WEIGHED = 100_000
_BLOCK = 8192
# hnswlib adds up the squares of a vector in another order than NumPy.
_TOLERANCE = 1e-5
_REMEDY = "Do not use this bundle: export it again with `auscult export`."


class _Header(NamedTuple):
    """What the file begins with; named as in hnswlib's `saveIndex`."""

    offset_level0: int
    max_elements: int
    rows: int
    size_per_element: int
    label_offset: int
    data_offset: int
    max_level: int
    entry: int
    max_m: int
    max_m0: int
    m: int
    mult: float
    ef_construction: int


def check_index(
    path: Path, vectors: Matrix, metric: Metric, reduction: Reduction | None = None
) -> int:
    """Hold an index file to a bank: may hnswlib be let at it?

    Args:
        path: The file.
        vectors: The bank, float32 `(rows, dim)`.
        metric: Distance of the scorer.
        reduction: What the index holds in the place of the vectors; they themselves when None.

    Returns:
        How many rows it is of: the bank's first, all of them or fewer.

    Raises:
        BundleError: Something in it is not as the library writes it of this bank; says what.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            data = file.read(_HEADER.size)
    except OSError as fault:
        raise BundleError(f"cannot be read: {fault.strerror}", where=path) from fault
    if len(data) < _HEADER.size:
        raise _bad(path, "it ends within its header")
    header = _Header._make(_HEADER.unpack(data))
    columns = vectors.shape[1] if reduction is None else reduction.columns
    _check_header(path, header, len(vectors), columns)
    levels_at = _HEADER.size + header.rows * header.size_per_element
    if levels_at + header.rows * _WORD.size > size:
        raise _bad(path, f"it ends before the last of its {header.rows} rows")
    levels = _check_levels(path, header, levels_at, size)
    if levels[header.entry] != header.max_level or levels.max() != header.max_level:
        raise _bad(path, "its entry point is not on its highest level")
    _check_rows(path, header, columns, lambda at: _expected(vectors[at], metric, reduction))
    return header.rows


def _check_header(path: Path, header: _Header, rows: int, dim: int) -> None:
    m, count = header.m, header.rows
    if not 2 <= m <= _MOST_LINKS or not 1 <= header.ef_construction <= _MOST_WEIGHED:
        raise _bad(path, f"M is {m} and ef_construction {header.ef_construction}")
    links = _WORD.size * (1 + 2 * m)
    wanted = {
        "offset_level0": 0,
        "data_offset": links,
        "label_offset": links + 4 * dim,
        "size_per_element": links + 4 * dim + 8,
        "max_m": m,
        "max_m0": 2 * m,
    }
    found = header._asdict()
    for name, value in wanted.items():
        if found[name] != value:
            raise _bad(path, f"{name} is {found[name]} where {value} fits M {m} and {dim} columns")
    if not 0 < count <= rows or count > header.max_elements:
        raise _bad(path, f"it is of {count} rows ({header.max_elements}), the bank has {rows}")
    if not math.isclose(header.mult, 1 / math.log(m), rel_tol=1e-9):
        raise _bad(path, f"mult is {header.mult}")
    if not 0 <= header.entry < count or not 0 <= header.max_level < count:
        raise _bad(path, f"entry point {header.entry}, level {header.max_level}, of {count} rows")


def _check_levels(path: Path, header: _Header, begin: int, size: int) -> npt.NDArray[np.int64]:
    """Each row's highest level; its links above the ground lead to rows that are there too."""
    data: Any = np.memmap(path, np.uint8, "r", begin)
    step = _WORD.size * (1 + header.m)
    levels = np.zeros(header.rows, np.int64)
    above: list[tuple[int, int]] = []  # row, and where its links begin
    at, end = 0, size - begin
    for row in range(header.rows):
        if at + _WORD.size > end:
            raise _bad(path, f"it ends before the links of row {row}")
        (length,) = _WORD.unpack_from(data, at)
        at += _WORD.size
        if length:
            if length % step or at + length > end:
                raise _bad(path, f"row {row} has {length} bytes of links")
            levels[row] = length // step
            above.append((row, at))
            at += length
    if at != end:
        raise _bad(path, f"{end - at} bytes follow its last row")
    for row, place in above:
        for level in range(1, int(levels[row]) + 1):
            lists = np.frombuffer(data, "<u4", 1 + header.m, place + (level - 1) * step)
            linked = lists[1 : 1 + int(lists[0])]
            if lists[0] > header.m or (linked >= header.rows).any():
                raise _bad(path, f"row {row} links, on level {level}, to rows that there are not")
            if (levels[linked] < level).any():
                raise _bad(path, f"row {row} links to rows that are not on level {level}")
    return levels


def _expected(
    vectors: Matrix, metric: Metric, reduction: Reduction | None
) -> tuple[Matrix, Matrix | float]:
    """Vectors as an index holds them, and how far they may be off beside their own digits."""
    ready = prepare(vectors, metric)
    if reduction is None:
        return ready, _TOLERANCE
    # A sum over all columns: its rounding goes by the whole vector, not by the number it gives.
    size = np.linalg.norm(ready, axis=1, keepdims=True) + np.linalg.norm(reduction.centre)
    return reduction.apply(ready), _TOLERANCE * size


def _check_rows(
    path: Path,
    header: _Header,
    columns: int,
    expected: Callable[[slice], tuple[Matrix, Matrix | float]],
) -> None:
    """Labels are the row numbers, vectors the bank's, and links lead to rows."""
    kind: Any = np.dtype(
        [
            ("length", "<u4"),
            ("links", "<u4", (header.max_m0,)),
            ("vector", "<f4", (columns,)),
            ("label", "<u8"),
        ]
    )
    table = np.memmap(path, kind, "r", _HEADER.size, (header.rows,))
    slots = np.arange(header.max_m0)
    for begin in range(0, header.rows, _BLOCK):
        part = table[begin : begin + _BLOCK]
        number = np.arange(begin, begin + len(part))
        # Beyond 16 bits the library keeps marks of deleted rows, of which there are none.
        long = part["length"] > header.max_m0
        linked = slots[None, :] < part["length"][:, None]
        astray = (linked & (part["links"] >= header.rows)).any(axis=1)
        ready, slack = expected(slice(begin, begin + len(part)))
        off = np.abs(part["vector"] - ready)  # NaN is never within the tolerance
        other = ~(off <= slack + _TOLERANCE * np.abs(ready)).all(axis=1)
        for wrong, what in (
            (long, "has more links than there may be"),
            (astray, "links to rows that there are not"),
            (part["label"] != number, "bears another number"),
            (other, "holds another vector than the bank"),
        ):
            if wrong.any():
                raise _bad(path, f"row {begin + int(np.argmax(wrong))} {what}")


def _bad(path: Path, what: str) -> BundleError:
    return BundleError(f"is no index of this bank: {what}", where=path, remedy=_REMEDY)
