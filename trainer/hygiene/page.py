"""The page of `auscult inspect`: what was found, to look at and to listen to."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from agent.core.text import plural
from agent.hygiene.measure import Measured
from agent.hygiene.outliers import FEWEST
from agent.hygiene.stage import REFUSED, Inspection
from agent.report.charts import Lines, Series, wall_seconds
from agent.report.machine import Heard, duration, heard_of, show_machine
from agent.report.page import Number, Page


def write_page(inspections: Sequence[Inspection], path: Path, channel: int | None) -> Path:
    """Write the page.

    Args:
        inspections: One a machine.
        path: The file to write.
        channel: Channel in use; None for the average.

    Returns:
        `path`.
    """
    names = ", ".join(one.machine.name for one in inspections)
    page = Page(f"auscult inspect: {names}", heading=f"The recordings of {names}")
    serious = sum(note.serious for one in inspections for note in one.record.notes)
    refused = sum(len(one.refused) for one in inspections)
    fewest = min((len(one.ranked) for one in inspections), default=0)
    few = ""
    if fewest < FEWEST:
        few = f"{plural(fewest, 'healthy recording')} {'is' if fewest == 1 else 'are'}"
    if refused:
        verdict = (
            f"{plural(refused, 'healthy recording')} unlike all others: listen, then leave out "
            "or keep"
        )
    elif serious:
        verdict = f"{plural(serious, 'thing')} to mend before a result can be trusted"
    elif few:
        verdict = f"Nothing is wrong, but {few} too few to know what is usual"
    else:
        verdict = "Fit to be learnt from"
    tone = "bad" if refused else "usable" if serious else "unknown" if few else "good"
    page.answer(verdict, tone=tone)
    every = [heard_of(one, None) for one in inspections]
    seconds = sum(
        one.known[heard.recording.path].seconds
        for one, own in zip(inspections, every, strict=True)
        for heard in own
    )
    page.numbers((
        Number("Healthy sound", duration(seconds), plural(sum(map(len, every)), "recording")),
        Number("To mend", str(serious), "before a result can be trusted"),
        Number("Left out", str(sum(len(one.machine.rejected) for one in inspections)),
               "cannot be used, or are there twice"),
    ))  # fmt: skip
    if len(inspections) == 1 and len(compared := _compared(every[0])) > 1:
        page.first_chart(
            "How far each healthy recording lies from the others; click a dot to listen",
            _distances(inspections[0], compared),
        )
    for one, heard in zip(inspections, every, strict=True):
        if len(inspections) > 1:
            page.heading(one.machine.name)
        _machine(page, one, heard, channel, chart=len(inspections) > 1)
    return page.write(path)


def _machine(
    page: Page, one: Inspection, heard: Sequence[Heard], channel: int | None, *, chart: bool
) -> None:
    notes = sorted(one.record.notes, key=lambda note: not note.serious)
    page.heading("What to know")
    page.table(
        ("do", "about", "what"),
        [("mend" if note.serious else "note", note.kind, note.text) for note in notes],
    )
    page.heading("The recordings")
    _table(page, one)
    _conditions(page, one)
    compared = _compared(heard)
    if compared:
        page.heading("How alike they are")
        if chart and len(compared) > 1:
            page.chart("Distance of each recording", _distances(one, compared))
        page.text(
            "How far each healthy recording's strangest ten seconds lie from all other recordings, "
            "by their spectra and whatever their level. A fault among them would lie far up; what "
            f"lies {REFUSED:g} times as far out as the next is refused. Subtle faults are not seen "
            "so: listen to the first ones."
        )
    else:
        page.text("There are too few recordings to compare them.", note=True)
    show_machine(page, one, None, heard, channel=channel)


def _compared(heard: Sequence[Heard]) -> list[Heard]:
    return [one for one in heard if one.distance is not None]


def _distances(one: Inspection, compared: Sequence[Heard]) -> Lines:
    """A dot for each recording, those that are untypical told apart."""
    named = {untypical.path for untypical in one.record.untypical}
    wall = all(heard.at is not None for heard in compared)
    usual = median(heard.distance or 0.0 for heard in compared)
    return Lines(
        x=[wall_seconds(h.at) if wall and h.at else n + 1.0 for n, h in enumerate(compared)],
        series=(
            Series("usual", [None if h.name in named else h.distance for h in compared],
                   "healthy", dots=True),
            Series("untypical", [h.distance if h.name in named else None for h in compared],
                   "faulty", dots=True),
        ),
        x_words="recorded at" if wall else "recording, in order of name",
        y_words="usual spreads of a band",
        wall=wall,
        names=[h.name for h in compared],
        level=(usual, "median"),
    )  # fmt: skip


def _table(page: Page, one: Inspection) -> None:
    rows = []
    for role in ("normal", "clean", "idle", "noise", "test"):
        found = [one.known[r.path] for r in one.machine.of(role)]
        if found:
            rows.append((role if role != "normal" else "healthy", *_row(found)))
    page.table(
        ("recordings", "files", "minutes", "length", "rate", "channels", "sound up to", "level",
         "form"),
        rows,
    )  # fmt: skip


def _row(found: Sequence[Measured]) -> tuple[str, ...]:
    loud = [median(m.levels_dbfs) for m in found if m.levels_dbfs]
    edges = [m.bandwidth_hz / 1000 for m in found if m.bandwidth_hz]
    return (
        str(len(found)),
        f"{sum(m.seconds for m in found) / 60:.1f}",
        _span([m.seconds for m in found], "s"),
        ", ".join(f"{rate} Hz" for rate in sorted({m.rate for m in found})),
        ", ".join(map(str, sorted({m.channels for m in found}))),
        _span(edges, "kHz"),
        _span(loud, "dBFS"),
        ", ".join(sorted({m.codec for m in found})),
    )


def _span(values: Sequence[float], unit: str) -> str:
    if not values:
        return "-"
    low, high = f"{min(values):.3g}", f"{max(values):.3g}"
    return f"{low} {unit}" if low == high else f"{low} to {high} {unit}"


def _conditions(page: Page, one: Inspection) -> None:
    minutes: dict[tuple[str, str], float] = defaultdict(float)
    files: Counter[tuple[str, str]] = Counter()
    for r in one.machine.of("normal"):
        what = ", ".join(f"{key} {value}" for key, value in sorted(r.attributes.items())) or "-"
        minutes[r.domain, what] += one.known[r.path].seconds / 60
        files[r.domain, what] += 1
    if len(files) > 1:
        page.heading("Minutes by condition")
        page.table(
            ("domain", "condition", "files", "minutes"),
            [
                (d, what, str(n), f"{minutes[d, what]:.1f}")
                for (d, what), n in sorted(files.items())
            ],
        )
