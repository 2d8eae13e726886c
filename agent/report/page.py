"""A page that needs no other file: pictures and sounds are inside it, nothing is fetched.

What a report tells is collected here; how it looks is in `templates/`, one layout for all of them.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import (
    ChoiceLoader,
    Environment,
    FileSystemLoader,
    PackageLoader,
    StrictUndefined,
)
from markupsafe import Markup

from agent import charts
from agent.core.storage import write_atomic
from agent.report.charts import Chart
from agent.verdict.verdict import LEVELS, Verdict

# How a verdict's level is coloured; only `good` is green.
TONES: dict[str, str] = dict(zip(LEVELS, ("bad", "unknown", "usable", "good"), strict=True))

_EMPTY: dict[str, Any] = {
    "tone": "", "level": "", "text": "", "reasons": (), "record": (), "numbers": (),
    "chart": None,
}  # fmt: skip
# A cell that begins with a digit is a sentence where it is longer, or has more words than these.
_LONGEST_NUMBER, _WORDS = 40, re.compile(r"[A-Za-z]{4,}")
_MOST_WORDS = 2
# A cell that is longer may be broken anywhere, as a recording's name must be on a phone.
_LONG = 24


@dataclass(frozen=True, slots=True)
class Number:
    """One of the numbers of the first screen.

    Attributes:
        what: What it is.
        value: The number, short.
        note: Interval, or what it was counted over.
    """

    what: str
    value: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Card:
    """A recording to look at and to listen to.

    Attributes:
        name: The recording's, to which dots of charts lead.
        caption: What is said of it.
        picture: PNG, or None.
        sound: FLAC, or None.
        tone: `good`, `usable`, `unknown`, `bad`; empty for none.
    """

    name: str
    caption: str
    picture: bytes | None = None
    sound: bytes | None = None
    tone: str = ""


class Page:
    """Collects what a report tells, in order.

    Args:
        title: Of the browser's tab, and its first heading.
        heading: The first heading, when another.
    """

    def __init__(self, title: str, *, heading: str | None = None) -> None:
        self._title = title
        self._heading = heading or title
        self._opening: dict[str, Any] = {}
        self._parts: list[dict[str, Any]] = []

    def verdict(self, verdict: Verdict, *, of: str = "") -> None:
        """The answer, before anything else.

        Args:
            verdict: What to make of the detector.
            of: On what, in front of the counts.
        """
        self._opening |= {
            "tone": TONES[verdict.level],
            "level": verdict.level,
            "text": f"{of} {verdict.counts}".strip(),
            "reasons": verdict.reasons,
            "record": verdict.record,
        }

    def answer(self, text: str, *, tone: str = "") -> None:
        """An answer that is no verdict on a detector, before anything else.

        Args:
            text: In words.
            tone: `good`, `usable`, `unknown`, `bad`; empty for none.
        """
        self._opening |= {"tone": tone, "level": "", "text": text, "reasons": (), "record": ()}

    def numbers(self, numbers: Sequence[Number]) -> None:
        """Numbers of the first screen, three at best; after the verdict or answer."""
        self._opening["numbers"] = tuple(numbers)

    def first_chart(self, title: str, chart: Chart) -> None:
        """The picture of the first screen, after the verdict or answer."""
        self._opening["chart"] = {"title": title, "data": chart.data(), "size": ""}

    def heading(self, text: str) -> None:
        """Begin a section."""
        self._add("heading", text=text)

    def text(self, text: str, *, note: bool = False) -> None:
        """A paragraph; a `note` stands back."""
        self._add("text", text=text, note=note)

    def shell(self, lines: str) -> None:
        """Lines to copy."""
        self._add("shell", text=lines)

    def facts(self, rows: Sequence[tuple[str, str]]) -> None:
        """A table of (what, how much)."""
        self._add("facts", rows=tuple(rows))

    def table(
        self,
        headings: Sequence[str],
        rows: Sequence[Sequence[str]],
        *,
        find: str = "",
        folded: str = "",
        row_heads: bool = False,
    ) -> None:
        """A table; columns whose every cell is a number, with a unit at most, stand to the right.

        A cell that is a verdict's level has its colour.

        Args:
            headings: Of the columns.
            rows: Texts of the cells.
            find: What a field above the table finds rows by, for long ones; empty for no field.
            folded: What the table is, where it opens only when asked for.
            row_heads: Whether the first column heads its rows, and has no heading itself.
        """
        right = [
            bool(rows) and all(_is_number(row[i]) or row[i] in {"", "-"} for row in rows)
            for i in range(len(headings))
        ]
        self._add(
            "table",
            css="plain",
            find=find,
            folded=folded,
            row_heads=row_heads,
            headings=[
                {"text": text, "number": number}
                for text, number in zip(headings, right, strict=True)
            ],
            rows=[
                [
                    {"text": text, "css": "number" if number else _css(text), "tint": ""}
                    for text, number in zip(row, right, strict=True)
                ]
                for row in rows
            ],
        )

    def heatmap(
        self, headings: Sequence[str], rows: Sequence[Sequence[tuple[str, float | None]]]
    ) -> None:
        """A table whose cells are coloured by value, from -1 (orange) over 0 to 1 (green).

        Colours only repeat what the texts say, which are read on either paper.

        Args:
            headings: Of the columns.
            rows: (text, value) of each cell; None leaves it plain.
        """
        self._add(
            "table",
            css="heat",
            find="",
            folded="",
            row_heads=False,
            headings=[{"text": text, "number": False} for text in headings],
            rows=[
                [{"text": text, "css": "", "tint": _tint(value)} for text, value in row]
                for row in rows
            ],
        )

    def chart(self, title: str, chart: Chart, *, size: str = "") -> None:
        """A chart to look closer at, by pointer, finger or keyboard.

        Args:
            title: What it shows, in words.
            chart: What it shows.
            size: `small`, `tall`, or empty.
        """
        self._add("chart", title=title, data=chart.data(), size=size)

    def recordings(self, cards: Sequence[Card]) -> None:
        """Recordings side by side, in the order given."""
        self._add("recordings", cards=[
            {
                "name": one.name, "caption": one.caption, "tone": one.tone,
                "image": "" if one.picture is None else _data_uri("image/png", one.picture),
                "sound": "" if one.sound is None else _data_uri("audio/flac", one.sound),
            }
            for one in cards
        ])  # fmt: skip

    def html(self) -> str:
        """The page."""
        template = _environment().get_template("page.html")
        opening = {**_EMPTY, **self._opening} if self._opening else None
        return template.render(
            title=self._title,
            heading=self._heading,
            opening=opening,
            parts=self._parts,
            scripts=_scripts() if self._moves() else None,
        )

    def write(self, path: Path) -> Path:
        """Write the page.

        Returns:
            `path`.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, self.html().encode())
        return path

    def _moves(self) -> bool:
        """Whether anything on the page needs a script."""
        return bool(self._opening.get("chart")) or any(
            part["kind"] == "chart" or part.get("find") for part in self._parts
        )

    def _add(self, kind: str, **part: Any) -> None:
        self._parts.append({"kind": kind, **part})


def _is_number(text: str) -> bool:
    short = len(text) <= _LONGEST_NUMBER and len(_WORDS.findall(text)) <= _MOST_WORDS
    return text[:1].isdigit() and short


def _css(text: str) -> str:
    return TONES.get(text, "long" if len(text) > _LONG else "")


def fill(template: Path, *, opening: Mapping[str, Any], **told: Any) -> str:
    """A page by a template of its own that extends `base.html`, and so looks as all reports do.

    Args:
        template: The template.
        opening: Of the first screen, as `opening.html` takes it: `tone`, `text`, `numbers`, ...
        **told: What else the template names.
    """
    environment = _environment().overlay(
        loader=ChoiceLoader([PackageLoader("agent.report"), FileSystemLoader(template.parent)])
    )
    page = environment.get_template(template.name)
    return page.render(opening={**_EMPTY, **opening}, scripts=None, **told)


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("agent.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def _scripts() -> dict[str, Markup]:
    """What draws charts, as one script: a page opened from a file may load no others."""
    source = "\n".join(
        path.read_text(encoding="utf-8")
        for path in (
            charts.FOLDER / "ticks.js",
            charts.FOLDER / "chart.js",
            Path(__file__).parent / "templates" / "report.js",
        )
    )
    ours = re.sub(r"^import .*\n|^export (?=\w)", "", source, flags=re.MULTILINE)
    found = {"ours": ours} | {
        name.replace(".", "_"): (charts.FOLDER / name).read_text(encoding="utf-8")
        for name in ("uplot.js", "uplot.css", "chart.css")
    }
    # Our own files: no template's escaping may touch them.
    return {name: Markup(text) for name, text in found.items()}  # noqa: S704


def _tint(value: float | None) -> str:
    if value is None:
        return ""
    colour = "0,140,100" if value >= 0 else "230,110,20"
    return f"{colour},{0.5 * min(1.0, abs(value)):.2f}"


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
