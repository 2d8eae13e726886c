"""Which preset is taken when none is named, and which checkpoints a preset waits for."""

from __future__ import annotations

from pathlib import Path

from trainer.preset import Preset
from trainer.preset_file import load_preset

# Without --preset: the better one where its checkpoint is there. Both were chosen by measurement.
DEFAULT, DEFAULT_WITH_WEIGHTS = "auscult_scratch", "auscult_small"
# Ours too, but never judged, so only for who asks for it by name.
BY_NAME = "auscult"


def needed_weights(preset: Preset) -> list[str]:
    """Checkpoint files that a preset needs, also for its candidates; each once, sorted."""
    parts = [*preset.encoder.each]
    if preset.selection is not None:
        parts += [part for encoder in preset.selection.encoders for part in encoder.each]
    return sorted({part.weights for part in parts if part.weights})


def absent_weights(preset: Preset, weights: Path | None) -> list[str]:
    """Checkpoint files that a preset needs and that are not there.

    Args:
        preset: The preset.
        weights: Folder of pre-trained checkpoints, or a file; None when none was named.
    """
    needed = needed_weights(preset)
    if weights is None:
        return needed
    if weights.is_dir():
        return [name for name in needed if not (weights / name).is_file()]
    return [name for name in needed if name != weights.name or not weights.is_file()]


def default_preset(weights: Path | None) -> tuple[str, str]:
    """The preset for who names none, and why it is that.

    Args:
        weights: Folder of pre-trained checkpoints, or a file; None when none was named.
    """
    better, large = load_preset(DEFAULT_WITH_WEIGHTS), load_preset(BY_NAME)
    names, absent = needed_weights(better), absent_weights(better, weights)
    aside = ""
    if weights is not None and not absent_weights(large, weights):
        there = ", ".join(needed_weights(large))
        aside = f"; {there} is there for --preset {BY_NAME}, which nobody has judged yet"
    if not absent:
        return better.name, f"{', '.join(names)} is there{aside}"
    if weights is None:
        return DEFAULT, f"no --weights; with {', '.join(names)} there it would be {better.name}"
    return DEFAULT, f"no {', '.join(absent)} in {weights}, which {better.name} needs{aside}"
