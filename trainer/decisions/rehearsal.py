"""Holds a trained encoder's healthy recordings against thresholds found without them."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.progress import Progress

from agent.calibrate.fit import fit_scorer
from agent.calibrate.fit_cache import FitCache
from agent.calibrate.limits import HealthyScores
from agent.encode.embedding_cache import EmbeddingCache
from agent.learn.planted import faulty_windows
from agent.learn.promise import clip_rule
from agent.learn.rehearsal import Rehearsal, summed_up
from agent.learn.untypical import counted, untypical_sources
from agent.recordings.model import HEALTHY, Machine
from agent.recordings.windows import Cutting
from agent.score.scorer import HealthySet
from trainer.decisions.promised import look_ahead
from trainer.encoders.base import Encoder
from trainer.fit.densities import ScikitFitter
from trainer.graph.embedder import WindowEmbedder, graph_embedder
from trainer.graph.graph_cache import GraphCache
from trainer.run import RunRecord, unheard


def rehearse(
    record: RunRecord,
    encoder: Encoder,
    machine: Machine,
    progress: Progress | None = None,
    *,
    cache: EmbeddingCache | None = None,
    graphs: GraphCache | None = None,
    fits: FitCache | None = None,
) -> Rehearsal:
    """Embed a run's healthy recordings in float32, and hold each against a threshold without it.

    Args:
        record: The run's.
        encoder: As trained.
        machine: The recordings, where they are now.
        progress: Where to show progress.
        cache: Where embeddings are kept, for the export that follows; None for nowhere.
        graphs: Where graphs are kept; None for nowhere.
        fits: Where fits of scorers are kept; None for nowhere.

    Raises:
        AuscultError: Too few healthy recordings, or none can be read.
    """
    with tempfile.TemporaryDirectory(prefix="auscult-") as work:
        embedder = graph_embedder(
            encoder, record.preset, Path(work), cache=cache, graphs=graphs, progress=progress
        )
        return _rehearsed(record, encoder, machine, embedder, progress, fits)


def _rehearsed(
    record: RunRecord,
    encoder: Encoder,
    machine: Machine,
    embedder: WindowEmbedder,
    progress: Progress | None,
    fits: FitCache | None,
) -> Rehearsal:
    preset = record.preset
    cutting = Cutting(
        encoder.sample_rate,
        encoder.window_samples,
        round(preset.window.train_hop_seconds * encoder.sample_rate),
        channel=record.channel,
    )
    windows = cutting.windows(machine, HEALTHY, progress)
    kept = unheard(record)
    rule = clip_rule(preset)
    vectors = HealthySet(embedder(windows.waveforms, progress), windows.rows)
    known = counted(
        vectors,
        preset.scorer,
        untypical_sources(record.hygiene, [one.path for one in record.recordings]),
    )
    out = [row.source in known.odd or bool(kept and row.source not in kept) for row in windows.rows]
    fitted = fit_scorer(
        vectors,
        known.scorer,
        rule,
        window_seconds=preset.window.seconds,
        fitter=ScikitFitter(),
        uncounted=np.array(out) if any(out) else None,
        progress=progress,
        fits=fits,
    )
    healthy = HealthyScores(fitted.healthy_scores, windows.rows)
    found = summed_up(healthy, fitted.threshold, fitted.config.clip, machine, preset, known.odd)
    faulty = faulty_windows(machine, cutting, progress)
    promised = look_ahead(preset, encoder, embedder, fitted, vectors, windows, faulty, progress)
    return replace(found, promised=promised)
