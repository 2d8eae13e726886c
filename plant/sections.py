"""PLANT.yaml as it is read, and which sections of it which command takes: one file may say all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from agent.core.errors import ConfigError
from agent.core.schema import explain_yaml

_MOST_BYTES = 16 * 2**20

_LEARNING = frozenset({"out", "sign", "defaults", "machines", "rollout"})
_SERVING = frozenset({"database", "watch", "web"})


def of_learning(data: Mapping[str, Any]) -> dict[str, Any]:
    """Without what only `serve` reads."""
    return {name: value for name, value in data.items() if name not in _SERVING}


def of_serving(data: Mapping[str, Any]) -> dict[str, Any]:
    """Without what only `build` and `rollout` read."""
    return {name: value for name, value in data.items() if name not in _LEARNING}


def read_sections(path: Path, remedy: str) -> dict[str, Any]:
    """Every section, not validated.

    Args:
        path: The file.
        remedy: What to do when it is none.

    Raises:
        ConfigError: It cannot be read, is far too long, empty, or no YAML of names and values.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ConfigError("is too long to be a PLANT.yaml", where=path, remedy=remedy)
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as fault:
        raise ConfigError(f"cannot be read: {fault.strerror}", where=path, remedy=remedy) from fault
    except (yaml.YAMLError, ValueError, RecursionError) as fault:
        problem = f"is not YAML: {explain_yaml(fault)}"
        raise ConfigError(problem, where=path, remedy=remedy) from fault
    if not isinstance(data, dict):
        problem = "is empty" if data is None else "should be names with values"
        raise ConfigError(problem, where=path, remedy=remedy)
    return data
