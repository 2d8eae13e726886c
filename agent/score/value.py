"""The encoder's own verdict: a column of the embedding is the score."""

from __future__ import annotations

import numpy as np

from agent.config.scorer_density import ValueConfig
from agent.core.records import Matrix
from agent.score.scorer import IntVector, StateError, Vector, no_rows


class ValueScorer:
    """Passes a column on, as a reconstruction error is a score already.

    Args:
        config: Which column.
        dim: Columns that there are.

    Raises:
        StateError: There is no such column.
    """

    def __init__(self, config: ValueConfig, dim: int) -> None:
        if config.column >= dim:
            raise StateError("column", f"is {config.column}, and the embedding has {dim} columns")
        self._column = config.column

    def start(self) -> None:
        """Ready as it was built: there is no index to make."""

    def score(self, embeddings: Matrix) -> tuple[Vector, IntVector]:
        """The column, as it is; float32 `(m,)`."""
        return embeddings[:, self._column].astype(np.float32), no_rows(len(embeddings))
