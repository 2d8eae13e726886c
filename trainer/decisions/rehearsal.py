"""Holds a trained encoder's healthy recordings against thresholds found without them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from rich.progress import Progress

from agent.calibrate.fit import fit_scorer
from agent.calibrate.limits import HealthyScores
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
from trainer.fit.embed import embed_windows
from trainer.run import RunRecord, unheard


def rehearse(
    record: RunRecord, encoder: Encoder, machine: Machine, progress: Progress | None = None
) -> Rehearsal:
    """Embed a run's healthy recordings in float32, and hold each against a threshold without it.

    Args:
        record: The run's.
        encoder: As trained.
        machine: The recordings, where they are now.
        progress: Where to show progress.

    Raises:
        AuscultError: Too few healthy recordings, or none can be read.
    """
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
    vectors = HealthySet(embed_windows(encoder, windows.waveforms, progress), windows.rows)
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
    )
    healthy = HealthyScores(fitted.healthy_scores, windows.rows)
    found = summed_up(healthy, fitted.threshold, fitted.config.clip, machine, preset, known.odd)
    faulty = faulty_windows(machine, cutting, progress)
    promised = look_ahead(preset, encoder, fitted, vectors, windows, faulty, progress)
    return replace(found, promised=promised)
