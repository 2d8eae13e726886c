"""A rehearsal: a report's presets in minutes, to try data, disk and the whole path before days.

Transformers become their `tiny` size with random values, trainings a few epochs, windows two
seconds; what is trained from scratch keeps its architecture. Everything else is the preset's, and
everything that differs can be told (`shortenings`) and stands in the bundles.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.core.errors import ConfigError
from trainer.members import assemble
from trainer.preset import Preset
from trainer.synth.challenge import ChallengeCounts, write_challenge

# What every figure of a rehearsal is worth.
REMARK = (
    "a rehearsal with tiny encoders of random values and few epochs: its figures say nothing of "
    "the report's systems"
)
MADE_UP = ChallengeCounts(source=12, target=4, supplemental=3, test=4)
_SIZES = {
    "beats": "tiny",
    "eat": "tiny",
    "m2d": "tiny_80x608p16x16",
    "dasheng": "tiny",
    "muq": "tiny",
}
_TINY_LAYERS = 3
_LAYERS = {"06b": 32, "12b": 40, "large": 24}
_USUAL_LAYERS = 12
# Until it knows how loud the bands are, an autoencoder finds the louder sound the stranger.
_EPOCHS_OF_ERRORS = 10
# What follows from the members, or is words.
_UNTOLD = {"members", "report", "source", "summary"}
_FOLLOWS = {"encoder", "training", "scorer"}


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """How short.

    Attributes:
        epochs: Of a training; an autoencoder's are ten times as many.
        seconds: Length of a window.
        batch: Windows a step, at most.
    """

    epochs: int = 2
    seconds: float = 2.0
    batch: int = 8


def rehearsed(preset: Preset, rehearsal: Rehearsal) -> Preset:
    """The preset made short.

    Args:
        preset: As the report has it.
        rehearsal: How short.
    """
    data = preset.model_dump(mode="json")
    # Random values and few epochs: how far INT8 turns those says nothing of a trained encoder.
    data["quantization"] |= {"min_cosine": 0.8, "max_hmean_drop": 1.0}
    if data["report"] is not None:
        data["report"]["deviations"].insert(0, REMARK[0].upper() + REMARK[1:] + ".")
    if preset.members:
        data["members"] = [
            member.model_dump(mode="json")
            | {"recipe": rehearsed(member.recipe, rehearsal).model_dump(mode="json")}
            for member in preset.members
            if member.recipe is not None
        ]
        data["window"] = None
        return Preset.model_validate(assemble(data, where=preset.name))
    data["encoder"] = tiny_encoder(data["encoder"])
    if preset.training.kind != "frozen":
        _shorten(data["training"], rehearsal)
    clip = None if data["window"]["clip_seconds"] is None else rehearsal.seconds
    data["window"] = {
        "seconds": rehearsal.seconds,
        "hop_seconds": rehearsal.seconds,
        "train_hop_seconds": rehearsal.seconds,
        "clip_seconds": clip,
    }
    if data["encoder"]["segments"] > 1:  # pieces of a second are the shortest that all take
        data["encoder"]["segments"] = data["scorer"]["frames"] = round(rehearsal.seconds)
    return Preset.model_validate(data)


def _shorten(training: dict[str, Any], rehearsal: Rehearsal) -> None:
    errors = training["kind"] == "reconstruct" and training["classification"] == 0
    epochs = min(training["epochs"], rehearsal.epochs * (_EPOCHS_OF_ERRORS if errors else 1))
    if training["keep_epochs"]:
        count = len(training["keep_epochs"])
        epochs = max(epochs, count)
        training["keep_epochs"] = tuple(range(epochs - count + 1, epochs + 1))
    training |= {
        "epochs": epochs,
        "batch": min(rehearsal.batch, training["batch"]),
        "accumulate": 1,
        "warmup_steps": 0,
    }
    blocks = training["lora"]["first_blocks"]
    if blocks:
        training["lora"]["first_blocks"] = scaled_layer(blocks, _USUAL_LAYERS)


def tiny_encoder(encoder: dict[str, Any]) -> dict[str, Any]:
    """An encoder section whose transformers are tiny and need no checkpoint."""
    if encoder["parts"]:
        return encoder | {"parts": [tiny_encoder(part) for part in encoder["parts"]]}
    if encoder["kind"] not in _SIZES:
        return encoder
    depth = _LAYERS.get(encoder["size"], _USUAL_LAYERS)
    return encoder | {
        "size": _SIZES[encoder["kind"]],
        "weights": None,
        "layers": sorted({scaled_layer(layer, depth) for layer in encoder["layers"]}),
    }


def scaled_layer(layer: int, depth: int) -> int:
    """The layer of a tiny encoder that stands for one of a deep one, from 1."""
    return math.ceil(layer * _TINY_LAYERS / depth)


def shortenings(pairs: Sequence[tuple[Preset, Preset]]) -> list[str]:
    """Every setting that a rehearsal has otherwise, a line each, with the presets it is of.

    Args:
        pairs: Each preset as the report has it, and as it is rehearsed.
    """
    found: dict[str, list[str]] = {}
    for before, after in pairs:
        old, new = before.model_dump(mode="json"), after.model_dump(mode="json")
        left_out = _UNTOLD | (_FOLLOWS if before.members else set())
        for key in old.keys() - left_out:
            for path, one, other in _differences(key, old[key], new[key]):
                found.setdefault(f"{path}: {_shown(one)} -> {_shown(other)}", []).append(
                    before.name
                )
    return [
        f"{text} ({'all' if len(names) == len(pairs) else ', '.join(names)})"
        for text, names in sorted(found.items())
    ]


def _differences(path: str, old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in old:
            yield from _differences(f"{path}.{key}", old[key], new.get(key))
    elif _sections(old) and _sections(new):
        alike: dict[tuple[str, str, str], None] = {}
        for one, other in zip(old, new, strict=True):
            for inner, before, after in _differences("", one, other):
                # Parts that change alike are told once.
                key = (inner, _shown(before), _shown(after))
                if key not in alike:
                    alike[key] = None
                    yield f"{path}{inner}", before, after
    elif old != new:
        yield path, old, new


def _sections(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], Mapping)


def _shown(value: Any) -> str:
    if isinstance(value, list) and len(value) > 3 and value == [*range(value[0], value[-1] + 1)]:
        return f"[{value[0]} to {value[-1]}]"
    return "none" if value is None else str(value) or "the usual"


def make_up(folder: Path, rehearsal: Rehearsal) -> bool:
    """Write a made-up set in the challenge's layout, whole or not at all.

    Args:
        folder: Where; one that is there already is left as it is.
        rehearsal: Its recordings are as long as the windows.

    Returns:
        Whether it was written now.

    Raises:
        ConfigError: It cannot be written.
    """
    if folder.exists():
        return False
    begun = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(begun, ignore_errors=True)  # cut off
    try:
        write_challenge(begun, counts=MADE_UP, seconds=rehearsal.seconds)
        begun.rename(folder)
    except OSError as fault:
        raise ConfigError(
            f"no made-up set can be written: {fault.strerror or fault}",
            where=folder,
            remedy="Name a folder that can be written to.",
        ) from fault
    return True
