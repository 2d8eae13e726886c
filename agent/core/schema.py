"""The base of every YAML and JSON schema here, and how its findings are told to a person."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from agent.core.errors import AuscultError

Model = TypeVar("Model", bound=BaseModel)

# What is wrong with a file of another kind altogether would fill pages.
MOST_TOLD = 20
# Of a JSON file; the largest that is written here is a drift baseline, of some megabytes.
_MOST_BYTES = 64 << 20
_SHORT = reprlib.Repr()
_SHORT.maxlevel = 2
_SHORT.maxstring = _SHORT.maxother = 60
_SPELT: dict[str, str] = {}
# Where pydantic speaks of Python, or of patterns.
_PLAIN = {
    "missing": "is missing",
    "extra_forbidden": "there is no such field",
    "model_type": "should be names with values",
    "model_attributes_type": "should be names with values",
    "dict_type": "should be names with values",
    "tuple_type": "should be a list",
    "list_type": "should be a list",
    "string_type": "should be text",
    "path_type": "should be a path",
    "float_type": "should be a number",
    "float_parsing": "should be a number",
    "int_type": "should be a whole number",
    "int_parsing": "should be a whole number",
    "int_from_float": "should be a whole number",
    "bool_type": "should be true or false",
    "bool_parsing": "should be true or false",
    "union_tag_not_found": "should have a `kind`",
}
_SUBJECT = re.compile(r"^(Input|String|Tuple|List|Value|Data) should")


class Strict(BaseModel):
    """Unknown keys are errors: a misspelt field must not be silently ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def spelt(pattern: str, words: str) -> str:
    """A pattern for a `Field`, and how `explain` puts it to people, who don't read patterns.

    Args:
        pattern: The regular expression.
        words: What it asks for, as it ends a sentence: `should be ...`.

    Returns:
        The pattern.

    Raises:
        ValueError: It is put in other words elsewhere: which are told would hang on what is loaded.
    """
    if _SPELT.setdefault(pattern, words) != words:
        raise ValueError(f"{pattern} is spelt twice: {words!r}, and {_SPELT[pattern]!r}")
    return pattern


def read_model(
    path: Path, model: type[Model], *, error: type[AuscultError] = AuscultError, remedy: str = ""
) -> Model:
    """What a JSON file holds.

    Args:
        path: The file.
        model: What it should hold.
        error: What is raised when it does not.
        remedy: What to do then.

    Raises:
        AuscultError: It cannot be read, is far too large, or a field is wrong (which is named).
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise error("is far too large", where=path, remedy=remedy)
        return model.model_validate_json(data)
    except OSError as fault:
        raise error(f"cannot be read: {fault.strerror}", where=path, remedy=remedy) from fault
    except ValidationError as fault:
        raise error(explain(fault), where=path, remedy=remedy) from fault


def explain(fault: ValidationError, *, whole: str = "the whole file") -> str:
    """Pydantic's findings, one field after another: `training.epochs: should be ... (got 0)`.

    Args:
        fault: What pydantic raised.
        whole: What was validated, for findings of no one field.
    """
    errors = _causes(fault.errors())
    parts = [_finding(error, whole) for error in errors[:MOST_TOLD]]
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


def _finding(error: ErrorDetails, whole: str) -> str:
    said = _said(error)
    if error["type"] == "value_error" and isinstance(error["input"], Mapping):
        # Of several fields together: our own sentence names them.
        return f"{place(error['loc'])}: {said}" if error["loc"] else said
    return f"{place(error['loc'], whole)}: {said} (got {_short(error['input'])})"


def explain_yaml(fault: Exception) -> str:
    """Where YAML cannot be read and why, in one line."""
    mark = getattr(fault, "problem_mark", None)
    if mark is None:
        return str(fault) if isinstance(fault, yaml.YAMLError | ValueError) else repr(fault)
    return f"line {mark.line + 1}, column {mark.column + 1}: {getattr(fault, 'problem', '')}"


def _said(error: ErrorDetails) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "string_pattern_mismatch":
        return f"should be {_SPELT.get(context['pattern'], 'written as its description says')}"
    if kind == "union_tag_invalid":
        return f"kind should be one of {context['expected_tags']}"
    if kind in _PLAIN:
        return _PLAIN[kind]
    return _SUBJECT.sub("should", error["msg"]).removeprefix("Value error, ")


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
