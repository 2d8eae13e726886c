"""From a fusion of finished scores to the preset of a detector that fuses on the device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

from agent.config.scorer import FusionConfig
from agent.config.scorer_knn import KnnConfig
from trainer.encoder_config import EncoderConfig
from trainer.fusion.fuse import Fused
from trainer.preset import Preset
from trainer.preset_file import load_preset, preset_names


@dataclass(frozen=True, slots=True)
class Recipe:
    """Sections of a preset.

    Attributes:
        text: YAML: `scorer`, and `encoder` where every system is a preset of a single encoder;
            empty where no preset can fuse so.
        notes: What to know before pasting it.
    """

    text: str
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Member:
    """A system with a say in the fusion; its preset, when its name is one's."""

    name: str
    weight: float
    preset: Preset | None


def recipe(fused: Fused) -> Recipe:
    """The preset sections that make a device fuse as `fused` does.

    Systems without weight are left out. The device normalises windows, and `fused` whole
    recordings: with recordings of one window that is the same, with longer ones nearly so.
    """
    if fused.offline:
        return Recipe("", ())
    weights = [1.0] * len(fused.systems) if fused.weights is None else fused.weights.tolist()
    everyone = [
        _Member(system.name, round(weight, 6), _preset(system.name))
        for system, weight in zip(fused.systems, weights, strict=True)
    ]
    members = [member for member in everyone if member.weight > 0]
    notes = [f"{m.name} has no weight and is left out" for m in everyone if m.weight <= 0]
    fusions = [m.name for m in members if m.preset and isinstance(m.preset.scorer, FusionConfig)]
    if fusions:
        notes.append(f"no preset can fuse so: {', '.join(fusions)} is a fusion already")
        return Recipe("", tuple(notes))
    if len(members) == 1:
        notes.append(f"only {members[0].name} is left: use it as it is")
        return Recipe("", tuple(notes))
    unknown = [member.name for member in members if member.preset is None]
    if unknown:
        notes.append(
            f"{', '.join(unknown)}: no preset of that name, so write its encoder into "
            "`encoder.parts` and its scorer in the place of the knn below"
        )
    joined = [m.name for m in members if m.preset and m.preset.encoder.kind == "joined"]
    if joined:
        notes.append(
            f"{', '.join(joined)}: several encoders already; write its parts into `encoder.parts`, "
            "and the `columns` of all of them in the place of `encoder` below"
        )
    if len({m.preset.training.model_dump_json() for m in members if m.preset}) > 1:
        notes.append(
            "the systems are trained differently, and a preset has one `training` section: with "
            "together: false it trains each part by itself"
        )
    return Recipe(_text(fused, members), tuple(notes))


def _preset(name: str) -> Preset | None:
    # `auscult evaluate` adds arithmetic and seed: mn04__int8, dual_path/seed_1.
    bare = name.partition("/")[0].partition("__")[0]
    return load_preset(bare) if bare in preset_names() else None


def _text(fused: Fused, members: list[_Member]) -> str:
    encoders: list[EncoderConfig] = []
    parts = []
    for place, member in enumerate(members):
        scorer = member.preset.scorer if member.preset else KnnConfig()
        judged = place
        if member.preset is not None:
            # One encoder that two systems judge is computed once.
            if member.preset.encoder not in encoders:
                encoders.append(member.preset.encoder)
            judged = encoders.index(member.preset.encoder)
        said = {"kind": scorer.kind} | scorer.model_dump(mode="json", exclude_defaults=True)
        parts.append({"encoder": judged, "weight": member.weight, "scorer": said})
    found: dict[str, Any] = {}
    if all(m.preset is not None and m.preset.encoder.kind != "joined" for m in members):
        given = [encoder.model_dump(mode="json", exclude_defaults=True) for encoder in encoders]
        alone = len(given) == 1
        joined = {"kind": "joined", "together": False, "parts": given}
        found["encoder"] = given[0] if alone else joined
    else:
        for place, part in enumerate(parts):
            part["encoder"] = place
    scorer_section: dict[str, Any] = {"kind": "fusion", "combine": fused.method}
    if fused.normalize is not None:
        scorer_section["normalize"] = fused.normalize
    found["scorer"] = scorer_section | {"parts": parts}
    text: str = yaml.safe_dump(found, sort_keys=False, default_flow_style=None, width=100)
    return text
