"""The picture of a stretch of sound, as an 8-bit PNG with a palette.

Time runs to the right in seconds, frequency upwards in kHz, colour is power density in dB below the
loudest. Pillow writes it and its labels; it is loaded with the first picture, so that an agent
without an alarm does not pay for it (docs/notes/libraries.md).
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from agent.core.errors import AuscultError
from agent.core.records import Matrix, Samples
from agent.explain.unusual import UnusualMap

Pixels = npt.NDArray[np.uint8]
# Text, its place in pixels, and what of it stands there (Pillow's text anchors).
_Label = tuple[str, int, int, str]

WIDTH, HEIGHT = 900, 320  # of the plot itself, pixels
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 64, 30, 44
_RANGE_DB = 80.0
_FFT_SECONDS = 0.064  # about 16 Hz apart: mains harmonics are told from each other
# Few, and arrays written over: the device has little memory, and an alarm must find it free.
_FRAMES_AT_ONCE = 64
_PAUSE = 5  # cells
_SMALL = 5  # pixels to one of a thumbnail

# Palette: the colours of sound, greys from paper to ink for frame and letters, the marks' colour.
_COLOURS, _PAPER, _INK, _MARK = 239, 239, 254, 255
_FRAME = _PAPER + 4
# Dark to light in even steps of brightness, so that it also reads in grey.
_ANCHORS = (
    (4, 6, 20),
    (58, 20, 96),
    (140, 36, 102),
    (214, 74, 66),
    (246, 150, 40),
    (252, 244, 170),
)
_FONT_PIXELS = 15


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
        title: Shown above it.
        unusual: Of the same sound, or a part of it: what is marked in it is framed.
        unusual_from: Where that part begins, seconds.

    Returns:
        The bytes of a PNG file.
    """
    table = power_db(samples, rate)
    top = float(table.max())
    drawn = _stretch(table)[::-1]
    shade = np.clip((drawn - top + _RANGE_DB) / _RANGE_DB, 0, 1) * (_COLOURS - 1)
    image = np.full((_TOP + HEIGHT + _BOTTOM, _LEFT + WIDTH + _RIGHT), _PAPER, np.uint8)
    image[_TOP : _TOP + HEIGHT, _LEFT : _LEFT + WIDTH] = shade.astype(np.uint8)
    seconds = len(samples) / rate
    if unusual is not None:
        _outline(image, unusual, unusual_from, seconds, rate / 2.0)
    for mark in marks:
        if 0 <= mark <= seconds:
            x = _LEFT + min(WIDTH - 2, round(mark / seconds * WIDTH))
            image[_TOP : _TOP + HEIGHT, x : x + 2] = _MARK
    labels = [*_axes(image, seconds, rate / 2000.0), *_bar(image), (title, _LEFT, _TOP - 8, "ls")]
    return _png(image, labels)


def thumbnail_png(picture: bytes) -> bytes:
    """The plot of a picture of `spectrogram_png`, a fifth as wide, without axes.

    Args:
        picture: The PNG.

    Raises:
        AuscultError: It was not made by `spectrogram_png`, or is damaged.
    """
    from PIL import Image  # noqa: PLC0415 - loaded with the first picture

    size = (_LEFT + WIDTH + _RIGHT, _TOP + HEIGHT + _BOTTOM)
    try:
        # Only as PNG, and of that size alone: a damaged file must not ask for memory.
        with Image.open(io.BytesIO(picture), formats=("PNG",)) as whole:
            if whole.size != size:
                raise AuscultError(f"the picture is {whole.size} pixels large, should be {size}")
            plot = whole.convert("RGB").crop((_LEFT, _TOP, _LEFT + WIDTH, _TOP + HEIGHT))
    except (OSError, ValueError, SyntaxError) as fault:
        raise AuscultError(f"the picture is damaged: {fault}") from fault
    small = plot.resize((WIDTH // _SMALL, HEIGHT // _SMALL), Image.Resampling.BOX)
    file = io.BytesIO()
    small.quantize(64).save(file, format="PNG", optimize=True)
    return file.getvalue()


def _outline(
    image: Pixels, unusual: UnusualMap, start: float, seconds: float, nyquist: float
) -> None:
    """Draw a line around the cells that are marked; cells that touch share one."""
    marked = _tidy(unusual.marked)
    cells, bands = marked.shape
    places = (np.arange(WIDTH) + 0.5) / WIDTH * seconds - start
    # The last cell reaches to the end of what it was measured on.
    covered = (places >= 0) & (places < (cells + 1) * unusual.cell_seconds)
    columns = np.clip(places / unusual.cell_seconds, 0, cells - 1).astype(int)
    rows = np.searchsorted(unusual.hertz, (np.arange(HEIGHT) + 0.5) / HEIGHT * nyquist) - 1
    heard = (rows >= 0) & (rows < bands)
    inside = marked[columns][:, np.clip(rows, 0, bands - 1)].T & heard[:, None] & covered
    padded = np.pad(inside[::-1], 1)
    core = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    line = padded[1:-1, 1:-1] & ~core
    plot = image[_TOP : _TOP + HEIGHT, _LEFT : _LEFT + WIDTH]
    plot[line] = _MARK


def _tidy(marked: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Marks a person can follow: what pauses for a second goes on."""
    padded = np.pad(marked, ((_PAUSE, _PAUSE), (0, 0)))
    before = np.logical_or.reduce([padded[n : n + len(marked)] for n in range(_PAUSE + 1)])
    after = np.logical_or.reduce(
        [padded[_PAUSE + n : _PAUSE + n + len(marked)] for n in range(_PAUSE + 1)]
    )
    tidied: npt.NDArray[np.bool_] = before & after
    return tidied


def _stretch(table: Matrix) -> Matrix:
    """Rows to the height of the plot; where several share a line the loudest is drawn."""
    bins = len(table)
    if bins <= HEIGHT:
        drawn: Matrix = table[np.arange(HEIGHT) * bins // HEIGHT]
    else:
        drawn = np.maximum.reduceat(table, np.arange(HEIGHT) * bins // HEIGHT, axis=0)
    return drawn


def _axes(image: Pixels, seconds: float, kilohertz: float) -> list[_Label]:
    bottom = _TOP + HEIGHT
    _frame(image, _LEFT, WIDTH)
    labels = [("s", _LEFT + WIDTH + 22, bottom + 10, "mt"), ("kHz", _LEFT - 10, _TOP - 8, "rs")]
    for value in _ticks(seconds, 10):
        x = _LEFT + min(WIDTH - 1, round(value / seconds * WIDTH))
        image[bottom : bottom + 6, x] = _INK
        labels.append((f"{value:g}", x, bottom + 10, "mt"))
    for value in _ticks(kilohertz, 6):
        y = bottom - 1 - min(HEIGHT - 1, round(value / kilohertz * HEIGHT))
        image[y, _LEFT - 6 : _LEFT] = _INK
        labels.append((f"{value:g}", _LEFT - 10, y, "rm"))
    return labels


def _bar(image: Pixels) -> list[_Label]:
    """The scale of the colours."""
    left = _LEFT + WIDTH + 8
    ramp = np.linspace(_COLOURS - 1, 0, HEIGHT).astype(np.uint8)
    image[_TOP : _TOP + HEIGHT, left : left + 8] = ramp[:, None]
    labels = [("dB", left + 12, _TOP - 8, "ls")]
    for value in (0, 20, 40, 60, 80):
        y = _TOP + round(value / _RANGE_DB * (HEIGHT - 1))
        labels.append((f"-{value}" if value else "0", left + 12, y, "lm"))
    return labels


def _frame(image: Pixels, left: int, width: int) -> None:
    image[_TOP - 1, left - 1 : left + width + 1] = _FRAME
    image[_TOP + HEIGHT, left - 1 : left + width + 1] = _INK
    image[_TOP - 1 : _TOP + HEIGHT + 1, left - 1] = _INK
    image[_TOP - 1 : _TOP + HEIGHT + 1, left + width] = _FRAME


def _ticks(end: float, most: int) -> list[float]:
    """Round numbers from 0 to `end`, at most so many steps."""
    raw = max(end, 1e-9) / most
    unit = 10.0 ** np.floor(np.log10(raw))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= raw)
    return [round(i * step, 9) for i in range(int(end / step + 1e-9) + 1)]


def palette_of_sound() -> Pixels:
    """Colours from silence to the loudest, uint8 `(n, 3)`."""
    anchors = np.array(_ANCHORS, float)
    places = np.linspace(0, len(anchors) - 1, _COLOURS)
    colours = [np.interp(places, np.arange(len(anchors)), anchors[:, c]) for c in range(3)]
    found: Pixels = np.stack(colours, axis=1).round().astype(np.uint8)
    return found


def _palette() -> Pixels:
    colours = palette_of_sound()
    greys = np.linspace(255, 20, _INK - _PAPER + 1)[:, None].repeat(3, axis=1)
    found: Pixels = (
        np.concatenate([colours, greys, [(80.0, 220.0, 255.0)]]).round().astype(np.uint8)
    )
    return found


def _png(image: Pixels, labels: Sequence[_Label]) -> bytes:
    """An image of palette indices as PNG, with its labels on the paper around the plot."""
    from PIL import Image, ImageDraw, ImageFont  # noqa: PLC0415 - only an alarm pays for it

    height, width = image.shape
    written = Image.new("L", (width, height))
    pen, font = ImageDraw.Draw(written), ImageFont.load_default(_FONT_PIXELS)
    for text, x, y, anchor in labels:
        pen.text((x, y), text, fill=255, font=font, anchor=anchor)
    ink = np.asarray(written) // (256 // (_INK - _PAPER + 1))
    image = np.where(ink > 0, _PAPER + ink, image).astype(np.uint8)
    drawn = Image.fromarray(image)
    drawn.putpalette(_palette().tobytes())
    file = io.BytesIO()
    drawn.save(file, "PNG")
    return file.getvalue()
