"""Is a window that exceeds the threshold healthy sound at another level? Then that is what is told.

The test is a counterfactual: the window is judged once more as it would be at the level of the
healthy one most like it. Where the bundle names its views, columns in dB are moved, which is exact
and costs nothing; else, and of a window in which the level changed on the way, the sound itself is
turned down (or up) and embedded anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from agent.core.errors import AuscultError
from agent.core.level_change import LevelChange
from agent.core.records import Matrix, Samples
from agent.level.reference import LevelReference
from agent.level.step import find_step, undo
from agent.window.validity import level_dbfs

if TYPE_CHECKING:
    from agent.deploy.load import Bundle

Vector = npt.NDArray[np.float32]


class LevelCheck:
    """Tells a pure change of level from a change of sound, for one bundle and threshold.

    Args:
        bundle: What windows are judged with.
        threshold: Raw score above which a window is anomalous.
        reference: The level of healthy sound; the bundle's own when None.
        weak: Raw scores above which a window speaks for less than an alarm, the highest first;
            None where there is none.
        fill: Fills in what the microphone does not hear of an embedding `(n, dim)`.
    """

    def __init__(
        self,
        bundle: Bundle,
        threshold: float,
        reference: LevelReference | None = None,
        weak: Sequence[float | None] = (),
        fill: Callable[[Matrix], Matrix] = lambda vectors: vectors,
    ) -> None:
        self.reference = reference or LevelReference(bundle)
        self._bundle, self._fill = bundle, fill
        # By the highest of them that it exceeds a window has to be healthy.
        weaker = [min(one, threshold) for one in weak if one is not None]
        self._measures = sorted({threshold, *weaker})

    def change(self, vector: Vector, samples: Samples, value: float) -> LevelChange | None:
        """What is to be told of a window's level.

        Args:
            vector: Its embedding, float32 `(dim,)`.
            samples: The window as it was embedded, float32 `(n,)`.
            value: Its raw score.

        Returns:
            The change without which it would be healthy; None when it is healthy as it is, or would
            not be, or its level is what healthy sound has. A window that speaks for less than an
            alarm has to be healthy by the measure of that without the change.
        """
        exceeded = [one for one in self._measures if value > one]
        if not exceeded:
            return None
        most = exceeded[-1]
        for decibels, passing, moved in self._otherwise(vector, samples):
            (score,), _ = self._bundle.scorer.score(moved)
            if score <= most:
                return LevelChange(decibels, float(score), passing=passing)
        return None

    def _otherwise(self, vector: Vector, samples: Samples) -> Iterator[tuple[float, bool, Matrix]]:
        """The window at levels it may have had: change undone, whether on the way, embedding."""
        columns = self.reference.columns
        for decibels in self.reference.changes(vector, level_dbfs(samples)):
            if columns is not None:
                yield decibels, False, columns.moved(vector[None], -decibels)
            else:
                quieter = samples * np.float32(10.0 ** (-decibels / 20.0))
                yield from self._embedded(decibels, quieter, passing=False)
        rate = self._bundle.manifest.encoder.sample_rate
        step = find_step(samples, rate, self.reference.limit)
        if step is None:
            return
        undone = undo(samples, rate, step)
        for decibels, _, moved in self._embedded(step.decibels, undone, passing=True):
            yield decibels, True, moved
            # It may have been louder than healthy sound before the step, and come back to it.
            for first in self.reference.changes(moved[0], level_dbfs(undone)):
                if columns is not None:
                    yield first, True, columns.moved(moved, -first)

    def _embedded(
        self, decibels: float, samples: Samples, *, passing: bool
    ) -> Iterator[tuple[float, bool, Matrix]]:
        try:
            vectors = self._fill(self._bundle.encoder.encode(samples[None]))
        except (AuscultError, ValueError, RuntimeError, MemoryError):
            return  # it is judged as it was heard
        if np.isfinite(vectors).all():
            yield decibels, passing, vectors
