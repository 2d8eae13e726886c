"""Reads `rows.json`: where each row of a bank came from, a million of them in little memory."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from pydantic import TypeAdapter, ValidationError

from agent.bundle.manifest import Row
from agent.bundle.plain import altered
from agent.core.errors import BundleError
from agent.core.schema import explain

_ROWS = TypeAdapter(tuple[Row, ...])
# A file of more bytes is read into a table; a `Row` takes some 1.7 kB of memory.
_LARGE = 4 << 20
_AT_ONCE = 4096


class RowTable(Sequence[Row]):
    """Rows of a large bank: those of one recording differ in their start alone.

    Args:
        rows: The rows.
    """

    def __init__(self, rows: Iterator[Row]) -> None:
        kinds: dict[tuple[object, ...], int] = {}
        self._kinds: list[Row] = []
        which, starts = [], []
        for row in rows:
            attributes = tuple(sorted(row.attributes.items()))
            kind = (row.source, row.group, row.domain, row.section, row.session, attributes)
            place = kinds.setdefault(kind, len(kinds))
            if place == len(self._kinds):
                self._kinds.append(row)
            which.append(place)
            starts.append(row.start)
        self._which = np.array(which, np.int32)
        self._starts = np.array(starts, np.float64)

    def __len__(self) -> int:
        """Number of rows."""
        return len(self._which)

    @overload
    def __getitem__(self, place: int) -> Row: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Row]: ...

    def __getitem__(self, place: int | slice) -> Row | Sequence[Row]:
        """One row, or some."""
        if isinstance(place, slice):
            return [self[at] for at in range(*place.indices(len(self)))]
        kind = self._kinds[self._which[place]]
        row: Row = kind.model_copy(update={"start": float(self._starts[place])})
        return row


def read_rows(path: Path) -> Sequence[Row]:
    """Read the file.

    Args:
        path: `rows.json`, its checksum verified.

    Raises:
        BundleError: It cannot be read, or is no list of rows; says which is not one.
    """
    try:
        data = path.read_bytes()
        if len(data) < _LARGE:
            return _ROWS.validate_json(data)
        return RowTable(_parsed(data.decode("utf-8"), path))
    except ValidationError as fault:
        raise altered(explain(fault), path) from fault
    except UnicodeDecodeError as fault:
        raise altered(f"is not UTF-8: {fault}", path) from fault
    except OSError as fault:
        raise BundleError(f"cannot be read: {fault.strerror}", where=path) from fault


def _parsed(text: str, path: Path) -> Iterator[Row]:
    """The rows of a list in JSON, some thousand at a time."""
    some: list[Any] = []
    done = 0
    for item in _items(text, path):
        some.append(item)
        if len(some) == _AT_ONCE:
            yield from _valid(some, done, path)
            done, some = done + len(some), []
    yield from _valid(some, done, path)


def _valid(some: list[Any], first: int, path: Path) -> tuple[Row, ...]:
    try:
        return _ROWS.validate_python(some)
    except ValidationError as fault:
        at = fault.errors()[0]["loc"][0]
        row = first + at if isinstance(at, int) else first
        try:
            Row.model_validate(some[row - first])
        except ValidationError as one:
            fault = one
        raise altered(f"row {row}: {explain(fault)}", path) from fault


def _items(text: str, path: Path) -> Iterator[Any]:
    """The items of a list in JSON, one at a time."""
    decoder = json.JSONDecoder()
    at = _blank(text, 0)
    if text[at : at + 1] != "[":
        raise altered("is no list of rows", path)
    at = _blank(text, at + 1)
    while text[at : at + 1] != "]":
        try:
            item, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as fault:
            raise altered(f"is not JSON: {fault}", path) from fault
        yield item
        at = _blank(text, at)
        if text[at : at + 1] == ",":
            at = _blank(text, at + 1)
        elif text[at : at + 1] != "]":
            break
    if text[at : at + 1] != "]" or _blank(text, at + 1) != len(text):
        raise altered(f"is not JSON: character {at} is not what a list goes on with", path)


def _blank(text: str, at: int) -> int:
    """The next place that is no white space."""
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at
