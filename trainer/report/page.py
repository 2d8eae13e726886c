"""A page that needs no other file: pictures and sounds are inside it, nothing is fetched."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

import soundfile

from agent.frames import Samples

_STYLE = """
:root{color-scheme:light dark;--ink:#222;--dim:#595959;--paper:#fff;--soft:#f3f3f3;--line:#ddd}
@media(prefers-color-scheme:dark){
:root{--ink:#e6e6e6;--dim:#a6a6a6;--paper:#16181b;--soft:#24272b;--line:#3a3e44}
img{background:#fff;border-radius:6px}}
body{font:16px/1.5 system-ui,sans-serif;max-width:1040px;margin:2rem auto;padding:0 1rem;
color:var(--ink);background:var(--paper)}
h1{margin-bottom:.2em;overflow-wrap:anywhere}
h2{margin-top:2rem;border-bottom:1px solid var(--line)}
.verdict{padding:.8rem 1rem;border-radius:6px;color:#fff;font-weight:600}
.good{background:#00664a}.bad{background:#b34700}
img{width:100%;height:auto} table{border-collapse:collapse;margin:1rem 0}
.wide{overflow-x:auto} th{text-align:left;border-bottom:2px solid var(--line)}
td,th{padding:.2rem 1rem .2rem 0;vertical-align:top}
.facts td:first-child{color:var(--dim);white-space:nowrap}
.heat td,.heat th{padding:.3rem .6rem}.heat td:first-child{position:sticky;left:0;
background:var(--paper)}.number,.heat td+td{text-align:right;font-variant-numeric:tabular-nums}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(300px,1fr));gap:1rem}
figure{margin:0} figcaption{font-size:.9rem;overflow-wrap:anywhere} audio{width:100%}
code,pre{background:var(--soft);border-radius:4px;padding:.1rem .3rem}
pre{padding:.8rem;overflow-x:auto} .note{color:var(--dim)}
"""


class Page:
    """Collects what a report tells, in order.

    Args:
        title: Of the browser's tab, and its first heading.
        heading: The first heading, when another.
    """

    def __init__(self, title: str, *, heading: str | None = None) -> None:
        self._title = title
        self._parts = [f"<h1>{html.escape(heading or title)}</h1>"]

    def verdict(self, text: str, *, good: bool) -> None:
        """The answer, before anything else."""
        self._add(f'<p class="verdict {"good" if good else "bad"}">{html.escape(text)}</p>')

    def heading(self, text: str) -> None:
        """Begin a section."""
        self._add(f"<h2>{html.escape(text)}</h2>")

    def text(self, text: str, *, note: bool = False) -> None:
        """A paragraph; a `note` stands back."""
        self._add(f"<p{' class=note' if note else ''}>{html.escape(text)}</p>")

    def shell(self, lines: str) -> None:
        """Lines to copy."""
        self._add(f"<pre>{html.escape(lines)}</pre>")

    def facts(self, rows: Sequence[tuple[str, str]]) -> None:
        """A table of (what, how much)."""
        body = "\n".join(
            f"<tr><td>{html.escape(what)}</td><td>{html.escape(value)}</td></tr>"
            for what, value in rows
        )
        self._add(f'<table class="facts">\n{body}\n</table>')

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table; columns whose every cell begins with a digit stand to the right."""
        right = [
            bool(rows) and all(row[i][:1].isdigit() or row[i] in {"", "-"} for row in rows)
            for i in range(len(headings))
        ]
        css = [' class="number"' if one else "" for one in right]
        head = "".join(f"<th{c}>{html.escape(h)}</th>" for c, h in zip(css, headings, strict=True))
        body = "\n".join(
            "<tr>"
            + "".join(f"<td{c}>{html.escape(v)}</td>" for c, v in zip(css, row, strict=True))
            + "</tr>"
            for row in rows
        )
        self._add(f'<div class="wide"><table><tr>{head}</tr>\n{body}\n</table></div>')

    def heatmap(
        self, headings: Sequence[str], rows: Sequence[Sequence[tuple[str, float | None]]]
    ) -> None:
        """A table whose cells are coloured by value, from -1 (orange) over 0 to 1 (green).

        Colours only repeat what the texts say, which are read on either paper.

        Args:
            headings: Of the columns.
            rows: (text, value) of each cell; None leaves it plain.
        """
        head = "".join(f"<th>{html.escape(heading)}</th>" for heading in headings)
        body = "\n".join(
            "<tr>" + "".join(f"<td{_tint(v)}>{html.escape(t)}</td>" for t, v in row) + "</tr>"
            for row in rows
        )
        self._add(f'<div class="wide"><table class="heat"><tr>{head}</tr>\n{body}\n</table></div>')

    def picture(self, title: str, png: bytes) -> None:
        """A picture over the whole width, with what it shows in words."""
        self._add(_image(title, png))

    def cards(self, cards: Sequence[tuple[str, bytes | None, bytes | None]]) -> None:
        """Things side by side, each (caption, PNG or None, FLAC or None)."""
        found = []
        for caption, png, flac in cards:
            image = "" if png is None else _image(caption, png)
            player = (
                ""
                if flac is None
                else f'<audio controls preload="none" aria-label="{html.escape(caption)}" '
                f'src="{_data_uri("audio/flac", flac)}"></audio>'
            )
            found.append(
                f"<figure>{image}{player}<figcaption>{html.escape(caption)}</figcaption></figure>"
            )
        self._add(f'<div class="cards">{"".join(found)}</div>')

    def html(self) -> str:
        """The page."""
        body = "\n".join(self._parts)
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            f"<title>{html.escape(self._title)}</title>"
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<style>{_STYLE}</style></head><body>\n{body}\n</body></html>\n"
        )

    def write(self, path: Path) -> Path:
        """Write the page.

        Returns:
            `path`.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.html(), encoding="utf-8")
        return path

    def _add(self, part: str) -> None:
        self._parts.append(part)


def flac(sound: Samples, rate: int) -> bytes:
    """A sound as a 16-bit FLAC file, which browsers play."""
    target = io.BytesIO()
    soundfile.write(target, sound, rate, format="FLAC", subtype="PCM_16")
    return target.getvalue()


def _tint(value: float | None) -> str:
    if value is None:
        return ""
    colour = "0,140,100" if value >= 0 else "230,110,20"
    return f' style="background:rgba({colour},{0.5 * min(1.0, abs(value)):.2f})"'


def _image(title: str, png: bytes) -> str:
    return f'<img alt="{html.escape(title)}" src="{_data_uri("image/png", png)}">'


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
