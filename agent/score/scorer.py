"""What every scoring method is made of: healthy windows, learnt arrays, and something that judges.

A method learns a `State` from a `HealthySet`: named numeric arrays, which a bundle keeps as .npy
files. On the device the state (and, for nearest neighbours, the healthy embeddings themselves)
makes a `Scorer` again. NumPy is all it takes there, and nothing is unpickled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from agent.bundle.manifest import Row
from agent.config.scorer import Span
from agent.core.errors import AuscultError
from agent.core.records import Matrix

Vector: TypeAlias = npt.NDArray[np.float32]
IntVector: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]
State: TypeAlias = Mapping[str, npt.NDArray[Any]]

# In the stead of a bank row, where a method has no nearest one.
NO_ROW = -1
# Methods are fitted so many times, at least, for their left-out healthy scores.
FOLDS = 10


class Scorer(Protocol):
    """Judges embeddings; smaller is healthier."""

    def start(self) -> None:
        """Prepare, and load what is large. Idempotent."""

    def score(self, embeddings: Matrix) -> tuple[Vector, IntVector]:
        """Judge embeddings.

        Args:
            embeddings: float32, shape `(m, dim)`.

        Returns:
            Scores float32 `(m,)`, larger is stranger, and the healthy row nearest to each, int64
            `(m,)`; `NO_ROW` where the method knows none.
        """


class StateError(AuscultError):
    """A scorer's array that is missing or not what the scorer needs.

    Args:
        name: The array.
        problem: What is wrong.
    """

    def __init__(self, name: str, problem: str) -> None:
        self.name = name
        self._what = problem
        super().__init__(
            f"the scorer's '{name}' {problem}",
            remedy="Export the bundle again with `auscult export`.",
        )

    def of_part(self, part: str) -> StateError:
        """This fault, told of an array of a fusion's part."""
        return StateError(f"{part}.{self.name}", self._what)


@dataclass(frozen=True, slots=True)
class HealthySet:
    """Healthy windows that a scorer learns from.

    Attributes:
        vectors: Their embeddings as the encoder gave them, float32, shape `(n, dim)`.
        rows: Where each came from.
    """

    vectors: Matrix
    rows: Sequence[Row]

    def __len__(self) -> int:
        """Number of windows."""
        return len(self.vectors)

    @property
    def groups(self) -> list[str]:
        """Recording of each."""
        return [row.group for row in self.rows]

    @property
    def domains(self) -> list[str]:
        """Domain of each."""
        return [row.domain for row in self.rows]

    def among(self, chosen: npt.NDArray[np.bool_]) -> HealthySet:
        """Some of the windows."""
        return HealthySet(
            self.vectors[chosen], [row for row, kept in zip(self.rows, chosen, strict=True) if kept]
        )

    def without_sessions(self) -> HealthySet:
        """The windows, as if nobody knew when they were recorded."""
        if not any(row.session for row in self.rows):
            return self
        rows = [row.model_copy(update={"session": ""}) for row in self.rows]
        return HealthySet(self.vectors, rows)

    def columns(self, span: Span | None) -> HealthySet:
        """The windows, by some columns of their embeddings."""
        return self if span is None else HealthySet(self.vectors[:, span[0] : span[1]], self.rows)


def folds(
    healthy: HealthySet, count: int = FOLDS, units: Sequence[str] | None = None
) -> Iterator[npt.NDArray[np.bool_]]:
    """Split by recording, each domain evenly: masks of what each fold leaves out.

    No mask comes when there are fewer than two recordings.

    Args:
        healthy: The windows.
        count: How many folds; as many as there are recordings, if fewer.
        units: What stays together, a name for each window; its recording when None.
    """
    names = healthy.groups if units is None else units
    order = sorted({(row.domain, unit) for row, unit in zip(healthy.rows, names, strict=True)})
    place: dict[str, int] = {}
    for _, unit in order:
        place.setdefault(unit, len(place))
    count = min(count, len(place))
    if count < 2:
        return
    at = np.array([place[unit] % count for unit in names])
    for fold in range(count):
        yield at == fold


def take(state: State, name: str, shape: tuple[int | None, ...]) -> Floats:
    """An array of a state, finite and of the wanted shape, as float64.

    Args:
        state: Read from a bundle, say.
        name: Which array.
        shape: Its shape; None stands for any length of at least one.

    Raises:
        StateError: It is missing, or is something else.
    """
    if name not in state:
        raise StateError(name, "is missing")
    array = state[name]
    fits = (
        array.dtype.kind in "fiu"
        and array.ndim == len(shape)
        and all(
            have == want if want is not None else have > 0
            for have, want in zip(array.shape, shape, strict=True)
        )
    )
    if not fits:
        wanted = ", ".join("any" if length is None else str(length) for length in shape)
        raise StateError(name, f"should be numbers ({wanted}), but is {array.dtype} {array.shape}")
    values = array.astype(np.float64)
    if not np.isfinite(values).all():
        raise StateError(name, "holds numbers that are not finite")
    return values


def no_rows(count: int) -> IntVector:
    """`NO_ROW` for each of so many embeddings."""
    return np.full(count, NO_ROW, dtype=np.int64)
