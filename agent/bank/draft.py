"""The rows of a bank to be: with recordings added, taken out, or thinned out."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError

from agent.bank.sound import Embedded, identity
from agent.bundle.manifest import GATE, GATE_ROWS, Row
from agent.bundle.plain import sealed_bytes
from agent.core.errors import AuscultError, BundleError
from agent.core.records import Matrix
from agent.core.text import plural
from agent.deploy.load import Bundle
from agent.score.bank import distances
from agent.score.space import space_of

_GATE_LIMIT = 1 << 30  # bytes
_ROWS = TypeAdapter(tuple[Row, ...])
# Two embeddings of one sound differ by the rounding of another processor.
_SAME = 1e-4
_ROWS_AT_ONCE = 4096


class GrowthError(AuscultError):
    """A change of the bank that was refused; nothing was written."""


@dataclass(frozen=True, slots=True)
class Draft:
    """Rows of a bank to be.

    Attributes:
        vectors: float32, shape `(n, dim)`, raw.
        rows: Where each came from.
        added: How many of them, at the end, are not in the parent.
        removed: Rows of the parent left out.
        change: What was done, in words.
        level_dbfs: 1st and 99th percentile of the levels it covers, dBFS.
        gate_vectors: Rows of the idle gate, float32, shape `(m, dim)`, raw.
        gate_rows: Where each of those came from.
    """

    vectors: Matrix
    rows: tuple[Row, ...]
    added: int
    removed: int
    change: str
    level_dbfs: tuple[float, float]
    gate_vectors: Matrix
    gate_rows: tuple[Row, ...]


def read_gate(bundle: Bundle) -> tuple[Matrix, tuple[Row, ...]]:
    """The raw rows of a bundle's idle gate, none when it has no gate.

    Raises:
        BundleError: They are not what the bundle says.
    """
    if not {GATE, GATE_ROWS} <= set(bundle.manifest.files):
        return np.empty((0, bundle.manifest.encoder.dim), np.float32), ()
    try:
        listed = bundle.manifest.files
        data, told = (
            sealed_bytes(bundle.path, name, listed[name], _GATE_LIMIT) for name in (GATE, GATE_ROWS)
        )
        vectors = np.load(io.BytesIO(data), allow_pickle=False)
        rows = _ROWS.validate_json(told)
    except (OSError, ValueError, EOFError, ValidationError) as fault:
        raise BundleError(f"its idle gate cannot be read: {fault}", where=bundle.path) from fault
    if vectors.shape != (len(rows), bundle.manifest.encoder.dim):
        raise BundleError(
            f"its idle gate has {vectors.shape} numbers for {len(rows)} rows", where=bundle.path
        )
    return vectors.astype(np.float32, copy=False), rows


def draft_add(bundle: Bundle, healthy: Embedded, quiet: Embedded | None = None) -> Draft:
    """The bank with rows more.

    Args:
        bundle: What to add them to.
        healthy: Sound of the machine in good order: joins the bank.
        quiet: Sound of the idle machine or of others alone: joins the idle gate, never the bank.

    Raises:
        GrowthError: There is no row to add, or a recording is in it already.
        BundleError: The bundle's gate cannot be read.
    """
    gate_vectors, gate_rows = read_gate(bundle)
    more = [] if quiet is None else quiet.rows
    if not healthy.rows and not more:
        why = healthy.left_out() + ([] if quiet is None else quiet.left_out())
        raise GrowthError(
            "no window of these recordings can be used; nothing was changed"
            + (f" ({'; '.join(dict.fromkeys(why))})" if why else "")
        )
    known = {identity(row.group) for row in (*bundle.rows, *gate_rows)}
    again = sorted({row.group for row in (*healthy.rows, *more) if identity(row.group) in known})
    again += _heard(bundle, healthy)
    if again:
        raise GrowthError(
            f"in the bank already: {', '.join(again[:5])}{' ...' if again[5:] else ''}",
            remedy="Leave these recordings out, or remove them from the bank first.",
        )
    level = bundle.manifest.trained_on.level_dbfs
    done = []
    if healthy.rows:
        low, high = np.percentile(np.asarray(healthy.level_dbfs, float), [1.0, 99.0])
        level = (round(min(level[0], float(low)), 2), round(max(level[1], float(high)), 2))
        done.append(f"added {_count(healthy.rows)}")
    if quiet is not None and more:
        gate_vectors = np.concatenate([gate_vectors, quiet.vectors])
        done.append(f"added to the idle gate {_count(more)}")
    return Draft(
        np.concatenate([bundle.bank.vectors, healthy.vectors]),
        (*bundle.rows, *healthy.rows),
        len(healthy.rows),
        0,
        "; ".join(done),
        level,
        gate_vectors,
        (*gate_rows, *more),
    )


def _heard(bundle: Bundle, healthy: Embedded) -> list[str]:
    """Recordings that the bank was made of, under whatever name: their windows are rows of it.

    Training knows recordings by their path, so only what they sound like tells. One window that
    coincides may be chance (a still machine); of one recording it is half of them.
    """
    if not healthy.rows or not len(bundle.bank):
        return []
    length = np.linalg.norm(healthy.vectors, axis=1)
    nearest = np.full(len(healthy.rows), np.inf)
    row = np.zeros(len(healthy.rows), np.int64)
    for first in range(0, len(bundle.bank), _ROWS_AT_ONCE):
        apart = distances(
            healthy.vectors, bundle.bank.vectors[first : first + _ROWS_AT_ONCE], "euclidean"
        )
        here = apart.argmin(axis=1)
        nearer = apart.min(axis=1) < nearest
        nearest[nearer], row[nearer] = apart.min(axis=1)[nearer], first + here[nearer]
    same = nearest <= _SAME * np.maximum(length, 1e-12)
    found = []
    for group in sorted({one.group for one in healthy.rows}):
        mine = np.array([one.group == group for one in healthy.rows])
        if 2 * np.count_nonzero(same & mine) >= np.count_nonzero(mine):
            there = bundle.rows[int(row[same & mine][0])].source
            found.append(f"{group} (as {there})")
    return found


def _count(rows: Sequence[Row]) -> str:
    sources = sorted({row.source for row in rows})
    return f"{plural(len(rows), 'window')} of {plural(len(sources), 'recording')}: {_some(sources)}"


def draft_remove(bundle: Bundle, sources: Sequence[str]) -> Draft:
    """The bank without some recordings.

    Args:
        bundle: What to take them from.
        sources: Recordings by name, as `auscult bank list --rows` shows them; a name that ends in
            `/` stands for every recording below it (a session).

    Raises:
        GrowthError: A recording is not in the bank.
    """
    gate_vectors, gate_rows = read_gate(bundle)
    doomed: set[str] = set()
    for name in sources:
        here = {
            row.source
            for row in (*bundle.rows, *gate_rows)
            if row.source == name or (name.endswith("/") and row.source.startswith(name))
        }
        if not here:
            raise GrowthError(
                f"'{name}' is not in the bank", remedy="See `auscult bank list --rows`."
            )
        doomed |= here
    kept = np.array([row.source not in doomed for row in bundle.rows])
    quiet = np.array([row.source not in doomed for row in gate_rows], bool)
    return _subset(
        bundle,
        kept,
        f"removed {plural(len(doomed), 'recording')}: {_some(sorted(doomed))}",
        gate_vectors[quiet],
        tuple(row for row, stays in zip(gate_rows, quiet, strict=True) if stays),
    )


def draft_compact(bundle: Bundle, most: int) -> Draft:
    """The bank thinned out to so many rows that lie as far apart as possible.

    Farthest-first traversal (Gonzalez 1985): each row kept is the one farthest from those kept
    before, so no dropped row is farther from a kept one than twice the least distance possible.
    Every recording keeps at least one row while there is room, for the calibration compares
    recordings.

    Raises:
        GrowthError: The bank has no more rows than that already.
    """
    count = len(bundle.rows)
    if most >= count:
        raise GrowthError(
            f"the bank has {plural(count, 'row')}; {most} or fewer remain without a change"
        )
    space = space_of(bundle.manifest.scorer, bundle.bank.vectors)
    metric, ready = space.metric, space.prepare(bundle.bank.vectors)
    kept = np.zeros(count, bool)
    firsts = list({row.group: i for i, row in reversed(list(enumerate(bundle.rows)))}.values())
    chosen = sorted(firsts)[:most]
    nearest = np.full(count, np.inf, np.float32)
    while True:
        for i in chosen:
            kept[i] = True
            nearest = np.minimum(nearest, distances(ready[i : i + 1], ready, metric)[0])
        if int(kept.sum()) >= most:
            break
        chosen = [int(np.argmax(np.where(kept, -np.inf, nearest)))]
    radius = float(nearest[~kept].max())
    return _subset(
        bundle,
        kept,
        f"compacted to {most} rows; none dropped is farther than {radius:.3g} away",
        *read_gate(bundle),
    )


def _subset(
    bundle: Bundle,
    kept: npt.NDArray[np.bool_],
    change: str,
    gate_vectors: Matrix,
    gate_rows: tuple[Row, ...],
) -> Draft:
    return Draft(
        bundle.bank.vectors[kept],
        tuple(row for row, stays in zip(bundle.rows, kept, strict=True) if stays),
        0,
        int((~kept).sum()),
        change,
        bundle.manifest.trained_on.level_dbfs,
        gate_vectors,
        gate_rows,
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
