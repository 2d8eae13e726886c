"""A preset made small: the same parts in the same places, minutes of work instead of days.

Published checkpoints cannot be had in a test, so transformers become their `tiny` size with random
values; what is trained from scratch, and mn04, keep their real architecture.
"""

from __future__ import annotations

from typing import Any

from export.reproduce.rehearse import scaled_layer, tiny_encoder
from trainer.members import assemble
from trainer.preset import Preset

SECONDS = 2.0


def shrunk(preset: Preset) -> Preset:
    """The preset with tiny transformers, few epochs and windows of two seconds."""
    data = preset.model_dump(mode="python")
    if preset.members:
        return _ensemble(preset, data)
    data["encoder"] = tiny_encoder(data["encoder"])
    training = data["training"]
    # Until it knows how loud the bands are, an autoencoder finds the louder sound the stranger.
    errors = training["kind"] == "reconstruct" and training["classification"] == 0
    epochs = 10 if errors else 1
    training |= {"epochs": epochs, "batch": 8, "accumulate": 1, "warmup_steps": 0}
    if training["keep_epochs"]:
        epochs = len(training["keep_epochs"])
        training |= {"epochs": epochs, "keep_epochs": tuple(range(1, epochs + 1))}
    if training["lora"]["first_blocks"]:
        training["lora"]["first_blocks"] = scaled_layer(training["lora"]["first_blocks"], 12)
    data["window"] = {
        "seconds": SECONDS,
        "hop_seconds": SECONDS,
        "train_hop_seconds": SECONDS,
    }
    if data["encoder"]["segments"] > 1:  # pieces of a second are the shortest that all take
        data["encoder"]["segments"] = data["scorer"]["frames"] = round(SECONDS)
    # Random values and one epoch: how far INT8 turns those says nothing of a trained encoder.
    data["quantization"] |= {"min_cosine": 0.8, "max_hmean_drop": 1.0}
    return Preset.model_validate(data)


def _ensemble(preset: Preset, data: dict[str, Any]) -> Preset:
    """The same members, each made small."""
    data["members"] = [
        member.model_dump(mode="json") | {"recipe": shrunk(member.recipe).model_dump(mode="json")}
        for member in preset.members
        if member.recipe is not None
    ]
    data["window"] = None
    data["quantization"] |= {"min_cosine": 0.8, "max_hmean_drop": 1.0}
    return Preset.model_validate(assemble(data, where=preset.name))
