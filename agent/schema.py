"""The base of every YAML and JSON schema here, and how its findings are told to a person."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, ValidationError


class Strict(BaseModel):
    """Unknown keys are errors: a misspelt field must not be silently ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def explain(fault: ValidationError) -> str:
    """Pydantic's findings, one field after another: `training.epochs: should be ... (got 0)`."""
    parts = []
    for error in fault.errors():
        field = ".".join(str(part) for part in error["loc"]) or "the whole file"
        parts.append(f"{field}: {error['msg']} (got {error['input']!r:.60})")
    return "; ".join(parts)
