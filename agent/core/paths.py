"""Paths in the configuration: relative to its file, with `~` and `$VARIABLES` filled in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, TypeAlias

from pydantic import AfterValidator, ValidationInfo


def _resolve(value: str | Path, info: ValidationInfo) -> Path:
    """Relative paths count from the configuration file's folder; `~` and `$VARS` are filled in."""
    try:
        path = Path(os.path.expandvars(value)).expanduser()
    except RuntimeError as fault:
        raise ValueError("begins with `~` and no user of that name") from fault
    if "\0" in str(path):
        raise ValueError("holds a NUL character")
    base = (info.context or {}).get("base")
    return path if base is None else Path(base) / path


def resolve_all(value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
    return tuple(str(_resolve(path, info)) for path in value)


FilePath: TypeAlias = Annotated[Path, AfterValidator(_resolve)]
