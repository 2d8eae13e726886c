"""The report's pictures, each as PNG bytes; and all on one page."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from agent.frames import Samples
from export.demo.outcome import Heard, Outcome
from export.demo.stream import Stream

# Told apart by people who do not see red and green alike (Okabe & Ito 2008).
HEALTHY, FAULTY, LINE = "#0072B2", "#D55E00", "#444444"
_DPI = 110


def draw(size: tuple[float, float], *painters: Callable[[Axes], None]) -> bytes:
    """A PNG of panels below each other, each painted by one function."""
    figure = Figure(figsize=size, dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, paint in zip(
        figure.subplots(len(painters), 1, squeeze=False)[:, 0], painters, strict=True
    ):
        paint(axes)
    target = io.BytesIO()
    figure.savefig(target, format="png")
    return target.getvalue()


def scores_over_time(
    windows: Sequence[Heard], stream: Stream, outcome: Outcome, raised: Sequence[float]
) -> Callable[[Axes], None]:
    """Each window's score at the moment it was known, the threshold, the onset and the alarms."""

    def paint(axes: Axes) -> None:
        valid = [(w, w.score) for w in windows if w.score is not None]
        axes.axvspan(stream.onset, stream.seconds, color=FAULTY, alpha=0.08, lw=0)
        axes.plot(
            [w.end for w, _ in valid],
            [score for _, score in valid],
            color=HEALTHY,
            lw=1.3,
            label="score",
        )
        over = [(w.end, score) for w, score in valid if w.exceeded]
        axes.plot([end for end, _ in over], [score for _, score in over], ".", color=FAULTY, ms=5)
        if valid:
            axes.axhline(valid[0][0].threshold, color=LINE, ls="--", lw=1, label="threshold")
        axes.axvline(stream.onset, color=FAULTY, lw=1.5, label="fault begins")
        for number, end in enumerate(e for e in raised if e <= stream.onset):
            label = "false alarm" if number == 0 else None
            axes.axvline(end, color=LINE, lw=1.5, ls=":", label=label)
        if outcome.alarm is not None:
            axes.axvline(outcome.alarm, color="black", lw=1.8, label="alarm raised")
        axes.set_xlim(0, stream.seconds)
        axes.set_xlabel("heard until, seconds of the stream")
        axes.set_ylabel("anomaly score")
        axes.set_title("What the agent published", loc="left")
        axes.legend(loc="upper left", fontsize=8)

    return paint


def score_histogram(windows: Sequence[Heard], stream: Stream) -> Callable[[Axes], None]:
    """Scores of windows that are wholly healthy or wholly faulty."""

    def paint(axes: Axes) -> None:
        valid = [(w, w.score) for w in windows if w.score is not None]
        healthy = [score for w, score in valid if w.end <= stream.onset]
        faulty = [score for w, score in valid if w.start >= stream.onset]
        bins = np.histogram_bin_edges([*healthy, *faulty] or [0.0], bins=40).tolist()
        axes.hist(healthy, bins, color=HEALTHY, alpha=0.7, label=f"healthy ({len(healthy)})")
        axes.hist(faulty, bins, color=FAULTY, alpha=0.7, label=f"faulty ({len(faulty)})")
        if valid:
            axes.axvline(valid[0][0].threshold, color=LINE, ls="--", lw=1, label="threshold")
        axes.set_xlabel("anomaly score")
        axes.set_ylabel("windows")
        axes.set_title("Scores", loc="left")
        axes.legend(fontsize=8)

    return paint


def spectrogram(sound: Samples, rate: int, title: str, reference: float) -> Callable[[Axes], None]:
    """Power over time and frequency, dB below `reference` (the same for both pictures)."""

    def paint(axes: Axes) -> None:
        frames = np.lib.stride_tricks.sliding_window_view(sound, 1024)[::256]
        power = np.abs(np.fft.rfft(frames * np.hanning(1024).astype(np.float32))) ** 2
        level = 10 * np.log10(power.T + 1e-12) - reference
        axes.imshow(
            level,
            origin="lower",
            aspect="auto",
            vmin=-60,
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
    peak = 1e-12
    for sound in sounds:
        frames = np.lib.stride_tricks.sliding_window_view(sound, 1024)[::256]
        spectrum = np.fft.rfft(frames * np.hanning(1024).astype(np.float32))
        peak = max(peak, float(np.max(np.abs(spectrum) ** 2)))
    return 10 * float(np.log10(peak))
