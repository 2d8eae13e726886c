"""How much louder another microphone hears each band, learnt against healthy sound; what it misses.

The running machine is heard in the same states as in training, so each window is held against the
healthy one that it is nearest to once the difference between the microphones is taken off; what is
left over on the median of the windows is that difference (iterative closest points). A bundle whose
embedding names no levels of bands has the mean healthy spectrum in place of its windows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.bundle.manifest import Manifest
from agent.core.records import Matrix
from agent.explain.spectrum import Floats, HealthySpectrum

MEDIAN_LEVEL = "median_level"
_SHAPES = ("profile", "quiet", "peaks")

#: More than this no band is lifted: what is left of it there is the microphone's own noise, dB.
MOST_LIFTED_DB = 20.0
#: Nor is more than this taken off, dB.
_MOST_LOWERED_DB = 40.0
# A band at this level holds nothing, full-scale sine 0, dB.
_NOTHING_DB = -105.0
# ...and of one that did in training, so much less than there.
_SILENCED_DB = 6.0
# What a microphone does is smooth: a single band that differs is the machine's.
_SMOOTH_BANDS = 5
# Columns are weighed by their healthy scatter, which is a microphone's own below this, dB.
_LEAST_UNIT_DB = 1.0
_ROUNDS, _SETTLED_DB = 20, 0.05
# Rows of the bank that stand for all of a large one.
_ROWS = 2000
#: Windows that another microphone is learnt from, at least.
FEWEST = 6
# A window further than this from healthy sound was heard through yet another one, dB.
_AGREE_DB = 2.5


@dataclass(frozen=True, slots=True, eq=False)
class ViewBands:
    """Columns of an embedding that belong to bands of frequency.

    Attributes:
        hertz: Edges of the bands, Hz, `(bands + 1,)`.
        levels: Columns of the bands' median levels, dB.
        shapes: Columns of further statistics of the same bands, dB against their mean; each block
            is as wide.
        loudness: Column of the window's own loudness, dB; None without one.
    """

    hertz: Floats
    levels: slice
    shapes: tuple[slice, ...]
    loudness: int | None


def view_bands(manifest: Manifest) -> ViewBands | None:
    """The bands of a bundle's views; None where its embedding names no levels of bands.

    Bands are evenly spaced in mel, 1127 ln(1 + f / 700), between the view's `low_hz` and `high_hz`.
    """
    named = {view.name: view for view in manifest.views}
    view = named.get(MEDIAN_LEVEL)
    if view is None or view.low_hz is None or view.high_hz is None or not view.level:
        return None
    count = view.stop - view.start
    low, high = 1127.0 * np.log1p(np.array([view.low_hz, view.high_hz]) / 700.0)
    hertz = 700.0 * np.expm1(np.linspace(low, high, count + 1) / 1127.0)
    blocks = {
        (start, start + count)
        for name in _SHAPES
        if name in named and (named[name].stop - named[name].start) % count == 0
        for start in range(named[name].start, named[name].stop, count)
    }
    loudness = named.get("loudness")
    return ViewBands(
        hertz,
        slice(view.start, view.stop),
        tuple(slice(*block) for block in sorted(blocks)),
        None if loudness is None else loudness.start,
    )


@dataclass(frozen=True, slots=True)
class BandShift:
    """What another microphone does to the bands.

    Attributes:
        hertz: Edges of the bands, Hz, `bands + 1`.
        decibels: How much louder it hears each, dB.
        missing: Bands that it hears too little of to be compared.
    """

    hertz: tuple[float, ...]
    decibels: tuple[float, ...]
    missing: tuple[bool, ...]


@dataclass(frozen=True, slots=True, eq=False)
class HealthyBands:
    """Levels of bands in healthy sound, to hold another microphone's against.

    Attributes:
        hertz: Edges of the bands, Hz, `(bands + 1,)`.
        rows: Levels of healthy windows, dB, `(rows, bands)`; a bundle with none has their mean.
        views: Columns of the embedding that give a window's; None where its sound does.
    """

    hertz: Floats
    rows: Floats
    views: ViewBands | None

    def learn(self, heard: Floats, *, whole: bool = False) -> tuple[BandShift, int]:
        """What the microphone that is heard now does to the bands.

        Args:
            heard: Levels of windows of the running machine, the oldest first, dB, `(n, bands)`,
                n >= `FEWEST`.
            whole: All of them were heard through the same microphone.

        Returns:
            That, and the number of the latest windows that tell it: earlier ones were heard
            through another microphone. None tell it when the very latest do not agree.
        """
        if whole:
            return self._told(self._louder(heard), heard), len(heard)
        newest = self._louder(heard[-FEWEST:])
        away = self._away(heard, newest)
        used = FEWEST
        while used < len(heard) and away[-used - 1] <= _AGREE_DB:
            used += 1
        # Two of the latest alone tell that the change is too fresh to be learnt.
        if max(np.median(away[-FEWEST:]), away[-2:].max()) > _AGREE_DB:
            return self._told(newest, heard[-FEWEST:]), 0
        found = self._louder(heard[-used:])
        return self._told(found, heard[-used:]), used

    def _louder(self, heard: Floats) -> Floats:
        """How much louder each band is heard, dB."""
        center, unit = self._center()
        found: Floats = np.median(heard, axis=0) - center
        for _ in range(_ROUNDS):
            near = self.rows[nearest_rows((heard - found) / unit, self.rows / unit)]
            moved = np.median(heard - near, axis=0)
            settled = float(np.abs(moved - found).max()) < _SETTLED_DB
            found = moved
            if settled:
                break
        return found

    def _away(self, heard: Floats, shift: Floats) -> Floats:
        """How far each window is from healthy sound through that microphone, dB, `(n,)`."""
        _, unit = self._center()
        near = self.rows[nearest_rows((heard - shift) / unit, self.rows / unit)]
        found: Floats = np.median(np.abs(heard - shift - near), axis=1)
        return found

    def _center(self) -> tuple[Floats, Floats]:
        center = np.median(self.rows, axis=0)
        spread = 1.4826 * np.median(np.abs(self.rows - center), axis=0)
        return center, np.maximum(spread, _LEAST_UNIT_DB)

    def _told(self, found: Floats, heard: Floats) -> BandShift:
        center, _ = self._center()
        empty = center <= _NOTHING_DB
        nothing = (np.median(heard, axis=0) < _NOTHING_DB) & (found < -_SILENCED_DB)
        return _shift(self.hertz, np.where(empty, 0.0, found), nothing)


def healthy_bands(
    manifest: Manifest, bank: Matrix, spectrum: HealthySpectrum | None
) -> HealthyBands | None:
    """Levels of a bundle's healthy sound in bands; None of one that holds none.

    Args:
        manifest: The bundle's.
        bank: Its healthy windows, float32 `(rows, dim)`.
        spectrum: Its healthy spectrum; None without one.
    """
    views = view_bands(manifest)
    if views is not None:
        rows = bank[:: max(1, -(-len(bank) // _ROWS)), views.levels].astype(np.float64)
        return HealthyBands(views.hertz, rows, views)
    if spectrum is None:
        return None
    return HealthyBands(spectrum.grid.hertz, spectrum.level[None], None)


def nearest_rows(points: Floats, rows: Floats) -> npt.NDArray[np.int64]:
    """The row nearest to each point, `(n,)`."""
    squares = np.einsum("ij,ij->i", rows, rows)[None, :] - 2.0 * points @ rows.T
    found: npt.NDArray[np.int64] = np.argmin(squares, axis=1)
    return found


def missing_columns(bands: ViewBands, shift: BandShift) -> npt.NDArray[np.int64]:
    """Columns of bands that cannot be compared; none where nothing is missing."""
    missing = np.flatnonzero(shift.missing)
    blocks = [missing + block.start for block in (bands.levels, *bands.shapes)]
    found: npt.NDArray[np.int64] = np.unique(np.concatenate(blocks))
    return found


def _shift(hertz: Floats, found: Floats, nothing: npt.NDArray[np.bool_]) -> BandShift:
    half = _SMOOTH_BANDS // 2
    padded = np.pad(found, half, mode="edge")
    smooth = np.median(np.lib.stride_tricks.sliding_window_view(padded, _SMOOTH_BANDS), axis=1)
    missing = nothing | (smooth < -MOST_LIFTED_DB)
    if missing.all():
        missing[:] = False
    kept = np.flatnonzero(~missing)
    # A band that is missing is filtered as its neighbours are: nothing rings at its edge.
    filled = np.interp(np.arange(len(smooth)), kept, smooth[kept])
    filled = np.clip(filled, -MOST_LIFTED_DB, _MOST_LOWERED_DB)
    return BandShift(
        tuple(np.round(hertz, 1).tolist()),
        tuple(np.round(filled, 1).tolist()),
        tuple(missing.tolist()),
    )
