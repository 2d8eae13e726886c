"""One picture a machine: where each system puts healthy and anomalous clips, and the ROC curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import roc_curve

from agent.recordings.model import ANOMALY, NORMAL, SOURCE, TARGET
from export.results import Evaluation, Outcome, System, file_name
from trainer.metrics.auc import MAX_FPR, UNKNOWN, split_clips
from trainer.metrics.summary import MachineFigures

# Told apart by people who do not see red and green alike (Okabe & Ito 2008).
_COLOURS = {SOURCE: "#0072B2", TARGET: "#56B4E9", UNKNOWN: "#0072B2", ANOMALY: "#D55E00"}
_BINS = 30
# Shares of the scores drawn; what lies beyond is gathered in the outermost bins.
_DRAWN = (0.005, 0.995)

Floats = npt.NDArray[np.float64]
Texts = npt.NDArray[np.object_]


def draw_machine(evaluation: Evaluation, machine: str, folder: Path) -> Path | None:
    """Draw a machine's score histograms and ROC curves, a system a row (of its first seed).

    Args:
        evaluation: What was found.
        machine: One of its machines.
        folder: Where `<machine>.png` is written.

    Returns:
        The file; None when no system has figures for this machine.
    """
    rows = [
        (system, next(iter(outcomes.values())))
        for system in evaluation.systems
        if (outcomes := evaluation.of(system, machine))
    ]
    if not rows:
        return None
    figure = Figure(figsize=(11, 3.7 * len(rows) + 0.4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(machine, fontweight="bold")
    axes = figure.subplots(len(rows), 2, squeeze=False, width_ratios=(1.9, 1))
    for (left, right), (system, outcome) in zip(axes, rows, strict=True):
        labels, domains, scores = _clips(outcome)
        _histogram(left, labels, domains, scores, outcome.threshold)
        if outcome.figures is None:
            right.set_axis_off()
        else:
            _curves(right, labels, domains, scores, outcome.figures)
        left.set_title(_title(system, outcome), loc="left")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{file_name(machine)}.png"
    figure.savefig(path)
    return path


def _title(system: System, outcome: Outcome) -> str:
    seed = f", seed {system.seeds[0]}" if len(system.seeds) > 1 else ""
    floor = ", a floor" if system.preset.floor else ""
    ranked = outcome.figures
    told = "" if ranked is None else f": harmonic mean {100 * ranked.hmean:.1f} %"
    return f"{system.name}{floor}{seed}{told}"


def _clips(outcome: Outcome) -> tuple[Texts, Texts, Floats]:
    labels = np.array([v for s in outcome.sections for v in s.labels], dtype=object)
    domains = np.array([v for s in outcome.sections for v in s.domains], dtype=object)
    scores = np.concatenate([section.scores for section in outcome.sections])
    known = labels != ""
    return labels[known], domains[known], scores[known]


def _histogram(axes: Axes, labels: Texts, domains: Texts, scores: Floats, threshold: float) -> None:
    low, high = (float(edge) for edge in np.quantile(scores, _DRAWN))
    if high <= low:
        low, high = low - 0.5, high + 0.5
    span = high - low
    near = low - span < threshold < high + span
    if near:
        low, high = min(low, threshold - 0.02 * span), max(high, threshold + 0.02 * span)
    edges = [float(edge) for edge in np.linspace(low, high, _BINS + 1)]
    shown = np.clip(scores, low, high)
    base: Floats = np.zeros(_BINS)
    # Healthy clips stand on the axis, domain upon domain; anomalies hang from it.
    for domain, name in ((SOURCE, "normal source"), (TARGET, "normal target"), (UNKNOWN, NORMAL)):
        mask = (labels == NORMAL) & (domains == domain)
        if mask.any():
            base = _bars(axes, shown[mask], edges, base, _COLOURS[domain], name)
    _bars(axes, shown[labels == ANOMALY], edges, None, _COLOURS[ANOMALY], ANOMALY)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))
    axes.yaxis.set_major_formatter(lambda count, _: f"{abs(count):.0f}")
    if near:
        axes.axvline(threshold, color="black", linestyle="--", linewidth=1.2, label="threshold")
    else:
        side = "right" if threshold > high else "left"
        axes.plot([], [], " ", label=f"(threshold {threshold:.3g}: {side})")
    axes.set_xlabel("anomaly score of a clip (larger is stranger)")
    axes.set_ylabel("anomalies | normal clips")
    axes.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, -0.17),
        ncols=4,
        frameon=False,
        fontsize="small",
        columnspacing=1.2,
        handlelength=1.2,
    )
    axes.margins(x=0.01)


def _bars(
    axes: Axes, scores: Floats, edges: list[float], base: Floats | None, colour: str, name: str
) -> Floats:
    """Draw counts on top of `base`, or downwards where there is none; returns the new top."""
    counts = np.histogram(scores, edges)[0].astype(np.float64)
    bottom = np.zeros(len(counts)) if base is None else base
    axes.bar(
        edges[:-1],
        -counts if base is None else counts,
        width=np.diff(edges),
        bottom=bottom,
        align="edge",
        color=colour,
        edgecolor="white",
        linewidth=0.5,
        label=f"{name} ({len(scores)})",
    )
    return bottom + counts


def _curves(
    axes: Axes, labels: Texts, domains: Texts, scores: Floats, figures: MachineFigures
) -> None:
    split = split_clips(list(labels), list(domains))
    curves: Sequence[tuple[str, npt.NDArray[np.bool_], str, float | None]] = (
        ("source", split.source, _COLOURS[SOURCE], figures.auc_source),
        ("target", split.target, _COLOURS[TARGET], figures.auc_target),
    )
    if np.array_equal(split.source, split.target):
        curves = (("all clips", split.source, _COLOURS[UNKNOWN], figures.auc_source),)
    axes.axvspan(0, MAX_FPR, color="0.92", label=f"pAUC {100 * figures.pauc:.1f} %")
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle=":")
    for name, normals, colour, area in curves:
        if area is None or not normals.any():
            continue
        chosen = normals | split.anomalous
        false, true, _ = roc_curve(split.anomalous[chosen], scores[chosen])
        axes.plot(false, true, color=colour, linewidth=2, label=f"{name} {100 * area:.1f} %")
    axes.set(xlim=(0, 1), ylim=(0, 1.01), xlabel="false-positive rate", ylabel="true-positive rate")
    axes.set_aspect("equal", adjustable="box")
    axes.legend(loc="lower right", fontsize="small", title="AUC")
