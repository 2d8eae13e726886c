"""Pictures that are files of their own, on white, each as PNG bytes."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from agent.core.records import Matrix, Samples

# Told apart by people who do not see red and green alike (Okabe & Ito 2008).
HEALTHY, FAULTY, LINE = "#0072B2", "#D55E00", "#747b82"
_DPI = 110
_FRAME, _STEP = 1024, 256
# dB shown below the loudest point.
_SHOWN = 60

Painter = Callable[[Axes], None]


def draw(size: tuple[float, float], *painters: Painter) -> bytes:
    """A PNG of panels below each other, each painted by one function.

    Args:
        size: Width and height, inches.
        painters: One a panel, from the top.
    """
    target = io.BytesIO()
    figure = Figure(figsize=size, dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, paint in zip(
        figure.subplots(len(painters), 1, squeeze=False)[:, 0], painters, strict=True
    ):
        paint(axes)
    figure.savefig(target, format="png")
    return target.getvalue()


def spectrogram(sound: Samples, rate: int, title: str, reference: float | None = None) -> Painter:
    """Power over time and frequency.

    Args:
        sound: Mono, shape `(n,)`.
        rate: Its rate, Hz.
        title: Of the panel.
        reference: Level that is brightest, dB (from `loudest`); the sound's own when None.
    """
    level = _levels(sound)
    top = float(level.max()) if reference is None else reference

    def paint(axes: Axes) -> None:
        axes.imshow(
            level - top,
            origin="lower",
            aspect="auto",
            vmin=-_SHOWN,
            vmax=0,
            cmap="magma",
            extent=(0, len(sound) / rate, 0, rate / 2000),
        )
        axes.set_ylabel("kHz")
        axes.set_xlabel("seconds")
        axes.set_title(title, loc="left")

    return paint


def loudest(sounds: Sequence[Samples]) -> float:
    """A common reference for `spectrogram`: the highest level in any, dB."""
    return max((float(_levels(sound).max()) for sound in sounds), default=-120.0)


def _levels(sound: Samples) -> Matrix:
    """dB, `(frequencies, frames)`; a sound shorter than a frame is filled up with silence."""
    sound = np.pad(sound, (0, max(0, _FRAME - len(sound))))
    frames = np.lib.stride_tricks.sliding_window_view(sound, _FRAME)[::_STEP]
    power = np.abs(np.fft.rfft(frames * np.hanning(_FRAME).astype(np.float32))) ** 2
    levels: Matrix = (10.0 * np.log10(power.T + 1e-12)).astype(np.float32)
    return levels
