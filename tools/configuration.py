"""Writes docs/reference/configuration.md from the schema (`make docs`); `--check` compares."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, TypeAdapter
from pydantic_core import PydanticUndefined

from agent.config.agent import AgentConfig
from tools.pages import write_or_check

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "configuration.md"

_HEAD = """\
# Configuration of the agent

`auscult run --config agent.yaml`. A commented example is `configs/agent.yaml`; with `--check` the
command only verifies the configuration and its bundles.

A key that is not listed here is an error. Relative paths count from the folder of the configuration
file; `~` and `$VARIABLES` in paths are filled in. Durations are seconds.

This page is generated from the schema by `make docs`; change the descriptions there.
"""


def reference(schema: type[BaseModel], title: str) -> str:
    """Markdown tables of a schema and every schema below it, each once.

    Args:
        schema: The model of the whole file.
        title: Heading of the first table.
    """
    sections, seen, waiting = [], {schema}, [(title, schema)]
    while waiting:
        heading, model = waiting.pop(0)
        rows = ["| Key | Type | Default | Meaning |", "| --- | --- | --- | --- |"]
        for name, field in model.__pydantic_fields__.items():
            meaning = (field.description or "").replace("|", "\\|")
            rows.append(
                f"| `{name}` | {_type(model, name)} | {_default(field.get_default())} | {meaning} |"
            )
            for inner in models_of(field.annotation):
                if inner not in seen:
                    seen.add(inner)
                    waiting.append((f"{heading} / {name}{_kind(inner)}", inner))
        doc = inspect.cleandoc(model.__doc__ or "")
        sections.append(f"## {heading}\n\n{doc}\n\n" + "\n".join(rows) + "\n")
    return "\n".join(sections)


def _type(model: type[BaseModel], name: str) -> str:
    schema = TypeAdapter(model).json_schema()["properties"][name]
    return _words(schema).replace("|", "\\|")


def _words(schema: dict[str, Any]) -> str:
    """A JSON schema as a few words."""
    if "$ref" in schema:
        return "section"
    if options := schema.get("anyOf", schema.get("oneOf")):
        return " or ".join(dict.fromkeys(map(_words, options)))
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_words(schema.get('items', {}))}"
    limits = [
        f"{sign} {schema[key]:g}"
        for key, sign in (
            ("minimum", "≥"),
            ("exclusiveMinimum", ">"),
            ("maximum", "≤"),
            ("exclusiveMaximum", "<"),
        )
        if key in schema
    ]
    kind = "path" if schema.get("format") == "path" else schema.get("type", "any")
    return " ".join([str(kind), ", ".join(limits)]).strip()


def _default(value: Any) -> str:
    if value is PydanticUndefined:
        return "**required**"
    if isinstance(value, BaseModel):
        return "as below"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ", ".join(f"`{item}`" for item in value) or "none"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def models_of(annotation: Any) -> list[type[BaseModel]]:
    """The models that a field's type is made of."""
    if isinstance(annotation, type) and hasattr(annotation, "__pydantic_fields__"):
        return [annotation]
    return [model for part in get_args(annotation) for model in models_of(part)]


def _kind(model: type[BaseModel]) -> str:
    field = model.__pydantic_fields__.get("kind")
    names = () if field is None else get_args(field.annotation)
    return f" (`{names[0]}`)" if names else ""


def page() -> str:
    """The whole page."""
    return f"{_HEAD}\n{reference(AgentConfig, 'agent.yaml')}"


def main() -> None:
    """Write the page, or with `--check` tell whether it is stale."""
    write_or_check({PAGE: page()})


if __name__ == "__main__":
    main()
