"""The report's own pictures: what the agent published, over time and in all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from export.demo.outcome import Heard, Outcome
from export.demo.stream import Stream
from trainer.report.paint import FAULTY, HEALTHY, LINE, Painter


def scores_over_time(
    windows: Sequence[Heard], stream: Stream, outcome: Outcome, raised: Sequence[float]
) -> Painter:
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


def score_histogram(windows: Sequence[Heard], stream: Stream) -> Painter:
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
