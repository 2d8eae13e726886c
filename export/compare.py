"""What export changed (size, speed, direction of the embeddings, AUC), and what is too much."""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.progress import Progress
from rich.table import Table

from agent.bundle.manifest import EncoderInfo
from agent.core.records import Matrix
from agent.deploy.load import open_bundle
from agent.encode.embedding_cache import EmbeddingCache
from agent.encode.onnx import OnnxEncoder
from agent.recordings.model import Machine
from agent.verdict.figures import DecisionFigures, decision_figures
from export.cached_bundle import with_cache
from export.clips import score_tests
from trainer.decisions.clips import judged_clips
from trainer.graph.onnx_graph import ExportError, cosines
from trainer.metrics.auc import auc_scores, harmonic_mean
from trainer.metrics.files import SectionScores
from trainer.preset import QuantizationConfig
from trainer.run import RunRecord

_REMEDIES = (
    "Export with --float, or set in the preset's `quantization` another `mode`, more "
    "`calibration_windows`, or a wider `{field}` if you accept the change, and train again."
)

# Timed passes over one window; the median leaves out what other programs took.
_PASSES = 15
_THREADS = 2


@dataclass(frozen=True, slots=True)
class TestChange:
    """A test set through both graphs, each with a memory bank of its own embeddings.

    Attributes:
        float_hmean: Harmonic mean of the areas through the float32 graph, a fraction.
        hmean: The same through the exported graph.
        clips: Test recordings with a known answer.
        figures: What the exported bundle's threshold did with them, `all` and by domain.
    """

    float_hmean: float
    hmean: float
    clips: int
    figures: dict[str, DecisionFigures] = field(default_factory=dict)

    @property
    def change(self) -> float:
        """Exported minus float32."""
        return self.hmean - self.float_hmean


@dataclass(frozen=True, slots=True)
class Comparison:
    """The exported graph beside the float32 one.

    Attributes:
        float_bytes: Size of the float32 graph.
        bytes: Size of the exported graph.
        cosine_mean: Mean cosine similarity of their embeddings of the healthy windows.
        cosine_min: The smallest.
        torch_cosine_min: Smallest similarity of the float32 graph to torch.
        float_ms: Median time of one window through the float32 graph on this machine's processor,
            two threads, milliseconds.
        ms: The same of the exported graph.
        test: The test set's figures; None when it was not scored.
    """

    float_bytes: int
    bytes: int
    cosine_mean: float
    cosine_min: float
    torch_cosine_min: float
    float_ms: float
    ms: float
    test: TestChange | None = None


def similarity(
    float_embeddings: Matrix, embeddings: Matrix, spans: Sequence[tuple[int, int]] = ()
) -> tuple[float, float]:
    """Mean and smallest cosine similarity of two embeddings of one set of windows, `(n, dim)`.

    Args:
        float_embeddings: Of the float32 graph.
        embeddings: Of the exported one.
        spans: Parts of a joined embedding, of which the least similar counts.
    """
    values = cosines(float_embeddings, embeddings, spans)
    return float(values.mean(dtype=np.float64)), float(values.min())


def window_ms(path: Path, info: EncoderInfo, window: Matrix) -> float:
    """Median time of one window, milliseconds, on two threads.

    Args:
        path: The graph.
        info: What it takes and gives.
        window: float32, shape `(1, window_samples)`.
    """
    encoder = OnnxEncoder(path, info, threads=_THREADS)
    encoder.start()
    try:
        taken = []
        for _ in range(_PASSES):
            began = time.perf_counter()
            encoder.encode(window)
            taken.append(time.perf_counter() - began)
    finally:
        encoder.stop()
    return 1000.0 * float(np.median(taken))


def sections_hmean(sections: tuple[SectionScores, ...]) -> tuple[float, int] | None:
    """Harmonic mean of all areas of all sections, and the clips behind it.

    Clips whose answer is not known are left out; None when no section has both answers.
    """
    areas: list[float] = []
    clips = 0
    for section in sections:
        known = [i for i, label in enumerate(section.labels) if label]
        labels = [section.labels[i] for i in known]
        if len(set(labels)) < 2:
            continue
        figures = auc_scores(labels, [section.domains[i] for i in known], section.scores[known])
        areas.extend(figures.values())
        clips += len(known)
    return (harmonic_mean(areas), clips) if areas else None


def comparison_table(found: Comparison, *, mode: str, int8_nodes: int, float_nodes: int) -> Table:
    """The comparison for a person to read.

    Args:
        found: The figures.
        mode: `static`, `dynamic` or `none`.
        int8_nodes: Weighted operations in INT8.
        float_nodes: Weighted operations outside the front end left in float32.
    """
    if mode == "none":
        return _plain_table(found)
    title = f"INT8 ({mode}) against float32"
    table = Table(title=title, title_justify="left")
    table.add_column("")
    table.add_column("float32", justify="right")
    table.add_column("exported", justify="right")
    table.add_column("change", justify="right")
    table.add_row(
        "encoder.onnx",
        f"{found.float_bytes / 1e6:.2f} MB",
        f"{found.bytes / 1e6:.2f} MB",
        f"x {found.bytes / found.float_bytes:.2f}",
    )
    table.add_row(
        "one window here, 2 threads",
        f"{found.float_ms:.1f} ms",
        f"{found.ms:.1f} ms",
        f"x {found.ms / found.float_ms:.2f}",
    )
    table.add_row("cosine to float32, mean", "1", f"{found.cosine_mean:.4f}", "")
    table.add_row("cosine to float32, smallest", "1", f"{found.cosine_min:.4f}", "")
    total = int8_nodes + float_nodes
    table.add_row("convolutions, matrix products in INT8", "", f"{int8_nodes} of {total}", "")
    if found.test is not None:
        table.add_row(
            f"harmonic mean of AUC, {found.test.clips} test clips",
            f"{100 * found.test.float_hmean:.2f}",
            f"{100 * found.test.hmean:.2f}",
            f"{100 * found.test.change:+.2f}",
        )
    return table


def _plain_table(found: Comparison) -> Table:
    """Figures of a graph that was left in float32: there is nothing to set beside them."""
    table = Table(title="float32, as the preset or --float asks", title_justify="left")
    table.add_column("")
    table.add_column("exported", justify="right")
    table.add_row("encoder.onnx", f"{found.bytes / 1e6:.2f} MB")
    table.add_row("one window here, 2 threads", f"{found.ms:.1f} ms")
    if found.test is not None:
        table.add_row(
            f"harmonic mean of AUC, {found.test.clips} test clips", f"{100 * found.test.hmean:.2f}"
        )
    return table


def compare_tests(
    folder: Path,
    plain: Path | None,
    machine: Machine,
    record: RunRecord,
    progress: Progress,
    cache: EmbeddingCache | None = None,
) -> TestChange | None:
    """Score the test recordings through both bundles.

    Args:
        folder: The bundle.
        plain: A bundle of the float32 graph; None where that is the bundle.
        machine: Its recordings.
        record: The run's.
        progress: Where to show progress.
        cache: Where embeddings are kept; None for nowhere.

    Returns:
        What it cost; None without a test set of both kinds.
    """
    labels = {recording.label for recording in machine.of("test")}
    if not {"normal", "anomaly"} <= labels:
        return None
    # What ranks them takes a second to load, in which the recordings can be scored.
    threading.Thread(target=importlib.import_module, args=("sklearn.metrics",), daemon=True).start()
    found: list[tuple[float, int]] = []
    figures: dict[str, DecisionFigures] = {}
    for place in (folder, plain):
        if place is None:
            continue
        task = progress.add_task("scoring the test set", total=len(machine.of("test")))
        bundle = open_bundle(place)
        if cache is not None:
            bundle = with_cache(bundle, cache)
        try:
            sections = score_tests(
                bundle,
                machine,
                hop_seconds=record.preset.window.train_hop_seconds,
                channel=record.channel,
                advance=lambda task=task: progress.advance(task),  # type: ignore[misc]
            ).sections
        finally:
            bundle.close()
        result = sections_hmean(sections)
        if result is None:
            return None
        figures = figures or decision_figures(judged_clips(sections))
        found.append(result)
    return TestChange(
        float_hmean=found[-1][0], hmean=found[0][0], clips=found[0][1], figures=figures
    )


def refuse_cosine(comparison: Comparison, bounds: QuantizationConfig) -> None:
    """Refuse a graph whose embeddings are turned further than the preset allows.

    Raises:
        ExportError: They are.
    """
    if not comparison.cosine_mean >= bounds.min_cosine:
        raise ExportError(
            f"INT8 turned the embeddings: their mean cosine to float32 is "
            f"{comparison.cosine_mean:.4f}, the preset demands {bounds.min_cosine:g}. "
            "No bundle was written",
            remedy=_REMEDIES.format(field="min_cosine"),
        )


def refuse_hmean(change: TestChange, bounds: QuantizationConfig) -> None:
    """Refuse a graph that costs more of a test set than the preset allows.

    Raises:
        ExportError: It does.
    """
    if -change.change > bounds.max_hmean_drop:
        raise ExportError(
            f"INT8 cost detection: the harmonic mean on the {change.clips} test recordings fell "
            f"from {100 * change.float_hmean:.2f} to {100 * change.hmean:.2f}, the preset allows "
            f"a drop of {100 * bounds.max_hmean_drop:g}. No bundle was written",
            remedy=_REMEDIES.format(field="max_hmean_drop"),
        )
