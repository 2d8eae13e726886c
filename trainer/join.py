"""From the runs of an ensemble's members to one run, whose encoder holds all their models."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path

from torch import nn

from agent.config.scorer import FusionConfig
from agent.core.errors import ConfigError
from agent.score.fusion import check_columns
from trainer.encoders.base import Encoder, placed
from trainer.encoders.joined import Joined, Part
from trainer.encoders.registry import build_encoder
from trainer.members import places
from trainer.preset import Preset
from trainer.run import RunRecord, load_run, save_run
from trainer.zoo.encoder import PretrainedEncoder


def join_runs(preset: Preset, runs: Mapping[str, Path], out: Path, *, seed: int) -> RunRecord:
    """Write the run of an ensemble.

    Args:
        preset: The ensemble's preset.
        runs: The finished run of each of `members.recipes`, by name, all of one machine.
        out: Run folder to write.
        seed: Of the record.

    Returns:
        The record, as written to `run.json`; classes and losses are those of the first member that
        has been trained.

    Raises:
        ConfigError: A run cannot be read or is of another model than the preset says.
    """
    encoder = build_encoder(
        preset.encoder.without_weights(),
        window_seconds=preset.window.seconds,
        weights=None,
        seed=seed,
    )
    assert isinstance(encoder, Joined)
    parts = [part for part in encoder.parts if isinstance(part, Part)]
    records: list[RunRecord] = []
    for name, place in places(preset).items():
        record, member = load_run(runs[name])
        records.append(record)
        try:
            for number, source in zip(place, _models(member), strict=True):
                _fill(parts[number].encoder, source)
        except RuntimeError as fault:
            raise ConfigError(
                f"is of another model than {preset.name} asks for: {fault}",
                where=runs[name],
                remedy="Train it again.",
            ) from fault
    preset = preset.model_copy(update={"scorer": placed(preset.scorer, encoder)})
    if isinstance(preset.scorer, FusionConfig):
        check_columns(preset.scorer, encoder.dim)
    trained = next((record for record in records if record.losses), records[0])
    record = trained.model_copy(
        update={
            "preset": preset,
            "seed": seed,
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "seconds": math.fsum(one.seconds for one in records),
        }
    )
    save_run(out, record, encoder.eval())
    return record


def _models(member: Encoder) -> list[Encoder]:
    if not isinstance(member, Joined):
        return [member]
    return [part.encoder for part in member.parts if isinstance(part, Part)]


def _fill(target: nn.Module, source: nn.Module) -> None:
    """Copy a model's values; where only its last layer is kept, that one's pooling."""
    if not isinstance(target, PretrainedEncoder) or not isinstance(source, PretrainedEncoder):
        target.load_state_dict(source.state_dict())
        return
    target.backbone.load_state_dict(source.backbone.state_dict())
    pairs = zip(reversed(target.poolings), reversed(source.poolings), strict=False)
    for pooling, learnt in pairs:
        pooling.load_state_dict(learnt.state_dict())
    target.has_values = source.has_values
