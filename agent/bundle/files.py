"""Names of a bundle's files that belong to its scorer."""

from __future__ import annotations

import re

from agent.bundle.manifest import INDEX, INDEX_BEFORE, ROW_CONSTANTS

# Arrays of the state: the row constants, and, where other vectors than the healthy rows are
# compared with, those and the healthy row that each stands for; how the index was made.
CONSTANTS = "rows"


_STATE = re.compile(r"scorer\.([a-z0-9_.]+)\.npy")


# `.hnsw`: of bundles of before.
_PART_INDEX = re.compile(r"bank\.(\d+)\.(?:index\.npy|hnsw)")


def state_file(name: str) -> str:
    """The bundle's file of an array."""
    return ROW_CONSTANTS if name == CONSTANTS else f"scorer.{name}.npy"


def is_index_file(name: str) -> bool:
    """Whether a file of a bundle is the index of a large bank."""
    return name in {INDEX, INDEX_BEFORE} or _PART_INDEX.fullmatch(name) is not None


def is_state_file(name: str) -> bool:
    """Whether a file of a bundle belongs to its scorer, an index included."""
    return name == ROW_CONSTANTS or _STATE.fullmatch(name) is not None or is_index_file(name)
