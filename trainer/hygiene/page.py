"""The page of `auscult inspect`: what was found, to look at and to listen to."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np

from agent.capture.files import read_stretch
from agent.core.errors import AudioError
from agent.core.records import Samples
from agent.core.text import plural
from agent.hygiene.measure import Measured
from agent.hygiene.outliers import FEWEST
from agent.hygiene.stage import REFUSED, Inspection
from agent.recordings.model import Recording
from trainer.hygiene.pictures import distances, levels
from trainer.report.page import Page, flac
from trainer.report.paint import draw, loudest, spectrogram

_RATE, _SECONDS = 16000, 10.0
# The most untypical are shown with sound, and as many usual ones beside them.
_SHOWN, _USUAL = 6, 3


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
    for one in inspections:
        if len(inspections) > 1:
            page.heading(one.machine.name)
        _machine(page, one, channel)
    return page.write(path)


def _machine(page: Page, one: Inspection, channel: int | None) -> None:
    notes = sorted(one.record.notes, key=lambda note: not note.serious)
    page.heading("What to know")
    page.table(
        ("", "about", "what"),
        [("mend" if note.serious else "note", note.kind, note.text) for note in notes],
    )
    page.heading("The recordings")
    _table(page, one)
    _conditions(page, one)
    page.heading("Most untypical first")
    page.text(
        "How far each healthy recording's strangest ten seconds lie from all other recordings, by "
        "their spectra and whatever their level. A fault among them would lie far to the right; "
        f"what lies {REFUSED:g} times as far out as the next is refused. Subtle faults are not "
        "seen so: listen to the first ones."
    )
    _untypical(page, one, channel)
    normal = [one.known[r.path] for r in one.ranked]
    if normal:
        page.heading("Level over time")
        page.text("Of each healthy recording in order of name, in stretches of ten seconds.")
        page.picture("Level over time", draw((10, 2.6), levels(normal)))
    if one.machine.rejected:
        page.heading("Left out")
        page.table(
            ("recording", "why", "what to do"),
            [
                (_name(one, fault.path), fault.reason, fault.remedy)
                for fault in one.machine.rejected
            ],
        )


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


def _untypical(page: Page, one: Inspection, channel: int | None) -> None:
    values = one.distances.values
    order = [int(n) for n in np.argsort(-np.nan_to_num(values, nan=-1.0)) if np.isfinite(values[n])]
    if not order:
        page.text("There are too few recordings to compare them.", note=True)
        return
    named = {untypical.path for untypical in one.record.untypical}
    marked = [_name(one, one.ranked[n].path) in named for n in order]
    page.picture("Distance of each recording", draw((10, 2.4), distances(values[order], marked)))
    shown = order[:_SHOWN]
    usual = [n for n in order[len(order) // 2 :][:_USUAL] if n not in shown]
    sounds = [(n, _sound(one.ranked[n], float(one.distances.starts[n]), channel)) for n in shown]
    sounds += [(n, _sound(one.ranked[n], float(one.distances.starts[n]), channel)) for n in usual]
    top = loudest([sound for _, sound in sounds if len(sound)])
    cards = []
    for n, sound in sounds:
        if not len(sound):
            continue
        kind = "usual: " if n in usual else ""
        name = _name(one, one.ranked[n].path)
        caption = f"{kind}{name}, distance {values[n]:.2f}"
        if one.distances.starts[n]:
            caption += f", from {one.distances.starts[n]:.0f} s on"
        cards.append((caption, draw((5, 2.8), spectrogram(sound, _RATE, "", top)), _player(sound)))
    page.cards(cards)


def _sound(recording: Recording, start: float, channel: int | None) -> Samples:
    try:
        return read_stretch(recording.path, start, _SECONDS, rate=_RATE, channel=channel)
    except AudioError:
        return np.empty(0, np.float32)


def _player(sound: Samples) -> bytes:
    return flac(sound * (0.8 / max(1e-6, float(np.abs(sound).max()))), _RATE)


def _name(one: Inspection, path: Path) -> str:
    return path.relative_to(one.machine.root).as_posix()
