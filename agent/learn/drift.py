"""The drift monitor's baseline, fitted to what the exported graph makes of the healthy windows."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from agent.bundle.manifest import DriftInfo, EncoderInfo, Row
from agent.config.recipe import DriftConfig
from agent.core.records import Matrix
from agent.core.text import natural_key, plural
from agent.drift.baseline import Baseline, DriftError
from agent.drift_fit.fit import MOST_BLOCK, fit_baseline
from agent.drift_fit.settings import EMBEDDING_SETTINGS, embedding_tolerance

# Below this the threshold knows hardly anything of the machine's own slow changes.
_FEW_WINDOWS = 50
_FEW_RECORDINGS = 4


@dataclass(frozen=True, slots=True)
class FittedDrift:
    """What export puts into a bundle for the drift monitor.

    Attributes:
        baseline: The healthy machine; None when there is none, and `note` says why.
        info: The same in short, for the manifest.
        note: For the manifest's notes; empty when there is nothing to say.
    """

    baseline: Baseline | None = None
    info: DriftInfo | None = None
    note: str = ""


def fit_drift(
    vectors: Matrix,
    rows: tuple[Row, ...],
    sources: Collection[str],
    encoder: EncoderInfo,
    config: DriftConfig,
    *,
    machine: str,
    seed: int,
) -> FittedDrift:
    """Fit the baseline, where there is enough sound for one.

    Windows are taken in natural order of their recordings' names, which most recorders make the
    order of time, and never two that overlap: the device takes its own at the same step.

    Args:
        vectors: Embeddings of the healthy windows, float32 `(n, dim)`.
        rows: Where each came from.
        sources: Recordings that sound as the device will hear the machine (not clean ones).
        encoder: What made the embeddings.
        config: The preset's.
        machine: The machine's name.
        seed: Of the fit.
    """
    if not config.enabled:
        return FittedDrift()
    step = config.step_seconds or encoder.window_samples / encoder.sample_rate
    chosen = spaced(rows, sources, step)
    if len(chosen) < config.least_windows:
        return FittedDrift(
            note=f"no drift baseline: {plural(len(chosen), 'healthy window')} {step:g} s apart, "
            f"{config.least_windows} are needed"
        )
    recordings = len({rows[row].source for row in chosen})
    features = vectors[chosen].astype(np.float64)
    if not np.ptp(features, axis=0).any():
        return FittedDrift(note="no drift baseline: the healthy windows do not differ at all")
    try:
        fit = fit_baseline(
            features,
            names=[f"embedding {index}" for index in range(encoder.dim)],
            unit="",
            source=f"encoder {encoder.kind} ({encoder.precision}) of {machine}",
            tolerance=embedding_tolerance(encoder.dim),
            settings=replace(EMBEDDING_SETTINGS, seed=seed),
            moments=len(chosen) < MOST_BLOCK * recordings,
        )
    except DriftError as fault:
        return FittedDrift(note=f"no drift baseline: {fault.problem}")
    record = fit.baseline.record
    return FittedDrift(
        fit.baseline,
        DriftInfo(
            components=len(record.mixture.logits),
            dims=len(record.mixture.means[0]),
            block=record.block,
            step_seconds=step,
            threshold=record.threshold,
            windows=len(chosen),
            recordings=recordings,
            caveat=_caveat(len(chosen), recordings),
        ),
    )


def spaced(rows: tuple[Row, ...], sources: Collection[str], step: float) -> list[int]:
    """Rows in time order whose starts in one recording are at least a step apart.

    Args:
        rows: Where windows came from.
        sources: Recordings to take them from.
        step: Seconds.
    """
    order = sorted(
        (row for row in range(len(rows)) if rows[row].source in sources),
        key=lambda row: (natural_key(rows[row].source), rows[row].start),
    )
    chosen: list[int] = []
    for row in order:
        last = rows[chosen[-1]] if chosen else None
        # Starts are noted to a microsecond.
        if (
            last is None
            or last.source != rows[row].source
            or rows[row].start >= last.start + step - 1e-5
        ):
            chosen.append(row)
    return chosen


def _caveat(windows: int, recordings: int) -> str:
    found = []
    if windows < _FEW_WINDOWS:
        found.append(f"{windows} windows show little of what is healthy ({_FEW_WINDOWS} are few)")
    if recordings < _FEW_RECORDINGS:
        shown = plural(recordings, "recording")
        found.append(f"how the machine varies over days is hardly to be told from {shown}")
    return "; ".join(found)
