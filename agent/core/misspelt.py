"""Tells a person which key they probably meant."""

from __future__ import annotations

import difflib
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from agent.core.schema import MOST_TOLD, explain, listed, place


def explain_with_nearest(fault: ValidationError, schema: type[BaseModel]) -> str:
    """Pydantic's findings in words, with the nearest known key for each unknown one.

    Args:
        fault: What validating against `schema` raised.
        schema: The schema of the whole file.
    """
    unknown = [error for error in fault.errors() if error["type"] == "extra_forbidden"]
    if not unknown:
        return explain(fault)
    # A misspelt key often makes others fail too ("field required"): tell the cause first.
    parts = []
    for error in unknown[:MOST_TOLD]:
        known = _keys(schema, error["loc"][:-1])
        name = f"{error['loc'][-1]!s:.60}"
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f", did you mean '{near[0]}'?" if near else f"; known are {', '.join(known)}"
        parts.append(f"{place(error['loc'])}: there is no such key{hint}")
    return listed(parts, len(unknown))


def _keys(schema: type[BaseModel], place: tuple[int | str, ...]) -> list[str]:
    """Field names of the model that stands at a place of the file."""
    models = [schema]
    for part in place:
        if isinstance(part, int):
            continue
        inner = [
            found
            for model in models
            if part in model.model_fields
            for found in _models(model.model_fields[part].annotation)
        ]
        # Not a field: the tag by which pydantic chose among the alternatives.
        models = inner or [model for model in models if _tag(model) == part] or models
    return sorted({name for model in models for name in model.model_fields})


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]


def _tag(model: type[BaseModel]) -> str | None:
    kind = model.model_fields.get("kind")
    return None if kind is None else next(iter(get_args(kind.annotation)), None)
