"""Writes docs/reference/plant.md from the plant's schemas (`make docs`); `--check` compares."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from plant.learn.schema import PlantFile
from plant.watch.file import ServeFile
from tools.configuration import reference
from tools.pages import write_or_check

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "plant.md"
#: Files that the plant's commands take, in the order in which one comes to them.
FILES: tuple[tuple[str, type[BaseModel]], ...] = (
    ("PLANT.yaml of `auscult plant build`", PlantFile),
    ("PLANT.yaml of `auscult plant serve`", ServeFile),
)

_HEAD = """\
# Files of a plant

What `auscult plant` is told ([the guide](../guide/plant.md)). A key that is not listed here is an
error. Relative paths count from the folder of the file; `~` and `$VARIABLES` are filled in.

This page is generated from the schemas by `make docs`; change the descriptions there.
"""


def page() -> str:
    """The whole page."""
    return "\n".join([_HEAD, *(reference(schema, title) for title, schema in FILES)])


def main() -> None:
    """Write the page, or with `--check` tell whether it is stale."""
    write_or_check({PAGE: page()})


if __name__ == "__main__":
    main()
