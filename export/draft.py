"""What a bundle's manifest says: of its run and its threshold, and for people to note."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime, timezone

import numpy as np
import numpy.typing as npt

from agent import __version__
from agent.bundle.facts import AgreementInfo, ConditionsInfo, LevelInfo, ViewInfo
from agent.bundle.manifest import Manifest, Quantization, TrainedOn
from agent.bundle.seal import file_record
from agent.calibrate.limits import scale_info
from agent.capture.files import audio_info
from agent.core.text import plural
from agent.window.validity import level_dbfs
from export.compare import Comparison
from export.parts.detector import Detector
from export.parts.drift import FittedDrift
from export.quantize import Quantized
from export.untypical import note_apart
from trainer.decisions.untypical import untypical_sources
from trainer.encoders.base import View
from trainer.held import forget_mapped
from trainer.published.follow import report_info
from trainer.recordings.model import Machine
from trainer.run import RunRecord, unheard
from trainer.windows import WindowSet

_AT_ONCE = 64  # windows


def draft_manifest(
    record: RunRecord,
    machine: Machine,
    windows: WindowSet,
    detector: Detector,
    comparison: Comparison,
    quantized: Quantized | None,
    drift: FittedDrift | None = None,
    views: Sequence[View] = (),
    agree: AgreementInfo | None = None,
) -> Manifest:
    """The manifest, short of its files.

    Args:
        record: The run's.
        machine: Its recordings.
        windows: What the bank was made of.
        detector: What was made of them.
        comparison: What export changed.
        quantized: How the graph was quantized; None where it was not.
        drift: What the drift monitor measures from; None for none.
        views: What the embedding is made of.
        agree: How far the healthy recordings agree.
    """
    preset = record.preset
    asked = preset.quantization.mode
    odd = note_apart(detector.apart, untypical_sources(record))
    ruined = "" if agree is None else agree.ruined
    notes = [*(one for one in (ruined, odd) if one), *detector.fitted.notes]
    if record.hygiene is not None:
        notes += [note.text for note in record.hygiene.notes if note.serious]
    drift = drift or FittedDrift()
    chosen = "" if record.selection is None else record.selection.note
    notes.extend(
        note for note in (chosen, detector.gate_note, detector.still_note, drift.note) if note
    )
    notes.extend(
        f"{plural(count, 'healthy window')} left out: {why}"
        for why, count in windows.invalid.items()
    )
    learnt = _learnt(record)
    if learnt:
        notes.append(learnt)
    if quantized is not None and quantized.float_nodes:
        notes.append(
            "left in float32 because INT8 turned the embeddings too far: "
            + ", ".join(quantized.float_nodes)
        )
    return Manifest(
        auscult_version=__version__,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        encoder=detector.info,
        window_seconds=detector.info.window_samples / detector.info.sample_rate,
        hop_seconds=preset.window.hop_seconds,
        clip_hop_seconds=preset.window.train_hop_seconds,
        clip_seconds=preset.window.clip_seconds,
        report=report_info(preset),
        scorer=detector.fitted.config,
        threshold=detector.fitted.threshold,
        scale=scale_info(detector.fitted.threshold, detector.fitted.healthy_scores),
        sight=detector.sight,
        trained_on=_trained_on(record, machine, windows),
        level=_level(windows),
        quantization=Quantization(
            mode=asked if quantized else "none",
            float_bytes=comparison.float_bytes,
            bytes=comparison.bytes,
            cosine_mean=comparison.cosine_mean,
            cosine_min=comparison.cosine_min,
            torch_cosine_min=comparison.torch_cosine_min,
            int8_nodes=quantized.int8_nodes if quantized else 0,
            float_nodes=len(quantized.float_nodes) if quantized else 0,
            hmean_change=comparison.test.change if comparison.test else None,
        ),
        notes=tuple(notes),
        gate=detector.gate,
        still=None if detector.still is None else detector.still.config,
        drift=drift.info,
        views=tuple(
            ViewInfo(
                name=view.name,
                start=view.start,
                stop=view.stop,
                level=view.level,
                low_hz=view.low_hz,
                high_hz=view.high_hz,
            )
            for view in views
        ),
        agreement=agree,
        conditions=ConditionsInfo(channel=record.channel)
        if record.hygiene is None
        else record.hygiene.conditions,
        files={},
    )


def _learnt(record: RunRecord) -> str:
    """What the threshold is worth where it comes from recordings that the network has learnt."""
    kind = record.preset.training.kind
    if kind == "frozen" or unheard(record):
        return ""
    if kind == "reconstruct":
        return (
            "the threshold comes from the recordings that the network was trained to restore, and "
            "it restores those better than any new sound of the healthy machine: expect many more "
            "false alarms than promised. With `training: {held_out: 0.2}` in the preset a fifth of "
            "the recordings is kept from training, and the threshold comes from those alone"
        )
    return (
        "the threshold comes from recordings that the network was trained on, so new sound of the "
        "healthy machine may lie above it more often than promised: count false alarms over some "
        "healthy days before relying on it"
    )


def _levels(windows: WindowSet) -> npt.NDArray[np.float64]:
    """RMS level of each window, dBFS."""
    levels = np.empty(len(windows.rows))
    for place, window in enumerate(windows.waveforms):
        levels[place] = level_dbfs(window)
        if place % _AT_ONCE == 0:
            forget_mapped()
    return levels


def _level(windows: WindowSet) -> LevelInfo:
    levels = _levels(windows)
    middle = float(np.median(levels))
    spread = float(np.median(np.abs(levels - middle)))
    return LevelInfo(median_dbfs=round(middle, 2), spread_db=round(spread, 2))


def _trained_on(record: RunRecord, machine: Machine, windows: WindowSet) -> TrainedOn:
    used = {row.source: row for row in windows.rows}
    digest = hashlib.sha256()
    seconds = 0.0
    for source in sorted(used):
        path = machine.root / source
        digest.update(f"{source}\0{file_record(path).sha256}\n".encode())
        seconds += audio_info(path).seconds
    domains: dict[str, int] = {}
    for _, row in sorted(used.items()):
        domains[row.domain] = domains.get(row.domain, 0) + 1
    level = np.percentile(_levels(windows), [1.0, 99.0])
    return TrainedOn(
        machine=record.machine,
        preset=record.preset.name,
        seed=record.seed,
        recordings=len(used),
        seconds=round(seconds, 3),
        domains=domains,
        classes=record.classes,
        class_rule=record.class_rule,
        level_dbfs=(round(float(level[0]), 2), round(float(level[1]), 2)),
        data_sha256=digest.hexdigest(),
    )
