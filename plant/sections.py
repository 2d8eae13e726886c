"""Which sections of PLANT.yaml which command reads: one file may say all of a plant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_LEARNING = frozenset({"out", "sign", "defaults", "machines", "rollout"})
_SERVING = frozenset({"database", "watch", "web"})


def of_learning(data: Mapping[str, Any]) -> dict[str, Any]:
    """Without what only `serve` reads."""
    return {name: value for name, value in data.items() if name not in _SERVING}


def of_serving(data: Mapping[str, Any]) -> dict[str, Any]:
    """Without what only `build` and `rollout` read."""
    return {name: value for name, value in data.items() if name not in _LEARNING}
