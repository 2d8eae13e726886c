"""Writes the schemas and mqtt.md's tables in docs/reference (`make docs`); `--check` compares."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent.bundle import offer
from agent.core.schema import Strict
from agent.publish import cloud_events, device_payloads, payloads
from agent.publish.kinds import KINDS
from agent.request.commands import COMMANDS
from tools.configuration import reference

_DOCS = Path(__file__).parent.parent / "docs" / "reference"
FOLDER = _DOCS / "schemas"
PAGE = _DOCS / "mqtt.md"
_MARK = "<!-- From here on written by `make docs`; change the descriptions there. -->"

PAYLOADS: Mapping[str, type[Strict]] = {
    "status": device_payloads.Status,
    "info": device_payloads.Info,
    "health": device_payloads.Health,
    **{kind.name: kind.model for kind in KINDS},
    "probe_event": cloud_events.ProbeCloudEvent,
    **{f"request.{command}": model for command, model in COMMANDS.items()},
    "severity": payloads.Severity,
    "offer": offer.SignedOffer,
    "offered": offer.OfferState,
    "response": payloads.Response,
}


def schema(name: str) -> dict[str, Any]:
    """The JSON Schema (2020-12) of a payload.

    Args:
        name: `score`, `request.ack`...
    """
    model = PAYLOADS[name]
    # What is published has all of its fields; a request may leave out those with a default.
    found = model.model_json_schema(
        mode="validation" if name.startswith("request.") else "serialization"
    )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **found,
        "title": name,
        "description": " ".join((model.__doc__ or "").split()),
    }


def pages() -> dict[Path, str]:
    """Every file written from the schemas, and its text."""
    found = {
        FOLDER / f"{name}.json": json.dumps(schema(name), indent=2, ensure_ascii=False) + "\n"
        for name in PAYLOADS
    }
    head = PAGE.read_text(encoding="utf-8").partition(_MARK)[0]
    tables = "\n".join(_table(name) for name in PAYLOADS)
    found[PAGE] = f"{head}{_MARK}\n\n# Payloads\n\n{tables}"
    return found


def _table(name: str) -> str:
    text = reference(PAYLOADS[name], f"`{name}`")
    if not name.startswith("request."):
        # Published messages leave nothing out: a default is of no interest.
        text = "\n".join(_without_default(line) for line in text.split("\n"))
    return text.replace("| Key |", "| Field |")


def _without_default(line: str) -> str:
    cells = line.replace("\\|", "\0").split("|")
    if len(cells) == 6:
        del cells[3]
    return "|".join(cells).replace("\0", "\\|")


def stale() -> list[str]:
    """Files that are not what the schemas say, and files that belong to none."""
    wanted = pages()
    found = [
        path.name
        for path, text in wanted.items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]
    return found + sorted(path.name for path in FOLDER.glob("*.json") if path not in wanted)


def main() -> None:
    """Write the files, or with `--check` tell whether they are what the schemas say."""
    if "--check" in sys.argv[1:]:
        if names := stale():
            sys.exit(f"{', '.join(names)}: stale, run `make docs`")
        return
    FOLDER.mkdir(exist_ok=True)
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
