"""Train a detector of one machine by a preset, and leave a run folder behind."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from rich.progress import Progress

from agent import __version__
from agent.config.scorer import FusionConfig
from agent.hygiene.record import HygieneRecord
from agent.recordings.model import HEALTHY, Machine, Recording
from agent.recordings.windows import healthy_windows
from agent.score.fusion import check_columns
from trainer.encoders.base import Encoder, placed
from trainer.encoders.registry import build_encoder
from trainer.fit.checkpoint import Checkpoints
from trainer.fit.classify import CHECKPOINT, FitResult, fit_classifier
from trainer.fit.material import gather_material
from trainer.fit.reconstruct import fit_autoencoder
from trainer.join import join_runs
from trainer.members import recipes
from trainer.preset import Preset
from trainer.run import (
    RUN,
    RecordingRecord,
    RunRecord,
    link_run,
    load_record,
    load_run,
    prepare_run,
    refuse_present,
    save_run,
)
from trainer.selection.choose import choose

if TYPE_CHECKING:
    from lightning_fabric import Fabric

# Where the runs of an ensemble's members lie while it is trained.
MEMBERS = "members"


def train_machine(
    machine: Machine,
    preset: Preset,
    out: Path,
    *,
    seed: int = 0,
    weights: Path | None = None,
    channel: int | None = None,
    hygiene: HygieneRecord | None = None,
    others: Sequence[Machine] = (),
    fabric: Fabric | None = None,
    resume: bool = False,
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
        hygiene: What the stage before found (`trainer.hygiene`); None when it was not run.
        others: The data set's other machines, for `training.classes.machines: all` and for what a
            selection mixes in.
        fabric: Engine of several processes, launched; None for this one alone.
        resume: Go on from the checkpoint that an interrupted training left in `out`.
        progress: Where to show progress.

    Returns:
        The record, as written to `run.json` (by the first process).

    Raises:
        ConfigError: The preset needs a checkpoint that is not there, or `out` cannot be written to
            or, to be resumed, is a finished run.
        AudioError: No healthy window could be judged.
    """
    began = time.monotonic()
    if preset.members:
        return _train_members(
            machine,
            preset,
            out,
            seed=seed,
            weights=weights,
            channel=channel,
            others=others,
            fabric=fabric,
            resume=resume,
            progress=progress,
        )
    encoder = build_encoder(
        preset.encoder,
        window_seconds=preset.window.seconds,
        weights=weights,
        seed=seed,
        members=preset.training.ensemble,
    )
    recipe = preset
    preset = preset.model_copy(update={"scorer": placed(preset.scorer, encoder)})
    if isinstance(preset.scorer, FusionConfig):
        # Export would refuse it, but after the training.
        check_columns(preset.scorer, encoder.dim)
    if resume:
        refuse_present(out, CHECKPOINT, resume=True)
    first = fabric is None or fabric.is_global_zero
    if first:
        prepare_run(out)
    given = _Given(machine, others, preset, out, seed, channel, fabric, resume, progress)
    result = _FITS[preset.training.kind](encoder, given)
    selection = None
    if recipe.selection is not None:
        choice = choose(
            machine,
            recipe,
            encoder,
            others=others,
            weights=weights,
            seed=seed,
            channel=channel,
            progress=progress,
        )
        preset, encoder, selection = choice.preset, choice.encoder, choice.record
    record = RunRecord(
        auscult_version=__version__,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        machine=machine.name,
        root=str(machine.root.resolve()),
        preset=preset,
        seed=seed,
        channel=channel,
        hygiene=hygiene,
        recordings=tuple(_record(machine.root, r) for r in machine.recordings),
        rejected={str(r.path): f"{r.reason}. {r.remedy}" for r in machine.rejected},
        classes=result.classes,
        class_rule=result.class_rule,
        losses=tuple(result.losses),
        held_losses=tuple(result.held_losses),
        held_out=result.held_out,
        best_epochs=result.best_epochs,
        selection=selection,
        seconds=time.monotonic() - began,
    )
    if first:
        save_run(out, record, encoder.eval())
        Checkpoints(out / CHECKPOINT).clear()
    if fabric is not None:
        fabric.barrier()
    return record


def _train_members(
    machine: Machine,
    preset: Preset,
    out: Path,
    *,
    seed: int,
    weights: Path | None,
    channel: int | None,
    others: Sequence[Machine],
    fabric: Fabric | None,
    resume: bool,
    progress: Progress | None,
) -> RunRecord:
    """Train an ensemble's members one after the other, and join them."""
    place = out / MEMBERS
    first = fabric is None or fabric.is_global_zero
    if first:
        prepare_run(out)
        if not resume:
            shutil.rmtree(place, ignore_errors=True)
    if fabric is not None:
        fabric.barrier()
    runs = {}
    for name, recipe in recipes(preset).items():
        runs[name] = place / name
        if not (runs[name] / RUN).is_file():
            train_machine(
                machine,
                recipe,
                runs[name],
                seed=seed,
                weights=weights,
                channel=channel,
                others=others if recipe.training.classes.machines == "all" else (),
                fabric=fabric,
                resume=resume and (runs[name] / CHECKPOINT).is_dir(),
                progress=progress,
            )
    if not first:
        assert fabric is not None
        fabric.barrier()
        return load_record(out)
    record = join_runs(preset, runs, out, seed=seed)
    shutil.rmtree(place, ignore_errors=True)
    if fabric is not None:
        fabric.barrier()
    return record


def rescored(
    run: Path,
    preset: Preset,
    out: Path,
    machine: Machine | None = None,
    hygiene: HygieneRecord | None = None,
) -> RunRecord:
    """A run for a preset that differs from that of `run` in nothing but what is done afterwards.

    Args:
        run: A finished run, whose preset has the same encoder, training and windows.
        preset: The recipe with the other scorer, threshold or name.
        out: Run folder to write.
        machine: Another machine that the same training serves; None for the run's own.
        hygiene: What was found of that machine's recordings.

    Returns:
        The record, as written to `run.json`.

    Raises:
        ConfigError: The run cannot be read, or `out` not be written to.
    """
    record, encoder = load_run(run)
    preset = preset.model_copy(update={"scorer": placed(preset.scorer, encoder)})
    update: dict[str, object] = {"preset": preset}
    if machine is not None:
        update |= {**_of_machine(machine), "hygiene": hygiene}
    record = record.model_copy(update=update)
    prepare_run(out)
    link_run(run, record, out)
    return record


def _of_machine(machine: Machine) -> dict[str, object]:
    """What a run's record says of its machine."""
    return {
        "machine": machine.name,
        "root": str(machine.root.resolve()),
        "recordings": tuple(_record(machine.root, r) for r in machine.recordings),
        "rejected": {str(r.path): f"{r.reason}. {r.remedy}" for r in machine.rejected},
    }


@dataclass(frozen=True, slots=True)
class _Given:
    """What a fit may need beside the encoder."""

    machine: Machine
    others: Sequence[Machine]
    preset: Preset
    out: Path
    seed: int
    channel: int | None
    fabric: Fabric | None
    resume: bool
    progress: Progress | None


def _frozen(_encoder: Encoder, _given: _Given) -> FitResult:
    return FitResult(classes=0, class_rule="", losses=[])


def _classify(encoder: Encoder, given: _Given) -> FitResult:
    training = given.preset.training
    material = gather_material(
        given.machine,
        given.others,
        encoder,
        training,
        hop_samples=round(given.preset.window.train_hop_seconds * encoder.sample_rate),
        clip_seconds=given.preset.window.clip_seconds,
        channel=given.channel,
        progress=given.progress,
    )
    return fit_classifier(
        encoder,
        material.waveforms,
        material.rows,
        training,
        machine=given.machine.name,
        seed=given.seed,
        progress=given.progress,
        material=material,
        fabric=given.fabric,
        place=given.out,
        resume=given.resume,
    )


def _reconstruct(encoder: Encoder, given: _Given) -> FitResult:
    windows = healthy_windows(
        given.machine,
        rate=encoder.sample_rate,
        window_samples=encoder.window_samples,
        hop_samples=round(given.preset.window.train_hop_seconds * encoder.sample_rate),
        roles=HEALTHY,
        clip_seconds=given.preset.window.clip_seconds,
        channel=given.channel,
        progress=given.progress,
    )
    return fit_autoencoder(
        encoder,
        torch.from_numpy(windows.waveforms),
        windows.rows,
        given.preset.training,
        machine=given.machine.name,
        seed=given.seed,
        progress=given.progress,
    )


_FITS: Mapping[str, Callable[[Encoder, _Given], FitResult]] = {
    "frozen": _frozen,
    "classify": _classify,
    "reconstruct": _reconstruct,
}


def _record(root: Path, recording: Recording) -> RecordingRecord:
    return RecordingRecord(
        path=recording.path.relative_to(root).as_posix(),
        role=recording.role,
        label=recording.label,
        section=recording.section,
        domain=recording.domain,
        attributes=recording.attributes,
    )
