"""Writes docs/reference/api.md from the page's own operations (`make docs`); `--check` compares."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import MagicMock

from pydantic import BaseModel

from agent.core.same_origin import HEADER
from agent.web.app import endpoints_of
from agent.web.endpoint import Endpoint
from agent.web.guard import Sessions
from tools.configuration import reference
from tools.pages import write_or_check

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "api.md"

_HEAD = f"""\
# API of the device's page

Served beside the page ([web.md](../guide/web.md)); `/api/openapi.json` describes it for programs,
and `GET /api/stream` sends what happens as server-sent events. Whatever changes something needs the
header `{HEADER}: 1` and a JSON body. Payloads are those of MQTT ([mqtt.md](mqtt.md)).

This page is generated from the operations by `make docs`.

Least role: a viewer reads, an operator works with alarms, an admin changes what judges
([web.md](../guide/web.md#who-may-do-what)); without a password, everybody is an admin.

| Operation | What it does | Least role | Takes | Answers |
| --- | --- | --- | --- | --- |
"""


def operations() -> list[Endpoint]:
    """Every operation, without an agent behind them."""
    return list(endpoints_of(MagicMock(), Sessions(None, 1.0)))


def _takes(one: Endpoint) -> str:
    parts = [f"[`{one.body.__name__}`](#{one.body.__name__.lower()})"] if one.body else []
    if one.query is not None:
        parts.append("?" + ", ".join(f"`{name}`" for name in one.query.model_fields))
    return " ".join(parts)


def page() -> str:
    """The whole page."""
    rows, bodies = [], dict[str, type[BaseModel]]()
    for one in operations():
        answer = one.answer if isinstance(one.answer, str) else one.answer.__name__
        first = one.summary.splitlines()[0]
        rows.append(
            f"| `{one.method} /api{one.path}` | {first} | {one.role.word} | {_takes(one)} "
            f"| `{answer}` |"
        )
        if one.body is not None:
            bodies.setdefault(one.body.__name__, one.body)
    tables = [reference(model, name) for name, model in bodies.items()]
    return _HEAD + "\n".join(rows) + "\n\n# What they take\n\n" + "\n".join(tables)


def main() -> None:
    """Write the page, or with `--check` tell whether it is stale."""
    write_or_check({PAGE: page()})


if __name__ == "__main__":
    main()
