"""The base of every YAML and JSON schema here, and how its findings are told to a person."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

# What is wrong with a file of another kind altogether would fill pages.
MOST_TOLD = 20
_SHORT = reprlib.Repr()
_SHORT.maxlevel = 2
_SHORT.maxstring = _SHORT.maxother = 60


class Strict(BaseModel):
    """Unknown keys are errors: a misspelt field must not be silently ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def explain(fault: ValidationError, *, whole: str = "the whole file") -> str:
    """Pydantic's findings, one field after another: `training.epochs: should be ... (got 0)`.

    Args:
        fault: What pydantic raised.
        whole: What was validated, for findings of no one field.
    """
    errors = _causes(fault.errors())
    parts = [
        f"{place(error['loc'], whole)}: {error['msg'].removeprefix('Value error, ')} "
        f"(got {_short(error['input'])})"
        for error in errors[:MOST_TOLD]
    ]
    return listed(parts, len(errors))


def _causes(errors: Sequence[ErrorDetails]) -> list[ErrorDetails]:
    """Without lists called too short only because pydantic set their faulty entries aside."""
    return [
        error
        for error in errors
        if error["type"] != "too_short"
        or not any(
            other["loc"][: len(error["loc"])] == error["loc"]
            for other in errors
            if len(other["loc"]) > len(error["loc"])
        )
    ]


def place(loc: tuple[int | str, ...], whole: str = "the whole file") -> str:
    """Where a finding is, as people write it: `machines.0.name`."""
    return ".".join(f"{part!s:.60}" for part in loc) or whole


def listed(parts: list[str], number: int) -> str:
    """Findings one after another, and how many more there are."""
    more = number - len(parts)
    return "; ".join([*parts, *([f"and {more} more like these"] if more else [])])


def _short(value: Any) -> str:
    """The beginning of its `repr`, without making all of it: YAML's aliases can mean gigabytes."""
    try:
        return f"{_SHORT.repr(value):.60}"
    except ValueError:  # a number of more digits than Python writes
        return f"a {type(value).__name__}"
