"""The picture of a stretch of sound, as an 8-bit PNG, made of numpy and zlib alone.

The device has no plotting library, and one would cost more memory than the agent itself. Time runs
to the right in seconds, frequency upwards in kHz, colour is power density in dB below the loudest.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from agent.core.records import Matrix, Samples
from agent.explain.unusual import UnusualMap

Pixels = npt.NDArray[np.uint8]

WIDTH, HEIGHT = 900, 320  # of the plot itself, pixels
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 64, 30, 44
_RANGE_DB = 80.0
_FFT_SECONDS = 0.064  # about 16 Hz apart: mains harmonics are told from each other
# Few, and arrays written over: the device has little memory, and an alarm must find it free.
_FRAMES_AT_ONCE = 64
_SCALE = 2  # pixels a dot of the letters

# Palette: 0-249 the colours of sound, then those of the frame.
_COLOURS, _WHITE, _BLACK, _GREY, _MARK = 250, 250, 251, 252, 253
# Dark to light in even steps of brightness, so that it also reads in grey.
_ANCHORS = (
    (4, 6, 20),
    (58, 20, 96),
    (140, 36, 102),
    (214, 74, 66),
    (246, 150, 40),
    (252, 244, 170),
)

# Letters of 5 by 7 dots, a row a number.
_FONT = {
    "0": (14, 17, 19, 21, 25, 17, 14), "1": (4, 12, 4, 4, 4, 4, 14),
    "2": (14, 17, 1, 2, 4, 8, 31), "3": (31, 2, 4, 2, 1, 17, 14),
    "4": (2, 6, 10, 18, 31, 2, 2), "5": (31, 16, 30, 1, 1, 17, 14),
    "6": (6, 8, 16, 30, 17, 17, 14), "7": (31, 1, 2, 4, 8, 8, 8),
    "8": (14, 17, 17, 14, 17, 17, 14), "9": (14, 17, 17, 15, 1, 2, 12),
    ".": (0, 0, 0, 0, 0, 12, 12), "-": (0, 0, 0, 14, 0, 0, 0), ":": (0, 12, 12, 0, 12, 12, 0),
    "k": (16, 16, 18, 20, 24, 20, 18), "H": (17, 17, 17, 31, 17, 17, 17),
    "z": (0, 0, 31, 2, 4, 8, 31), "s": (0, 0, 14, 16, 14, 1, 30),
    "d": (1, 1, 13, 19, 17, 17, 15), "B": (30, 17, 17, 30, 17, 17, 30),
    "a": (0, 0, 14, 1, 15, 17, 15), "l": (12, 4, 4, 4, 4, 4, 14),
    "r": (0, 0, 22, 25, 16, 16, 16), "m": (0, 0, 26, 21, 21, 17, 17),
    "Z": (31, 1, 2, 4, 8, 16, 31), "T": (31, 4, 4, 4, 4, 4, 4),
}  # fmt: skip


def power_db(samples: Samples, rate: int, columns: int = WIDTH) -> Matrix:
    """Power spectrogram with about so many columns.

    Args:
        samples: float32, shape `(n,)`, at least one sample; what is not finite counts as silence,
            what is beyond full scale as full scale.
        rate: Samples a second.
        columns: Columns wanted; neighbouring frames are averaged to reach them.

    Returns:
        float32, shape `(bins, columns)`, dB, lowest frequency first.
    """
    samples = np.clip(np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0), -1.0, 1.0)
    size = max(64, 1 << round(np.log2(max(64.0, _FFT_SECONDS * rate))))
    if len(samples) < size:
        samples = np.pad(samples, (0, size - len(samples)))
    hop = max(1, min(size // 2, (len(samples) - size) // columns or 1))
    starts = np.arange(0, len(samples) - size + 1, hop)
    column = np.minimum(np.arange(len(starts)) * columns // len(starts), columns - 1)
    total = np.zeros((columns, size // 2 + 1))
    counts = np.zeros(columns)
    window = np.hanning(size).astype(np.float32)
    for first in range(0, len(starts), _FRAMES_AT_ONCE):
        part = slice(first, first + _FRAMES_AT_ONCE)
        frames = np.stack([samples[start : start + size] for start in starts[part]])
        power = np.abs(np.fft.rfft(frames * window, axis=1)) ** 2
        np.add.at(total, column[part], power)
        np.add.at(counts, column[part], 1)
    # Fewer frames than columns: a column without one repeats that to its left.
    last = np.maximum.accumulate(np.where(counts > 0, np.arange(columns), 0))
    level = total[last]
    level /= np.maximum(counts[last], 1)[:, None]
    np.maximum(level, 1e-12, out=level)
    np.log10(level, out=level)
    level *= 10.0
    found: Matrix = level.T.astype(np.float32)
    return found


def spectrogram_png(
    samples: Samples,
    rate: int,
    *,
    marks: Sequence[float] = (),
    title: str = "",
    unusual: UnusualMap | None = None,
    unusual_from: float = 0.0,
) -> bytes:
    """Draw a stretch of sound.

    Args:
        samples: float32, shape `(n,)`, at least one sample.
        rate: Samples a second.
        marks: Moments marked by an upright line, seconds from the first sample.
        title: Shown above it; only digits and the few letters of a time are drawn.
        unusual: Of the same sound, or a part of it: what is marked in it is framed.
        unusual_from: Where that part begins, seconds.

    Returns:
        The bytes of a PNG file.
    """
    table = power_db(samples, rate)
    top = float(table.max())
    drawn = _stretch(table)[::-1]
    shade = np.clip((drawn - top + _RANGE_DB) / _RANGE_DB, 0, 1) * (_COLOURS - 1)
    image = np.full((_TOP + HEIGHT + _BOTTOM, _LEFT + WIDTH + _RIGHT), _WHITE, np.uint8)
    image[_TOP : _TOP + HEIGHT, _LEFT : _LEFT + WIDTH] = shade.astype(np.uint8)
    seconds = len(samples) / rate
    if unusual is not None:
        _outline(image, unusual, unusual_from, seconds, rate / 2.0)
    for mark in marks:
        if 0 <= mark <= seconds:
            x = _LEFT + min(WIDTH - 2, round(mark / seconds * WIDTH))
            image[_TOP : _TOP + HEIGHT, x : x + 2] = _MARK
    _axes(image, seconds, rate / 2000.0)
    _bar(image)
    _write(image, title, _LEFT, 8)
    return _png(image)


def _outline(
    image: Pixels, unusual: UnusualMap, start: float, seconds: float, nyquist: float
) -> None:
    """Draw a line around the cells that are marked; cells that touch share one."""
    cells, bands = unusual.marked.shape
    places = (np.arange(WIDTH) + 0.5) / WIDTH * seconds - start
    # The last cell reaches to the end of what it was measured on.
    covered = (places >= 0) & (places < (cells + 1) * unusual.cell_seconds)
    columns = np.clip(places / unusual.cell_seconds, 0, cells - 1).astype(int)
    rows = np.searchsorted(unusual.hertz, (np.arange(HEIGHT) + 0.5) / HEIGHT * nyquist) - 1
    heard = (rows >= 0) & (rows < bands)
    inside = unusual.marked[columns][:, np.clip(rows, 0, bands - 1)].T & heard[:, None] & covered
    padded = np.pad(inside[::-1], 1)
    core = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    line = padded[1:-1, 1:-1] & ~core
    plot = image[_TOP : _TOP + HEIGHT, _LEFT : _LEFT + WIDTH]
    plot[line] = _MARK


def _stretch(table: Matrix) -> Matrix:
    """Rows to the height of the plot; where several share a line the loudest is drawn."""
    bins = len(table)
    if bins <= HEIGHT:
        drawn: Matrix = table[np.arange(HEIGHT) * bins // HEIGHT]
    else:
        drawn = np.maximum.reduceat(table, np.arange(HEIGHT) * bins // HEIGHT, axis=0)
    return drawn


def _axes(image: Pixels, seconds: float, kilohertz: float) -> None:
    bottom = _TOP + HEIGHT
    _frame(image, _LEFT, WIDTH)
    for value in _ticks(seconds, 10):
        x = _LEFT + min(WIDTH - 1, round(value / seconds * WIDTH))
        image[bottom : bottom + 6, x] = _BLACK
        text = f"{value:g}"
        _write(image, text, x - _width(text) // 2, bottom + 10)
    _write(image, "s", _LEFT + WIDTH + 18, bottom + 10)
    for value in _ticks(kilohertz, 6):
        y = bottom - 1 - min(HEIGHT - 1, round(value / kilohertz * HEIGHT))
        image[y, _LEFT - 6 : _LEFT] = _BLACK
        text = f"{value:g}"
        _write(image, text, _LEFT - 10 - _width(text), y - 7)
    _write(image, "kHz", 4, 8)


def _bar(image: Pixels) -> None:
    """The scale of the colours."""
    left = _LEFT + WIDTH + 8
    ramp = np.linspace(_COLOURS - 1, 0, HEIGHT).astype(np.uint8)
    image[_TOP : _TOP + HEIGHT, left : left + 8] = ramp[:, None]
    for value in (0, 20, 40, 60, 80):
        y = _TOP + min(HEIGHT - 15, round(value / _RANGE_DB * HEIGHT))
        _write(image, f"-{value}" if value else "0", left + 12, y)
    _write(image, "dB", left + 12, 8)


def _frame(image: Pixels, left: int, width: int) -> None:
    image[_TOP - 1, left - 1 : left + width + 1] = _GREY
    image[_TOP + HEIGHT, left - 1 : left + width + 1] = _BLACK
    image[_TOP - 1 : _TOP + HEIGHT + 1, left - 1] = _BLACK
    image[_TOP - 1 : _TOP + HEIGHT + 1, left + width] = _GREY


def _ticks(end: float, most: int) -> list[float]:
    """Round numbers from 0 to `end`, at most so many steps."""
    raw = max(end, 1e-9) / most
    unit = 10.0 ** np.floor(np.log10(raw))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= raw)
    return [round(i * step, 9) for i in range(int(end / step + 1e-9) + 1)]


def _width(text: str) -> int:
    return 6 * _SCALE * len(text) - _SCALE


def _write(image: Pixels, text: str, x: int, y: int) -> None:
    """Draw a line of text; its left upper corner is at (x, y). What leaves the image is cut."""
    for letter in text:
        rows = _FONT.get(letter, (0,) * 7)
        dots = (np.array(rows)[:, None] >> np.arange(4, -1, -1)) & 1
        block = np.kron(dots, np.ones((_SCALE, _SCALE), int)).astype(bool)
        part = image[max(y, 0) : y + block.shape[0], max(x, 0) : x + block.shape[1]]
        part[block[: part.shape[0], : part.shape[1]]] = _BLACK
        x += 6 * _SCALE


def _palette() -> Pixels:
    anchors = np.array(_ANCHORS, float)
    places = np.linspace(0, len(anchors) - 1, _COLOURS)
    colours = np.stack(
        [np.interp(places, np.arange(len(anchors)), anchors[:, c]) for c in range(3)], axis=1
    )
    rest = [(255, 255, 255), (20, 20, 20), (190, 190, 190), (80, 220, 255)]
    found: Pixels = np.concatenate([np.round(colours), np.array(rest, float)]).astype(np.uint8)
    return found


def _png(image: Pixels) -> bytes:
    """An indexed image as PNG (ISO/IEC 15948), every line unfiltered."""
    height, width = image.shape
    lines = np.zeros((height, width + 1), np.uint8)
    lines[:, 1:] = image
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", header),
            _chunk(b"PLTE", _palette().tobytes()),
            _chunk(b"IDAT", zlib.compress(lines.tobytes(), 6)),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
