"""Train a detector of one machine by a preset, and leave a run folder behind."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from pathlib import Path

import torch
from rich.progress import Progress

from agent import __version__
from trainer.encoders.base import Encoder
from trainer.encoders.registry import build_encoder
from trainer.fit.classify import FitResult, fit_classifier
from trainer.preset import Preset
from trainer.recordings.model import Machine, Recording
from trainer.run import RecordingRecord, RunRecord, prepare_run, save_run
from trainer.windows import healthy_windows

# Healthy sound an encoder learns from. Idle and noise recordings never count as healthy.
HEALTHY = ("normal", "clean")


def train_machine(
    machine: Machine,
    preset: Preset,
    out: Path,
    *,
    seed: int = 0,
    weights: Path | None = None,
    channel: int | None = None,
    progress: Progress | None = None,
) -> RunRecord:
    """Learn one machine's healthy sound.

    Args:
        machine: Its recordings, inspected; only the healthy ones are listened to.
        preset: The recipe.
        out: Run folder to write.
        seed: Seed of everything random.
        weights: Where pre-trained checkpoints are: a folder, or the file itself.
        channel: Channel of multi-channel recordings; None averages.
        progress: Where to show progress.

    Returns:
        The record, as written to `run.json`.

    Raises:
        ConfigError: The preset needs a checkpoint that is not there, or `out` cannot be written.
        AudioError: No healthy window could be judged.
    """
    began = time.monotonic()
    encoder = build_encoder(
        preset.encoder,
        window_seconds=preset.window.seconds,
        weights=weights,
        seed=seed,
        members=preset.training.ensemble,
    )
    prepare_run(out)
    result = _fit(encoder, machine, preset, seed=seed, channel=channel, progress=progress)
    record = RunRecord(
        auscult_version=__version__,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        machine=machine.name,
        root=str(machine.root.resolve()),
        preset=preset,
        seed=seed,
        channel=channel,
        recordings=tuple(_record(machine.root, r) for r in machine.recordings),
        rejected={str(r.path): f"{r.reason}. {r.remedy}" for r in machine.rejected},
        classes=result.classes,
        class_rule=result.class_rule,
        losses=tuple(result.losses),
        seconds=time.monotonic() - began,
    )
    save_run(out, record, encoder.eval())
    return record


def _fit(
    encoder: Encoder,
    machine: Machine,
    preset: Preset,
    *,
    seed: int,
    channel: int | None,
    progress: Progress | None,
) -> FitResult:
    if preset.training.kind == "frozen":
        return FitResult(classes=0, class_rule="", losses=[])
    windows = healthy_windows(
        machine,
        rate=encoder.sample_rate,
        window_samples=encoder.window_samples,
        hop_samples=round(preset.window.train_hop_seconds * encoder.sample_rate),
        roles=HEALTHY,
        channel=channel,
        progress=progress,
    )
    return fit_classifier(
        encoder,
        torch.from_numpy(windows.waveforms),
        windows.rows,
        preset.training,
        machine=machine.name,
        seed=seed,
        progress=progress,
    )


def _record(root: Path, recording: Recording) -> RecordingRecord:
    return RecordingRecord(
        path=recording.path.relative_to(root).as_posix(),
        role=recording.role,
        label=recording.label,
        section=recording.section,
        domain=recording.domain,
        attributes=recording.attributes,
    )
