"""A run folder: what training leaves behind and export takes up.

run.json              the record: preset, seed, recordings, losses
encoder.safetensors   the encoder's weights
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from agent.core.errors import ConfigError
from agent.core.schema import Strict, read_model
from agent.core.text import local_time
from agent.hygiene.record import HygieneRecord
from agent.recordings.model import Machine, Recording
from trainer.encoders.base import Encoder
from trainer.encoders.registry import build_encoder
from trainer.preset import Preset
from trainer.selection.record import SelectionRecord

RUN = "run.json"
WEIGHTS = "encoder.safetensors"


class RecordingRecord(Strict):
    """One recording as the run knew it."""

    path: Annotated[str, Field(description="File, relative to the data folder")]
    role: Annotated[str, Field(description="normal, idle, noise, clean or test")]
    label: Annotated[str | None, Field(description="normal or anomaly of a test file")] = None
    section: Annotated[str, Field(description="DCASE section")] = ""
    domain: Annotated[str, Field(description="source, target or unknown")] = "unknown"
    attributes: Annotated[dict[str, str], Field(description="Operating conditions")] = {}


class RunRecord(Strict):
    """`run.json`."""

    auscult_version: Annotated[str, Field(description="auscult that trained it")]
    created: Annotated[str, Field(description="When, ISO 8601 UTC")]
    machine: Annotated[str, Field(description="Machine it was trained for")]
    root: Annotated[str, Field(description="Folder the recordings were read from")]
    preset: Annotated[Preset, Field(description="The whole recipe")]
    seed: Annotated[int, Field(description="Random seed")]
    channel: Annotated[int | None, Field(description="Channel read; null for the average")] = None
    hygiene: Annotated[
        HygieneRecord | None,
        Field(description="What was found of the recordings before; null in older runs"),
    ] = None
    recordings: Annotated[tuple[RecordingRecord, ...], Field(description="Recordings in use")]
    rejected: Annotated[dict[str, str], Field(description="Files left out, and why")] = {}
    classes: Annotated[int, Field(ge=0, description="Classes told apart; 0 when frozen")] = 0
    class_rule: Annotated[str, Field(description="What the classes were, in words")] = ""
    losses: Annotated[tuple[float, ...], Field(description="Mean loss of each epoch")] = ()
    held_losses: Annotated[
        tuple[float, ...], Field(description="Loss of the held-out recordings after each epoch")
    ] = ()
    held_out: Annotated[
        tuple[str, ...], Field(description="Training recordings whose loss was only watched")
    ] = ()
    best_epochs: Annotated[
        tuple[int, ...],
        Field(description="Epoch whose weights each model kept; empty for the last"),
    ] = ()
    selection: Annotated[
        SelectionRecord | None,
        Field(description="How encoder and scorer were chosen; null without a selection"),
    ] = None
    seconds: Annotated[float, Field(ge=0, description="Time training took, seconds")] = 0.0
    kind: Literal["auscult-run"] = "auscult-run"

    def to_machine(self, root: Path | None = None) -> Machine:
        """The recordings as a machine again, read from `root` when they have moved.

        Raises:
            ConfigError: A recording is gone.
        """
        base = root or Path(self.root)
        if not base.is_dir():
            raise ConfigError(
                "is a file, where the recordings' folder is wanted"
                if base.exists()
                else "the recordings' folder does not exist",
                where=base,
                remedy="Put it back, or say where it is now with --data.",
            )
        found = tuple(
            Recording(
                path=base / r.path,
                machine=self.machine,
                role=r.role,
                label=r.label,
                section=r.section,
                domain=r.domain,
                attributes=r.attributes,
            )
            for r in self.recordings
        )
        missing = [r.path for r in found if not r.path.is_file()]
        if missing:
            raise ConfigError(
                f"{len(missing)} of the {len(found)} recordings that this run knows (healthy, "
                "idle, noise and test ones) are gone",
                where=missing[0],
                remedy="Put them back, or say where they are now with --data.",
            )
        return Machine(self.machine, base, found)


def refuse_present(folder: Path, interrupted: str, *, resume: bool) -> None:
    """Refuse to train over what an earlier training left.

    Args:
        folder: The run folder.
        interrupted: Name of the folder in it that an interrupted training leaves.
        resume: Going on with that is what is wanted.

    Raises:
        ConfigError: It holds a run, or an interrupted training that nobody asked to go on with.
    """
    if (folder / interrupted).is_dir():
        if not resume:
            raise ConfigError(
                "holds an interrupted training",
                where=folder,
                remedy="Go on with it with --resume, begin anew with --force, or give another "
                "--out.",
            )
    elif (folder / RUN).is_file():
        if resume:
            raise ConfigError(
                "is a finished run, so there is nothing to go on with",
                where=folder,
                remedy="Export it, or train anew with --force.",
            )
        raise ConfigError(
            f"holds a run already{_about(folder)}",
            where=folder,
            remedy="Give another --out, or replace it with --force.",
        )


def _about(folder: Path) -> str:
    """What a run folder holds, in brackets; empty when it cannot be read."""
    try:
        record = load_record(folder)
    except ConfigError:
        return ""
    return f" ({record.machine} with {record.preset.name}, {local_time(record.created)})"


def prepare_run(folder: Path) -> None:
    """Make a run folder, before hours of training whose result it could not take.

    Raises:
        ConfigError: It cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as fault:
        raise ConfigError(
            f"cannot be written to: {fault.strerror}",
            where=folder,
            remedy="Give a folder of yours as the run folder (--out).",
        ) from fault


def save_run(folder: Path, record: RunRecord, encoder: Encoder) -> None:
    """Write a run folder; `run.json` last, so that a folder which has it is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RUN).unlink(missing_ok=True)
    # It may be a link to another run's, which must stay as it is.
    (folder / WEIGHTS).unlink(missing_ok=True)
    tensors = {name: tensor.contiguous() for name, tensor in encoder.state_dict().items()}
    save_file(tensors, folder / WEIGHTS)
    _write(folder, record)


def link_run(run: Path, record: RunRecord, folder: Path) -> None:
    """Write a run folder with another record and the weights of a run that stays as it is.

    The weights are one file in two places where the file system can do that, else a copy.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RUN).unlink(missing_ok=True)
    (folder / WEIGHTS).unlink(missing_ok=True)
    try:
        (folder / WEIGHTS).hardlink_to(run / WEIGHTS)
    except OSError:
        shutil.copyfile(run / WEIGHTS, folder / WEIGHTS)
    _write(folder, record)


def _write(folder: Path, record: RunRecord) -> None:
    part = folder / (RUN + ".part")
    part.write_text(record.model_dump_json(indent=1), encoding="utf-8")
    part.replace(folder / RUN)


def load_record(folder: Path) -> RunRecord:
    """Read `run.json`.

    Raises:
        ConfigError: It is missing, unreadable, or of another version.
    """
    path = folder / RUN
    if not path.is_file():
        raise ConfigError(
            "is not a finished run" if folder.exists() else "does not exist",
            where=folder,
            remedy="Give the folder that `auscult train ... --out RUN` wrote.",
        )
    return read_model(path, RunRecord, error=ConfigError, remedy="Train again.")


def load_run(folder: Path) -> tuple[RunRecord, Encoder]:
    """Read a run folder: the record, and the encoder with its trained weights, in eval mode.

    Raises:
        ConfigError: A file is missing or does not fit the record.
    """
    record = load_record(folder)
    preset = record.preset
    encoder = build_encoder(
        preset.encoder.without_weights(),
        window_seconds=preset.window.seconds,
        weights=None,
        seed=record.seed,
        members=preset.training.ensemble,
    )
    try:
        tensors = load_file(folder / WEIGHTS)
        encoder.load_state_dict(tensors)
    except (OSError, SafetensorError, RuntimeError) as fault:
        raise ConfigError(
            f"cannot be loaded: {fault}", where=folder / WEIGHTS, remedy="Train again."
        ) from fault
    return record, encoder.eval()


def unheard(record: RunRecord) -> frozenset[str]:
    """Recordings that an autoencoder has not learnt to restore, when some were held out."""
    if record.preset.training.kind != "reconstruct":
        return frozenset()
    return frozenset(name.removeprefix(f"{record.machine}/") for name in record.held_out)
