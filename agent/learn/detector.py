"""Everything of a detector that follows from a graph and recordings: bank, threshold, gate."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
from rich.progress import Progress

from agent.activity.still import StillFrames, fit_still
from agent.bundle.facts import IndexInfo, SightInfo
from agent.bundle.manifest import (
    BANK,
    FAULTS,
    GATE,
    GATE_ROWS,
    HEALTHY_SCORES,
    ROWS,
    STILL_FILES,
    EncoderInfo,
    Gate,
)
from agent.calibrate.fit import FittedScorer, fit_scorer
from agent.calibrate.fit_cache import FitCache
from agent.config.recipe import Recipe
from agent.core.errors import AudioError, LearnError
from agent.core.records import Matrix
from agent.core.storage import write_json
from agent.core.text import plural
from agent.learn.embed import Embedder, embed
from agent.learn.promise import keep_promise, window_rule
from agent.learn.sight import measure_sight
from agent.learn.untypical import ScoredApart, counted
from agent.recordings.held import forget_mapped
from agent.recordings.model import Machine
from agent.recordings.windows import Cutting, WindowSet
from agent.score.build import write_scorer
from agent.score.fitter import Fitter
from agent.score.gate import fit_gate
from agent.score.scorer import HealthySet
from agent.score.space import space_of

# What the gate knows the machine's standing still by; never part of the healthy bank.
STILL = ("idle", "noise")


@dataclass(frozen=True, slots=True)
class Detector:
    """One graph with the bank and threshold made through it."""

    graph: Path
    info: EncoderInfo
    vectors: Matrix
    fitted: FittedScorer
    gate_vectors: Matrix | None = None
    gate: Gate | None = None
    gate_note: str = ""
    still: StillFrames | None = None
    still_note: str = ""
    apart: tuple[ScoredApart, ...] = ()
    sight: SightInfo | None = None
    faults: Matrix | None = None


def still_windows(machine: Machine, cutting: Cutting, progress: Progress) -> WindowSet | None:
    """Windows of the idle machine and of its surroundings; None when nothing can be used."""
    if not machine.of(*STILL):
        return None
    try:
        return cutting.windows(machine, STILL, progress)
    except AudioError:
        # Digital silence, for one, which the agent calls invalid anyway.
        return None


def make_detector(
    graph: Path,
    info: EncoderInfo,
    windows: WindowSet,
    still: WindowSet | None,
    recipe: Recipe,
    progress: Progress,
    *,
    fitter: Fitter | None = None,
    unheard: Collection[str] = (),
    untypical: Mapping[str, bool] = MappingProxyType({}),
    embedder: Embedder = embed,
    fits: FitCache | None = None,
) -> Detector:
    """Embed the recordings with a graph, and fit scorer, threshold and gate to them.

    Args:
        graph: The graph.
        info: What it takes and gives.
        windows: Of the healthy machine.
        still: Of the idle machine and its surroundings; None without.
        recipe: What is to be made.
        progress: Where to show progress.
        fitter: Fits what takes a workstation; None on a device.
        unheard: Recordings that alone calibrate the threshold, since the encoder has learnt to
            restore the others; all when empty.
        untypical: Recordings that calibrate nothing, being unlike all others, and whether by far.
            Those that their distances show to be so join them.
        embedder: Makes the embeddings.
        fits: Where fits of scorers are kept; None for nowhere.

    Raises:
        WorkstationError: The scorer takes a fitter and there is none.
        LearnError: An embedding is not finite.
        AuscultError: Too few healthy recordings.
    """
    vectors = _embedded(graph, info, windows, progress, embedder)

    healthy = HealthySet(vectors, windows.rows)
    known = counted(healthy, recipe.scorer, untypical)
    apart = known.apart
    out = [
        row.source in known.odd or bool(unheard and row.source not in unheard)
        for row in windows.rows
    ]
    fitted = fit_scorer(
        healthy,
        known.scorer,
        window_rule(recipe),
        window_seconds=info.window_samples / info.sample_rate,
        fitter=fitter,
        uncounted=np.array(out) if any(out) else None,
        progress=progress,
        fits=fits,
    )
    if still is None:
        return Detector(graph, info, vectors, fitted, apart=apart)
    gate_vectors = _embedded(graph, info, still, progress, embedder)
    space = space_of(fitted.config, vectors)
    gate, note = fit_gate(gate_vectors, still.groups, vectors, windows.groups, space)
    frames, frames_note = fit_still(
        still.waveforms, still.groups, windows.waveforms, windows.groups, info.sample_rate
    )
    forget_mapped()
    return Detector(
        graph, info, vectors, fitted, gate_vectors, gate, note, frames, frames_note, apart
    )  # fmt: skip


def with_promise(
    graph: Path,
    detector: Detector,
    windows: WindowSet,
    faulty: WindowSet | None,
    recipe: Recipe,
    progress: Progress,
    embedder: Embedder = embed,
) -> Detector:
    """The detector with a promise of false alarms that it can keep and still see by.

    Args:
        graph: Its graph.
        detector: As made.
        windows: Of the healthy machine.
        faulty: Of faulty test recordings; None without any.
        recipe: What is to be made.
        progress: Where to show progress.
        embedder: Makes the embeddings.
    """
    healthy = HealthySet(detector.vectors, windows.rows)
    info, fitted = detector.info, detector.fitted
    sight, faults = measure_sight(graph, info, fitted, healthy, windows, faulty, progress, embedder)
    rule, wanted = window_rule(recipe), recipe.threshold.false_alarms
    if wanted is None:
        return replace(detector, sight=sight, faults=faults)
    seconds = info.window_samples / info.sample_rate
    fitted, sight = keep_promise(fitted, healthy, rule, wanted, sight, seconds)
    return replace(detector, fitted=fitted, sight=sight, faults=faults)


def _embedded(
    graph: Path,
    info: EncoderInfo,
    windows: WindowSet,
    progress: Progress,
    embedder: Embedder,
) -> Matrix:
    vectors = embedder(
        graph, info, windows.waveforms, title=f"embedding ({info.precision})", progress=progress
    )
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        row = windows.rows[int(bad[0])]
        raise LearnError(
            f"the encoder gives no finite embedding of the window at {row.start:g} s "
            f"({plural(len(bad), 'window')} in all)",
            where=row.source,
            remedy="Train again with a smaller learning rate; if that does not help, report it.",
        )
    return vectors


def write_files(
    folder: Path, detector: Detector, windows: WindowSet, still: WindowSet | None
) -> dict[str, IndexInfo]:
    """Write everything of a bundle but the graph and the manifest.

    Returns:
        What the manifest tells of the indexes of large banks, by file.
    """
    np.save(folder / BANK, detector.vectors, allow_pickle=False)
    np.save(folder / HEALTHY_SCORES, detector.fitted.healthy_scores, allow_pickle=False)
    write_json(folder / ROWS, [row.model_dump(mode="json") for row in windows.rows])
    if detector.faults is not None and np.isfinite(detector.faults).all():
        np.save(folder / FAULTS, detector.faults, allow_pickle=False)
    fitted = detector.fitted
    healthy = HealthySet(detector.vectors, windows.rows)
    indexes = write_scorer(folder, fitted.config, healthy, fitted.state)
    if detector.still is not None:
        for name, levels in zip(
            STILL_FILES, (detector.still.still, detector.still.running), strict=True
        ):
            np.save(folder / name, levels, allow_pickle=False)
    if still is not None and detector.gate is not None and detector.gate_vectors is not None:
        np.save(folder / GATE, detector.gate_vectors, allow_pickle=False)
        write_json(folder / GATE_ROWS, [row.model_dump(mode="json") for row in still.rows])
    return indexes
