"""The picture of a replay: distance against threshold, and what the simple charts said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from agent.drift.baseline import DriftError
from trainer.drift.charts import Trace

_LOW, _HIGH = 1e-3, 1e3
# Okabe and Ito's colours, told apart by colour-blind readers and in print.
_LINE, _ALERT, _BASE = "#0072B2", "#D55E00", "#009E73"


def draw(traces: dict[str, Trace], *, count: int, baseline: int, title: str, path: Path) -> None:
    """Draw one panel a monitor and save a PNG.

    Args:
        traces: The monitors by name; each panel shows statistic over limit, logarithmic.
        count: Steps of the sequence.
        baseline: Leading steps that were the baseline.
        title: Above the picture.
        path: The PNG.

    Raises:
        DriftError: It cannot be written.
    """
    figure = Figure(figsize=(10, 1.4 + 1.6 * len(traces)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(traces), 1, sharex=True, squeeze=False)[:, 0]
    for panel, (name, made) in zip(panels, traces.items(), strict=True):
        _panel(panel, name, made, baseline)
    panels[0].legend(loc="upper left", fontsize=7, ncols=4, frameon=False)
    panels[0].set_xlim(0, count)
    panels[-1].set_xlabel("step of the sequence")
    figure.supylabel("statistic / limit", fontsize=10)
    figure.suptitle(title, fontsize=11)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=110)
    except OSError as fault:
        raise DriftError(
            f"cannot be written: {fault.strerror}", where=path, remedy="Choose another --out."
        ) from fault


def _panel(panel: Axes, name: str, made: Trace, baseline: int) -> None:
    ratio = np.clip(made.ratio, _LOW, _HIGH)
    panel.set_yscale("log")
    panel.axvspan(0, baseline, color=_BASE, alpha=0.15, lw=0, label="baseline")
    panel.axhline(1, color="black", lw=0.8, ls="--", label="limit")
    panel.plot(made.windows, ratio, color=_LINE, lw=1)
    panel.fill_between(
        made.windows,
        0,
        1,
        where=made.active.tolist(),
        step="post",
        transform=panel.get_xaxis_transform(),
        color=_ALERT,
        alpha=0.2,
        lw=0,
        label="warning stands",
    )
    for row, at in enumerate(made.warnings):
        panel.axvline(at, color=_ALERT, lw=1, label="warning raised" if row == 0 else None)
    if len(ratio):
        panel.set_ylim(max(_LOW, ratio.min() * 0.7), max(3.0, ratio.max() * 1.5))
    first = f"first warning {made.warnings[0]}" if made.warnings else "no warning"
    panel.set_title(f"{name}: {first}, {len(made.warnings)} in all", loc="left", fontsize=9)
