"""How a machine's sound is heard: gain and bands of another microphone taken off.

Bands that it hears too little of are left out of the scores: in the embedding they are filled in
with what the healthy window nearest by all other bands has there, so that they speak for nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from agent.core.level_change import Points
from agent.core.records import Matrix, Samples, Window
from agent.level.bands import BandShift, ViewBands, missing_columns, nearest_rows, view_bands
from agent.level.baseline import LevelBaseline
from agent.level.equaliser import StreamEqualiser, equalised_blocks

if TYPE_CHECKING:
    from agent.deploy.load import Bundle

_LEAST_UNIT_DB = 1.0
_ROWS = 5000


class Hearing:
    """What is done to windows, and to their embeddings, before they are judged.

    Args:
        offset_db: Taken off whatever is heard, dB.
        points: Taken off its bands, beside that; empty for nothing.
        filler: Leaves bands out; None for none.
    """

    def __init__(
        self, offset_db: float = 0.0, points: Points = (), filler: MissingBands | None = None
    ) -> None:
        self.offset_db = offset_db
        self.points = points
        self._filler = filler
        self._equaliser = StreamEqualiser(points) if points else None

    def window(self, window: Window) -> Window:
        """The window as the microphone of training would hear it."""
        samples = window.samples if self._equaliser is None else self._equaliser.apply(window)
        if self.offset_db:
            samples = samples * np.float32(10.0 ** (-self.offset_db / 20.0))
        if samples is window.samples:
            return window
        return replace(window, samples=samples, level_dbfs=None)

    def blocks(self, blocks: Iterable[Samples], rate: int) -> Iterator[Samples]:
        """A recording, in blocks, as the microphone of training would hear it.

        Args:
            blocks: float32, shape `(n,)` each.
            rate: Samples a second.
        """
        gain = np.float32(10.0 ** (-self.offset_db / 20.0))
        for block in equalised_blocks(blocks, rate, self.points):
            yield block * gain if self.offset_db else block

    def vectors(self, vectors: Matrix) -> Matrix:
        """Embeddings without what cannot be compared, float32 `(n, dim)`."""
        return vectors if self._filler is None else self._filler.fill(vectors)


AS_HEARD = Hearing()


def hearing_of(answer: LevelBaseline, bundle: Bundle) -> Hearing:
    """How sound is heard by what was said of a microphone.

    Args:
        answer: What was said.
        bundle: What judges; the answer was taken against it.
    """
    shape, filler = answer.bands, None
    views = view_bands(bundle.manifest)
    if shape is None:
        return Hearing(answer.decibels)
    if any(shape.missing) and views is not None and len(shape.missing) == len(views.hertz) - 1:
        shift = BandShift(shape.hertz, shape.decibels, shape.missing)
        filler = MissingBands(np.asarray(bundle.bank.vectors), views, shift)
    return Hearing(answer.decibels, shape.points, filler)


class MissingBands:
    """Fills in the bands that a microphone hears too little of.

    Args:
        bank: Embeddings of healthy windows, float32 `(rows, dim)`.
        bands: Which columns belong to which band.
        shift: Which bands are missing; at least one is not.
    """

    def __init__(self, bank: Matrix, bands: ViewBands, shift: BandShift) -> None:
        self._bank = np.array(bank[:: max(1, -(-len(bank) // _ROWS))], np.float32)
        self._bands = bands
        self._columns = missing_columns(bands, shift)
        self._kept = np.flatnonzero(~np.array(shift.missing))
        levels = self._bank[:, bands.levels].astype(np.float64)
        # By shape: a machine that is louder is filled in louder.
        self._middle = levels[:, self._kept].mean(axis=1)
        compared = levels[:, self._kept] - self._middle[:, None]
        away = np.abs(compared - np.median(compared, axis=0))
        self._unit = np.maximum(1.4826 * np.median(away, axis=0), _LEAST_UNIT_DB)
        self._rows = compared / self._unit
        # What a window lacks in loudness for the bands that are not heard.
        power = 10.0 ** (levels / 10.0)
        self._lost_db = 10.0 * np.log10(
            np.maximum(power[:, self._kept].sum(axis=1), 1e-12) / power.sum(axis=1)
        )

    def fill(self, vectors: Matrix) -> Matrix:
        """Embeddings with those bands filled in, float32 `(n, dim)`."""
        result = np.array(vectors, np.float32)
        heard = result[:, self._bands.levels].astype(np.float64)[:, self._kept]
        middle = heard.mean(axis=1)
        near = nearest_rows((heard - middle[:, None]) / self._unit, self._rows)
        rows = self._bank[near].copy()
        rows[:, self._bands.levels] += (middle - self._middle[near]).astype(np.float32)[:, None]
        for block in self._bands.shapes:
            # Taken against the mean of all bands, of which some are not heard.
            off = rows[:, block][:, self._kept] - result[:, block][:, self._kept]
            result[:, block] += np.median(off, axis=1)[:, None]
        result[:, self._columns] = rows[:, self._columns]
        if self._bands.loudness is not None:
            result[:, self._bands.loudness] -= self._lost_db[near].astype(np.float32)
        return result
