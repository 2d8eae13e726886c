"""Prometheus' text format, version 0.0.4: metrics, each with all its samples (pure functions).

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(slots=True)
class Family:
    """One metric with all its samples, which must stand together.

    The name of a counter, and of no gauge, ends in `_total`.

    Attributes:
        name: Its name, without the prefix that all have.
        help: What it means.
        samples: Labels and value of each.
    """

    name: str
    help: str
    samples: list[tuple[Mapping[str, str], float]] = field(default_factory=list)

    def add(self, value: float, **labels: str) -> None:
        """Take a sample."""
        self.samples.append((labels, value))

    def lines(self) -> Iterable[str]:
        """Its lines, without line breaks."""
        name = f"auscult_{self.name}"
        yield f"# HELP {name} {_escape(self.help)}"
        yield f"# TYPE {name} {'counter' if self.name.endswith('_total') else 'gauge'}"
        for labels, value in self.samples:
            inner = ",".join(f'{key}="{_escape(text, quote=True)}"' for key, text in labels.items())
            yield f"{name}{{{inner}}} {value!r}" if inner else f"{name} {value!r}"


def text(families: Iterable[Family]) -> str:
    """The whole answer to a scrape."""
    return "\n".join(line for family in families for line in family.lines()) + "\n"


def single(name: str, help_: str, value: float) -> Family:
    """A metric with one sample and no labels."""
    return Family(name, help_, [({}, value)])


def _escape(text: str, *, quote: bool = False) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quote else text
