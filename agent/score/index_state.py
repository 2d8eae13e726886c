"""The index of a large bank as arrays of a bundle, and what people are told of it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from agent.bundle.facts import IndexInfo
from agent.core.records import Matrix
from agent.score.cells import Cells
from agent.score.index import Index, IndexPlan
from agent.score.reduction import Reduction
from agent.score.scorer import IntVector, State, StateError, take

# How it is asked, its cells, and what it holds in the place of long vectors.
PLAN = "index_plan"
CENTRES, STARTS, CELL_ROWS = "index_centres", "index_starts", "index_rows"
BASIS = "index_basis"
# How the index of a bundle of before was made: five or six numbers, the fifth whether it is used.
_PLAN_BEFORE, _USED_BEFORE = "index", 4
_NAMES = {PLAN, CENTRES, STARTS, CELL_ROWS, BASIS, _PLAN_BEFORE}


def index_state(index: Index) -> State:
    """The arrays that a bundle keeps of an index."""
    cells = index.cells
    state: dict[str, Matrix | IntVector] = {
        PLAN: index.plan.array(),
        CENTRES: cells.centres,
        STARTS: cells.starts,
        CELL_ROWS: cells.rows,
    }
    if index.reduction is not None:
        state[BASIS] = index.reduction.array()
    return state


def without_index(state: State) -> State:
    """What a scorer learnt but for the indexes of its banks, also of its parts."""
    return {name: one for name, one in state.items() if name.rpartition(".")[2] not in _NAMES}


def searched_by_index(state: State) -> bool:
    """Whether an index is looked for: not where one of before missed its recall."""
    before = state.get(_PLAN_BEFORE)
    return before is None or len(before) <= _USED_BEFORE or bool(before[_USED_BEFORE])


def read_index(state: State, dim: int) -> Index | None:
    """How a large bank is searched; None where nothing is said, or by a version of before.

    Args:
        state: Of a bundle.
        dim: Length of an embedding.

    Raises:
        StateError: An array is not what it needs.
    """
    if PLAN not in state:
        return None
    reduction = None
    if BASIS in state:
        try:
            reduction = Reduction.of(take(state, BASIS, (dim, None)))
        except ValueError as fault:
            raise StateError(BASIS, str(fault)) from fault
    try:
        plan = IndexPlan.of(take(state, PLAN, (4,)))
    except ValueError as fault:
        raise StateError(PLAN, str(fault)) from fault
    columns = dim if reduction is None else reduction.columns
    centres = take(state, CENTRES, (None, columns)).astype(np.float32)
    starts = take(state, STARTS, (None,)).astype(np.int64)
    rows = take(state, CELL_ROWS, (None,)).astype(np.int64)
    try:
        return Index(plan, Cells(centres, starts, rows), reduction)
    except ValueError as fault:
        raise StateError(CELL_ROWS, str(fault)) from fault


def index_info(index: Index, columns: int) -> IndexInfo:
    """What the manifest tells of an index.

    Args:
        index: Of a large bank.
        columns: Length of an embedding.
    """
    plan = index.plan
    return IndexInfo(
        rows=len(index.cells.rows),
        columns=columns if index.reduction is None else index.reduction.columns,
        cells=len(index.cells.centres),
        searched=plan.searched,
        compared=plan.compared,
        recall=plan.recall,
        used=plan.usable,
    )


def index_notes(indexes: Mapping[str, IndexInfo]) -> tuple[str, ...]:
    """What people should know of the indexes of large banks."""
    found = []
    for info in indexes.values():
        text = f"index: {100 * (info.recall or 0):.1f} % of the nearest rows of other recordings "
        text += f"are found, {info.searched} of {info.cells} cells looked at, "
        text += f"{info.compared} rows compared, by {info.columns} numbers for a row"
        if not info.used:
            text += "; too few, so that every row is compared"
        found.append(text)
    return tuple(found)
