"""Levels of a sound in bands of frequency and cells of time, and what they are when healthy.

Bands are a sixth of an octave wide, where the Fourier transform tells so much apart (two bins at
least). A cell is about a fifth of a second: the mean power of a few overlapping frames, so that the
scatter of noise is small beside what is to be seen. All levels are in dB.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from agent.core.cores import on_cores
from agent.core.finite import silenced
from agent.core.fourier import power_of
from agent.core.records import Matrix, Samples
from agent.core.taper import hann

Floats = npt.NDArray[np.float64]

_FRAME_SECONDS = 0.064  # about 16 Hz apart: mains harmonics are told from each other
_CELL_FRAMES = 6
_LOWEST_HZ = 30.0
_BANDS_AN_OCTAVE = 6
_LEAST_BINS = 2
_SILENCE = 1e-12
_PEAK = 90.0  # percentile of a window's cells that stands for its loud moments
_FRAMES_AT_ONCE = 64  # few: the device has little memory
# Deviations below these are a microphone's or a room's, however steady the recordings were, dB.
_LEAST_SPREAD, _LEAST_CELL_SPREAD = 1.0, 1.5

# Columns of `healthy_spectrum.npy`, one row a band.
COLUMNS = (
    "low_hz", "high_hz", "level", "level_spread", "peak", "peak_spread", "cell", "cell_spread",
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """How sound is cut into cells and bands.

    Attributes:
        rate: Samples a second.
        frame: Samples of a frame; half of them overlap with the next.
        edges: Edges of the bands as bins, ascending, shape `(bands + 1,)`.
    """

    rate: int
    frame: int
    edges: npt.NDArray[np.int64]

    @classmethod
    def of(cls, rate: int) -> Grid:
        """The grid for a sampling rate; the same rate always has the same."""
        frame = 1 << round(np.log2(_FRAME_SECONDS * rate))
        top, width = frame // 2 + 1, rate / frame
        edges = [max(1, round(_LOWEST_HZ / width))]
        while edges[-1] < top:
            following = edges[-1] * 2.0 ** (1.0 / _BANDS_AN_OCTAVE)
            edges.append(max(edges[-1] + _LEAST_BINS, round(following)))
        edges[-1] = top
        if edges[-1] - edges[-2] < _LEAST_BINS and len(edges) > 2:
            del edges[-2]
        return cls(rate, frame, np.array(edges, np.int64))

    @property
    def hertz(self) -> Floats:
        """Edges of the bands, Hz, shape `(bands + 1,)`: half a bin below their first bin."""
        found: Floats = np.minimum((self.edges - 0.5) * self.rate / self.frame, self.rate / 2)
        return found

    @property
    def cell_seconds(self) -> float:
        """Length of a cell, seconds."""
        return _CELL_FRAMES * (self.frame // 2) / self.rate


def cell_levels(samples: Samples, grid: Grid) -> Floats:
    """Levels of a sound's cells.

    Args:
        samples: float32, shape `(n,)`, at the grid's rate; what is not finite counts as silence.
        grid: Cells and bands.

    Returns:
        Shape `(cells, bands)`, dB; at least one cell.
    """
    found: Floats = 10.0 * np.log10(_cell_powers(silenced(samples)[None], grid)[0])
    return found


def mean_powers(stretches: Matrix, grid: Grid) -> Floats:
    """Mean power of each band of stretches of sound.

    Args:
        stretches: float32, shape `(stretches, n)`, finite, at the grid's rate.
        grid: Bands.

    Returns:
        Shape `(stretches, bands)`; a full-scale sine is 1 in its band, and -120 dB is the least.
    """
    found: Floats = _cell_powers(stretches, grid).mean(axis=1)
    return found


def _cell_powers(stretches: Matrix, grid: Grid) -> Floats:
    """Power of the cells of stretches of sound, `(stretches, cells, bands)`."""
    size, hop = grid.frame, grid.frame // 2
    if stretches.shape[1] < size:
        stretches = np.pad(stretches, ((0, 0), (0, size - stretches.shape[1])))
    frames = np.lib.stride_tricks.sliding_window_view(stretches, size, axis=1)[:, ::hop]
    many, count = frames.shape[:2]
    # A full-scale sine is 0 dB in its band.
    window = hann(size) * (2.0 / hann(size).sum())
    powers = np.empty((many, count, len(grid.edges) - 1))
    at_once = max(1, _FRAMES_AT_ONCE // count)
    for one in range(0, many, at_once):
        for first in range(0, count, _FRAMES_AT_ONCE):
            part = slice(one, one + at_once), slice(first, first + _FRAMES_AT_ONCE)
            # In double: NumPy's transform of single precision takes half as long again.
            spectrum = power_of(np.fft.rfft(frames[part] * window, axis=2))
            summed = np.add.reduceat(spectrum[..., : grid.edges[-1]], grid.edges[:-1], axis=2)
            powers[part] = 2.0 / 3.0 * summed  # what a Hann window spreads over its neighbours
    starts: npt.NDArray[np.int64] = np.arange(0, count, _CELL_FRAMES)
    if len(starts) > 1 and count - starts[-1] < _CELL_FRAMES // 2:
        starts = starts[:-1]  # too short for a cell of its own: joins the last
    lengths = np.diff([*starts, count])[:, None]
    found: Floats = np.maximum(np.add.reduceat(powers, starts, axis=1) / lengths, _SILENCE)
    return found


def summary(cells: Floats) -> tuple[Floats, Floats]:
    """Mean level and level of the loud moments of each band, dB, each `(bands,)`."""
    level: Floats = 10.0 * np.log10(np.mean(10.0 ** (cells / 10.0), axis=0))
    peak: Floats = np.percentile(cells, _PEAK, axis=0)
    return level, peak


_latest = threading.local()


def levels_of(samples: Samples, grid: Grid) -> Floats:
    """Mean level of each band of a window, dB, `(bands,)`, read-only.

    Of one thread's latest window it is kept: several observers of a machine ask for the same.

    Args:
        samples: As `cell_levels` takes them; not changed afterwards.
        grid: Cells and bands.
    """
    known = getattr(_latest, "of", lambda: None)()
    if known is samples and _latest.rate == grid.rate:
        kept: Floats = _latest.levels
        return kept
    found: Floats = 10.0 * np.log10(mean_powers(silenced(samples)[None], grid)[0])
    found.flags.writeable = False
    _latest.of, _latest.rate, _latest.levels = weakref.ref(samples), grid.rate, found
    return found


@dataclass(frozen=True, slots=True, eq=False)
class HealthySpectrum:
    """What the machine sounds like in good order.

    Attributes:
        grid: Cells and bands.
        level: Mean level of a window, dB, `(bands,)`...
        level_spread: ...and its standard deviation from window to window.
        peak: Level of a window's loud moments, dB...
        peak_spread: ...and its standard deviation.
        cell: Level of a cell, dB...
        cell_spread: ...and its standard deviation.
    """

    grid: Grid
    level: Floats
    level_spread: Floats
    peak: Floats
    peak_spread: Floats
    cell: Floats
    cell_spread: Floats

    def table(self) -> Matrix:
        """The spectrum as a table for a bundle: float32 `(bands, 8)`, columns as in `COLUMNS`."""
        hertz = self.grid.hertz
        found: Matrix = np.stack(
            [
                hertz[:-1], hertz[1:], self.level, self.level_spread, self.peak, self.peak_spread,
                self.cell, self.cell_spread,
            ],
            axis=1,
        ).astype(np.float32)  # fmt: skip
        return found

    @classmethod
    def of(cls, table: Matrix, rate: int) -> HealthySpectrum:
        """Read from a table.

        Raises:
            ValueError: It is not of sound at this rate.
        """
        grid = Grid.of(rate)
        wanted = (len(grid.edges) - 1, len(COLUMNS))
        if table.shape != wanted or table.dtype != np.float32 or not np.isfinite(table).all():
            raise ValueError(f"should hold finite float32 {wanted}, is {table.dtype} {table.shape}")
        if not np.allclose(table[:, 1], grid.hertz[1:], rtol=1e-3):
            raise ValueError(f"its bands are not those of sound at {rate} Hz")
        if (table[:, 3::2] <= 0).any():
            raise ValueError("a spread is not positive")
        return cls(grid, *(column.astype(np.float64) for column in table.T[2:]))


def measure_healthy(
    waveforms: Iterable[Samples], rate: int, advance: Callable[[], None] = lambda: None
) -> HealthySpectrum:
    """Mean and spread of healthy windows.

    Args:
        waveforms: Windows, each float32 `(n,)`, one at least.
        rate: Samples a second.
        advance: Called after each.
    """
    grid = Grid.of(rate)
    levels, peaks = [], []
    count, total, squares = 0, np.zeros(len(grid.edges) - 1), np.zeros(len(grid.edges) - 1)
    for cells in on_cores(partial(cell_levels, grid=grid), waveforms):
        level, peak = summary(cells)
        levels.append(level)
        peaks.append(peak)
        count += len(cells)
        total += cells.sum(axis=0)
        squares += (cells**2).sum(axis=0)
        advance()
    mean = total / count
    scatter = np.sqrt(np.maximum(squares / count - mean**2, 0.0))
    return HealthySpectrum(
        grid,
        np.mean(levels, axis=0),
        np.maximum(np.std(levels, axis=0), _LEAST_SPREAD),
        np.mean(peaks, axis=0),
        np.maximum(np.std(peaks, axis=0), _LEAST_SPREAD),
        mean,
        np.maximum(scatter, _LEAST_CELL_SPREAD),
    )
