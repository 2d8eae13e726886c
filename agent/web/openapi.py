"""The description of the API (OpenAPI 3.1), made from the very models that check and answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from agent import __version__
from agent.core.same_origin import HEADER
from agent.web.endpoint import Endpoint
from agent.web.guard import COOKIE
from agent.web.models import Problem

_REF = "#/components/schemas/{model}"
# What the names in paths are.
_PLACES = {
    "machine": "Name of the machine",
    "alarm": "The alarm's id",
    "index": "The neighbour's",
    "session": "Name of the session",
    "file": "Its file",
}
_NAME = re.compile(r"\{(\w+)\}")


def describe(
    endpoints: Sequence[Endpoint], extra: Sequence[type[BaseModel]] = ()
) -> dict[str, Any]:
    """The whole description.

    Args:
        endpoints: The operations.
        extra: Models that are told of beside theirs.
    """
    models: dict[type[BaseModel], Any] = {Problem: "serialization"}
    for one in endpoints:
        if isinstance(one.answer, type):
            models.setdefault(one.answer, "serialization")
        if one.body is not None:
            models.setdefault(one.body, "validation")
    for model in extra:
        models.setdefault(model, "serialization")
    references, schemas = models_json_schema(list(models.items()), ref_template=_REF)
    by_model: dict[Any, Any] = {model: found for (model, _), found in references.items()}
    paths: dict[str, dict[str, Any]] = {}
    for one in endpoints:
        paths.setdefault(f"/api{one.path}", {})[one.method.lower()] = _operation(one, by_model)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "auscult: the device's own page",
            "version": __version__,
            "description": "Payloads are those of MQTT (docs/reference/mqtt.md). Whatever changes "
            f"something needs the header `{HEADER}: 1`.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {
                "session": {"type": "apiKey", "in": "cookie", "name": COOKIE},
            },
        },
        "security": [{"session": []}, {}],
    }


def _operation(one: Endpoint, by_model: dict[Any, Any]) -> dict[str, Any]:
    if isinstance(one.answer, str):
        content: dict[str, Any] = {one.answer: {}}
    else:
        content = {"application/json": {"schema": by_model[one.answer]}}
    operation: dict[str, Any] = {
        "summary": one.summary,
        "x-role": one.role.word,
        "parameters": [*_path(one), *_query(one), *_header(one)],
        "responses": {
            "200": {"description": one.summary, "content": content},
            "default": {
                "description": "Why not",
                "content": {"application/json": {"schema": by_model[Problem]}},
            },
        },
    }
    if one.body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": by_model[one.body]}},
        }
    return operation


def _path(one: Endpoint) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": _PLACES[name],
            "schema": {"type": "string"},
        }
        for name in _NAME.findall(one.path)
    ]


def _query(one: Endpoint) -> list[dict[str, Any]]:
    if one.query is None:
        return []
    schema = one.query.model_json_schema()
    wanted = set(schema.get("required", ()))
    return [
        {
            "name": name,
            "in": "query",
            "required": name in wanted,
            "description": part.pop("description", ""),
            "schema": part,
        }
        for name, part in schema["properties"].items()
    ]


def _header(one: Endpoint) -> list[dict[str, Any]]:
    if one.method == "GET":
        return []
    return [{"name": HEADER, "in": "header", "required": True, "schema": {"const": "1"}}]
