"""Presets read by name, or from a file of the user's own; an ensemble with its members' presets."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from agent.core.errors import ConfigError
from agent.core.misspelt import explain_with_nearest
from agent.core.schema import explain_yaml
from trainer.members import assemble, read_member
from trainer.preset import Preset

# In a wheel the presets lie inside this package; in a checkout beside it.
_PLACES = (
    Path(__file__).parent / "configs" / "presets",
    Path(__file__).parent.parent / "configs" / "presets",
)
# What follows from the members, and is not given by the file.
_FOLLOWS = ("encoder", "training", "selection")


def preset_names() -> list[str]:
    """Names of the presets that come with auscult, sorted."""
    return sorted({path.stem for place in _PLACES for path in place.glob("*.yaml")})


def load_preset(name: str | Path) -> Preset:
    """Read a preset by name, or from a file of the user's own.

    Raises:
        ConfigError: It does not exist, or a field is wrong (which is named).
    """
    path = Path(name)
    if path.suffix not in {".yaml", ".yml"}:
        for place in _PLACES:
            if (place / f"{name}.yaml").is_file():
                path = place / f"{name}.yaml"
                break
        else:
            near = difflib.get_close_matches(str(name), preset_names(), n=1)
            hint = f", did you mean '{near[0]}'?" if near else ""
            raise ConfigError(
                f"there is no preset '{name}'{hint}",
                remedy=f"Choose one of {', '.join(preset_names())}, or give a .yaml file.",
            )
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as fault:
        raise ConfigError(
            f"cannot be read: {fault.strerror}",
            where=path,
            remedy="Give a preset's name, or a .yaml file.",
        ) from fault
    except (yaml.YAMLError, UnicodeDecodeError) as fault:
        raise ConfigError(
            f"is not YAML: {explain_yaml(fault)}",
            where=path,
            remedy="The presets in configs/presets are examples.",
        ) from fault
    if isinstance(data, dict) and data.get("members"):
        data = assemble(_with_recipes(data, path), where=path)
    try:
        return Preset.model_validate(data)
    except ValidationError as fault:
        raise ConfigError(
            explain_with_nearest(fault, Preset), where=path, remedy="See docs/reference/presets.md."
        ) from fault


def _with_recipes(data: dict[str, Any], where: Path) -> dict[str, Any]:
    """An ensemble's preset with each member's own preset beside its name."""
    for name in _FOLLOWS:
        if name in data and not all(m.get("recipe") for m in data["members"]):
            raise ConfigError(
                "follows from the members", where=f"{where} ({name})", remedy="Leave it out."
            )
    members = [read_member(given, where) for given in data["members"]]
    return data | {
        "members": [
            member
            if member.recipe is not None
            else member.model_copy(update={"recipe": load_preset(member.preset)})
            for member in members
        ]
    }
