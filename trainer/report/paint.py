"""Pictures of reports, each as PNG bytes."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from agent.core.records import Matrix, Samples

# Told apart by people who do not see red and green alike (Okabe & Ito 2008).
HEALTHY, FAULTY, OTHER, LINE = "#0072B2", "#D55E00", "#56B4E9", "#747b82"
# Letters and axes that read on a white page and on a dark one.
INK = "#747b82"
_BARE = {
    **dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK
    ),
    "legend.facecolor": "none",
    "legend.framealpha": 0.0,
}
_DPI = 110
_FRAME, _STEP = 1024, 256
# dB shown below the loudest point.
_SHOWN = 60

Painter = Callable[[Axes], None]


def draw(size: tuple[float, float], *painters: Painter, paper: bool = False) -> bytes:
    """A PNG of panels below each other, each painted by one function.

    Args:
        size: Width and height, inches.
        painters: One a panel, from the top.
        paper: On white, for a file of its own; else on nothing, so that a page's own ground, light
            or dark, shows through.
    """
    target = io.BytesIO()
    with rc_context({} if paper else _BARE):
        figure = Figure(figsize=size, dpi=_DPI, layout="constrained")
        FigureCanvasAgg(figure)
        for axes, paint in zip(
            figure.subplots(len(painters), 1, squeeze=False)[:, 0], painters, strict=True
        ):
            paint(axes)
        figure.savefig(target, format="png", transparent=not paper)
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


def losses(curve: Sequence[float]) -> Painter:
    """Mean loss of each epoch."""

    def paint(axes: Axes) -> None:
        axes.plot(range(1, len(curve) + 1), curve, marker="o", color=HEALTHY, ms=4)
        axes.set_xlabel("epoch")
        axes.set_ylabel("mean loss")
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_title("Loss", loc="left")
        axes.grid(alpha=0.3)

    return paint


def scatter(groups: Mapping[str, Matrix], colours: Mapping[str, str], title: str) -> Painter:
    """Points in the plane, a colour and a mark a group.

    Args:
        groups: Name of each group and its points, `(n, 2)`; drawn in this order.
        colours: Colour of each group.
        title: Of the panel.
    """
    marks = ("o", "s", "^", "x", "D", "v")

    def paint(axes: Axes) -> None:
        for number, (name, points) in enumerate(groups.items()):
            axes.scatter(
                points[:, 0],
                points[:, 1],
                s=16,
                marker=marks[number % len(marks)],
                color=colours[name],
                alpha=0.65,
                linewidths=0.8,
                label=f"{name} ({len(points)})",
            )
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_title(title, loc="left")
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)

    return paint


def _levels(sound: Samples) -> Matrix:
    """dB, `(frequencies, frames)`; a sound shorter than a frame is filled up with silence."""
    sound = np.pad(sound, (0, max(0, _FRAME - len(sound))))
    frames = np.lib.stride_tricks.sliding_window_view(sound, _FRAME)[::_STEP]
    power = np.abs(np.fft.rfft(frames * np.hanning(_FRAME).astype(np.float32))) ** 2
    levels: Matrix = (10.0 * np.log10(power.T + 1e-12)).astype(np.float32)
    return levels
