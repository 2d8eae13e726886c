"""Pictures of the inspect page."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from agent.hygiene.measure import Measured
from agent.hygiene.shape import PIECE_SECONDS
from trainer.report.paint import FAULTY, HEALTHY, Painter


def distances(values: npt.NDArray[np.float64], marked: Sequence[bool]) -> Painter:
    """A dot for each recording on one line of distance; untypical ones marked.

    Args:
        values: Distances, finite.
        marked: Which are untypical.
    """
    odd = np.asarray(marked, bool)

    def paint(axes: Axes) -> None:
        scatter = np.random.default_rng(0).uniform(-0.4, 0.4, len(values))
        for which, colour, mark, label in (
            (~odd, HEALTHY, "o", "healthy"),
            (odd, FAULTY, "D", "untypical"),
        ):
            if which.any():
                axes.scatter(
                    values[which], scatter[which], s=22, color=colour, marker=mark, alpha=0.7,
                    label=f"{label} ({int(which.sum())})",
                )  # fmt: skip
        axes.axvline(float(np.median(values)), color="#888888", lw=1, ls="--", label="median")
        axes.set_ylim(-1, 1)
        axes.set_yticks([])
        axes.set_xlim(left=0)
        axes.set_xlabel("distance to the nearest other recording, in usual spreads of a band")
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)

    return paint


def levels(found: Sequence[Measured]) -> Painter:
    """Level of each stretch, recordings one after the other."""

    def paint(axes: Axes) -> None:
        begin = 0.0
        for number, one in enumerate(found):
            count = len(one.levels_dbfs)
            times = (begin + PIECE_SECONDS * (0.5 + np.arange(count))) / 60
            axes.plot(
                times, one.levels_dbfs, ".-", ms=4, lw=0.8,
                color=(HEALTHY, "#56B4E9")[number % 2],
            )  # fmt: skip
            begin += max(PIECE_SECONDS * count, one.seconds)
        axes.set_xlabel("minutes of recording")
        axes.set_ylabel("dBFS")
        axes.grid(alpha=0.3)

    return paint
