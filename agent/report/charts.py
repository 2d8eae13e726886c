"""Charts of a report: what they show as data, which `templates/report.js` draws by uPlot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Literal

import numpy as np

from agent.core.records import Matrix

# How a line, a bar or a dot is coloured; the style sheet has each for light and dark.
Tone = Literal["healthy", "other", "faulty", "limit", "plain"]
# A number of this many digits tells neighbours apart, and keeps the file small.
_DIGITS = 5
_BINS = 30
# Shares of the scores drawn; what lies beyond is gathered in the outermost bins.
_DRAWN = (0.005, 0.995)


@dataclass(frozen=True, slots=True)
class Series:
    """One line, or dots.

    Attributes:
        name: For the legend.
        values: One for each x; None where there is none.
        tone: Its colour.
        dots: Dots, not a line.
        dashed: A dashed line.
    """

    name: str
    values: Sequence[float | None]
    tone: Tone = "healthy"
    dots: bool = False
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines and dots over one axis.

    Attributes:
        x: Ascending; `wall` in seconds since 1970 by a clock on the wall, of no zone.
        series: What is drawn.
        x_words: What x is.
        y_words: What y is, with its unit.
        wall: Whether x is time.
        names: Of each x, for the readout; a recording's name leads to its card.
        level: A threshold that is drawn across, and its name.
        marks: Moments marked by an upright line, each with its name.
    """

    x: Sequence[float]
    series: Sequence[Series]
    x_words: str
    y_words: str
    wall: bool = False
    names: Sequence[str] = ()
    level: tuple[float, str] | None = None
    marks: Sequence[tuple[float, str]] = ()

    def data(self) -> dict[str, Any]:
        """For the page's script."""
        return {
            "kind": "lines",
            "x": list(self.x) if self.wall else _short(self.x),
            "wall": self.wall,
            "x_words": self.x_words,
            "y_words": self.y_words,
            "names": list(self.names),
            "level": None if self.level is None else [_digits(self.level[0]), self.level[1]],
            "marks": [[at, words] for at, words in self.marks],
            "series": [
                {
                    "name": s.name,
                    "tone": s.tone,
                    "dots": s.dots,
                    "dashed": s.dashed,
                    "values": _short(s.values),
                }
                for s in self.series
            ],
        }


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts of scores: healthy ones stand on the axis, faulty ones hang from it.

    Attributes:
        healthy: Scores, at least one of these or of the others.
        faulty: Scores.
        threshold: Above it is an alarm.
        what: A score's bearer in the plural.
    """

    healthy: Sequence[float]
    threshold: float
    what: str
    faulty: Sequence[float] = ()

    def data(self) -> dict[str, Any]:
        """For the page's script."""
        every = np.array([*self.healthy, *self.faulty, self.threshold], np.float64)
        low, high = (float(edge) for edge in np.quantile(every, _DRAWN))
        low, high = min(low, self.threshold), max(high, self.threshold)
        room = 0.02 * (high - low) or 0.5
        edges = np.linspace(low - room, high + room, _BINS + 1)
        up = np.histogram(np.clip(self.healthy, edges[0], edges[-1]), edges)[0]
        down = np.histogram(np.clip(self.faulty, edges[0], edges[-1]), edges)[0]
        groups = [
            {"name": f"healthy ({len(self.healthy)})", "tone": "healthy", "counts": up.tolist()}
        ]
        if self.faulty:
            groups.append(
                {"name": f"faulty ({len(self.faulty)})", "tone": "faulty",
                 "counts": (-down).tolist()}
            )  # fmt: skip
        return {
            "kind": "bars",
            "edges": _short(edges.tolist()),
            "groups": groups,
            "level": [_digits(self.threshold), "threshold"],
            "x_words": "anomaly score (larger is stranger)",
            "y_words": self.what,
        }  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Heat:
    """How far each band of each recording lies from the usual, in dB.

    Attributes:
        names: Of the columns, in order.
        edges_hz: Of the bands, ascending, one more than there are.
        values: dB, shape `(columns, bands)`.
        x_words: What a column is.
    """

    names: Sequence[str]
    edges_hz: Sequence[float]
    values: Matrix
    x_words: str
    limit_db: float = field(default=12.0)

    def data(self) -> dict[str, Any]:
        """For the page's script."""
        return {
            "kind": "heat",
            "names": list(self.names),
            "edges": _short(self.edges_hz),
            "values": np.round(self.values, 1).tolist(),
            "x_words": self.x_words,
            "limit": self.limit_db,
        }


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Points of a kind, for `Scatter`.

    Attributes:
        name: For the legend.
        points: Shape `(n, 2)`.
        tone: Its colour.
        names: Of each point, for the readout; a recording's name leads to its card.
    """

    name: str
    points: Matrix
    tone: Tone
    names: Sequence[str]


@dataclass(frozen=True, slots=True)
class Scatter:
    """Points in a plane whose axes have no unit.

    Attributes:
        groups: Drawn in this order, at least one point in all.
        x_words: What x is.
        y_words: What y is.
    """

    groups: Sequence[Group]
    x_words: str
    y_words: str

    def data(self) -> dict[str, Any]:
        """For the page's script: points of all groups in the order of x."""
        every = [
            (float(x), float(y), n, name)
            for n, group in enumerate(self.groups)
            for (x, y), name in zip(group.points, group.names, strict=True)
        ]
        every.sort(key=lambda one: one[0])
        return {
            "kind": "scatter",
            "x": _short([x for x, _, _, _ in every]),
            "names": [name for _, _, _, name in every],
            "x_words": self.x_words,
            "y_words": self.y_words,
            "series": [
                {
                    "name": f"{group.name} ({len(group.points)})",
                    "tone": group.tone,
                    "values": _short([y if k == n else None for _, y, k, _ in every]),
                }
                for n, group in enumerate(self.groups)
            ],
        }


Chart = Lines | Histogram | Heat | Scatter


def loss_chart(curve: Sequence[float]) -> Lines:
    """A training's mean loss of each epoch."""
    epochs = [float(n + 1) for n in range(len(curve))]
    return Lines(epochs, (Series("mean loss", curve),), "epoch", "mean loss")


def wall_seconds(moment: datetime) -> float:
    """A recorder's own time, which has no zone, as a number for `Lines.x`."""
    return moment.replace(tzinfo=timezone.utc).timestamp()


def _short(values: Sequence[float | None]) -> list[float | None]:
    return [None if value is None or not np.isfinite(value) else _digits(value) for value in values]


def _digits(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
