"""What a report tells of a machine: its recordings over time, the least typical, what to record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import median

import numpy as np

from agent.capture.files import read_stretch
from agent.core.errors import AudioError
from agent.core.name_time import all_name_times
from agent.core.records import Matrix, Samples
from agent.core.text import plural
from agent.hygiene.shape import BINS, PIECE_SECONDS, RATE
from agent.hygiene.stage import Inspection
from agent.learn.rehearsal import Rehearsal
from agent.recordings.model import Recording
from agent.report.charts import Heat, Histogram, Lines, Series, wall_seconds
from agent.report.page import Card, Number, Page
from agent.report.pictures import player, small_spectrogram, top_of
from agent.verdict.report import daily_amount, share_note

COLUMNS = (
    "recording", "domain", "seconds", "level_dbfs", "bandwidth_hz", "distance", "strangest_from",
    "untypical", "score", "threshold", "above",
)  # fmt: skip
# The least typical are shown with sound, and a few usual ones beside them.
_SHOWN, _USUAL = 6, 2
# Of the sound: the lowest and the highest band, Hz, and how many to an octave.
_LOW_HZ, _HIGH_HZ, _OCTAVE = 62.5, 8000.0, 3
_SILENCE: Samples = np.empty(0, np.float32)
# Points and columns that a chart takes and a person tells apart.
_POINTS, _COLUMNS = 3000, 400


@dataclass(frozen=True, slots=True)
class Heard:
    """A healthy recording as a report knows it.

    Attributes:
        name: Relative to the folder.
        recording: The recording.
        at: When it was made, by its name; None where not all names tell.
        score: With itself left out of what is compared; the strangest block's. None without.
        above: Whether it lay above the threshold that the others gave.
        distance: Of its spectra to the nearest other recording; None where nothing was compared.
        start: Where its strangest stretch begins, seconds.
        level_dbfs: Its usual level; None of nothing.
        untypical: Whether it is unlike all others; such a one sets no threshold and has no score.
    """

    name: str
    recording: Recording
    at: datetime | None
    score: float | None
    above: bool
    distance: float | None
    start: float
    level_dbfs: float | None
    untypical: bool


def heard_of(inspection: Inspection, rehearsal: Rehearsal | None) -> list[Heard]:
    """The healthy recordings in order of time, or of name where names tell none."""
    scores: dict[str, float] = {}
    above: set[str] = set()
    for clip, score in (
        () if rehearsal is None else zip(rehearsal.clips, rehearsal.scores, strict=True)
    ):
        name = clip.name.partition("#")[0]
        scores[name] = max(score, scores.get(name, score))
        if clip.called:
            above.add(name)
    root = inspection.machine.root
    untypical = {one.path for one in inspection.record.untypical}
    names = [one.path.relative_to(root).as_posix() for one in inspection.ranked]
    times = all_name_times(names) if names else None
    found = []
    for n, (name, recording) in enumerate(zip(names, inspection.ranked, strict=True)):
        distance = float(inspection.distances.values[n])
        levels = inspection.known[recording.path].levels_dbfs
        found.append(
            Heard(
                name, recording, None if times is None else times[n], scores.get(name),
                name in above, distance if np.isfinite(distance) else None,
                float(inspection.distances.starts[n]), median(levels) if levels else None,
                name in untypical,
            )
        )  # fmt: skip
    return sorted(found, key=lambda one: (one.at or datetime.min, one.name))  # noqa: DTZ901


def csv_rows(
    heard: Sequence[Heard], inspection: Inspection, threshold: float | None
) -> list[list[object]]:
    """A row a recording, under `COLUMNS`; empty where there is nothing."""
    return [
        [
            one.name, one.recording.domain, round(inspection.known[one.recording.path].seconds, 3),
            _rounded(one.level_dbfs, 2), inspection.known[one.recording.path].bandwidth_hz,
            _rounded(one.distance, 4), one.start, one.untypical, _rounded(one.score, 6),
            _rounded(threshold, 6) if one.score is not None else None,
            one.above if one.score is not None else None,
        ]
        for one in heard
    ]  # fmt: skip


def open_page(
    page: Page, inspection: Inspection, rehearsal: Rehearsal | None, heard: Sequence[Heard]
) -> None:
    """Put the first screen of what was learnt on a page: verdict, three numbers, scores."""
    seconds = sum(inspection.known[one.recording.path].seconds for one in heard)
    sound = Number("Healthy sound", duration(seconds), plural(len(heard), "recording"))
    if rehearsal is None or not rehearsal.clips:
        page.answer(
            "Too few healthy recordings to say what its threshold would do.", tone="unknown"
        )
        page.numbers((sound,))
        return
    ruined = "" if rehearsal.agreement is None else rehearsal.agreement.ruined
    if ruined:
        page.answer(ruined, tone="bad")
    else:
        page.verdict(rehearsal.ruling, of="on the healthy recordings, each left out,")
    false = rehearsal.figures["all"].false
    day, note = daily_amount(rehearsal.figures["all"].daily)
    page.numbers((
        sound,
        Number("False alarms", f"{false.hits} of {false.total}", share_note(false)),
        Number("False alarms a day", day, note or "length unknown"),
    ))  # fmt: skip
    page.first_chart(
        "How strange each healthy recording is to the others, and the threshold that they give "
        "together; click a dot to listen",
        score_chart(heard, rehearsal.threshold),
    )


def score_chart(heard: Sequence[Heard], threshold: float) -> Lines:
    """A dot for each recording."""
    shown = [one for one in heard if one.score is not None]
    wall = bool(shown) and all(one.at is not None for one in shown)
    return Lines(
        x=[wall_seconds(one.at) if wall and one.at else n + 1.0 for n, one in enumerate(shown)],
        series=(
            Series("passed", [None if one.above else one.score for one in shown], "healthy", True),
            Series("above its threshold", [one.score if one.above else None for one in shown],
                   "faulty", True),
        ),
        x_words="recorded at" if wall else "recording",
        y_words="anomaly score",
        wall=wall,
        names=[one.name for one in shown],
        level=(threshold, "threshold"),
    )  # fmt: skip


def show_machine(
    page: Page,
    inspection: Inspection,
    rehearsal: Rehearsal | None,
    heard: Sequence[Heard],
    *,
    channel: int | None,
    sound: bool = True,
) -> None:
    """Put the machine's sections on a page.

    Args:
        page: The page.
        inspection: What was found of its recordings.
        rehearsal: What its threshold would have done with them; None where nobody knows.
        heard: Its healthy recordings.
        channel: Channel in use; None averages.
        sound: Put recordings on the page to listen to.
    """
    if rehearsal is not None:
        _next(page, inspection, rehearsal)
    if rehearsal is not None and rehearsal.clips:
        page.heading("Scores of the healthy recordings")
        page.chart(
            "How many recordings score how high, each with itself left out",
            Histogram(rehearsal.scores, rehearsal.threshold, "recordings"),
            size="small",
        )
        page.text(
            "Each recording was held against a threshold found without it. How many faults it "
            "finds, recordings of faults alone can tell.",
            note=True,
        )
    _untypical(page, heard, rehearsal, channel=channel, sound=sound)
    if heard:
        page.heading("The machine over time")
        page.chart("Level of each stretch of ten seconds", level_chart(heard, inspection))
        spectrum = spectrum_chart(heard, inspection)
        if spectrum is not None:
            page.chart(
                "Spectrum of each recording, against what is usual in each band", spectrum,
                size="tall",
            )  # fmt: skip
    if inspection.machine.rejected:
        page.heading("Left out")
        page.table(
            ("recording", "why", "what to do"),
            [
                (_name(inspection, fault.path), fault.reason, fault.remedy)
                for fault in inspection.machine.rejected
            ],
        )


def level_chart(heard: Sequence[Heard], inspection: Inspection) -> Lines:
    """The level of each piece, by the clock where names tell it, else one after the other."""
    wall = all(one.at is not None for one in heard)
    x: list[float] = []
    names: list[str] = []
    values: list[float | None] = []
    begin = 0.0
    for one in heard:
        known = inspection.known[one.recording.path]
        at = wall_seconds(one.at) if wall and one.at else begin
        for n, level in enumerate(known.levels_dbfs):
            x.append(at + PIECE_SECONDS * (n + 0.5))
            names.append(one.name)
            values.append(round(level, 2))
        begin += max(PIECE_SECONDS * len(known.levels_dbfs), known.seconds)
    order = sorted(range(len(x)), key=x.__getitem__)[:: max(1, len(x) // _POINTS)]
    return Lines(
        x=[x[n] if wall else x[n] / 60 for n in order],
        series=(Series("level, dBFS", [values[n] for n in order], "healthy", True),),
        x_words="recorded at" if wall else "minutes of recording",
        y_words="dBFS",
        wall=wall,
        names=[names[n] for n in order],
    )


def spectrum_chart(heard: Sequence[Heard], inspection: Inspection) -> Heat | None:
    """How far each band of each recording lies from its usual level; None without spectra."""
    pieces = [(one, inspection.known[one.recording.path].shape) for one in heard]
    pieces = [(one, shape) for one, shape in pieces if len(shape)]
    if len(pieces) < 2:
        return None
    pieces = pieces[:: -(-len(pieces) // _COLUMNS)]
    count = int(_OCTAVE * np.log2(_HIGH_HZ / _LOW_HZ))
    edges = _LOW_HZ * 2.0 ** (np.arange(count + 1) / _OCTAVE)
    hertz = np.arange(BINS) * RATE / 2 / (BINS - 1)
    place = np.searchsorted(edges, hertz, side="right") - 1
    bands = [band for band in range(count) if (place == band).any()]
    table: Matrix = np.array(
        [
            [
                # Of what is always there: the median over the pieces of each frequency.
                10 * float(np.log10((10 ** (usual[place == band] / 10)).mean()))
                for band in bands
            ]
            for usual in (np.median(shape[:, :BINS], axis=0) for _, shape in pieces)
        ],
        np.float32,
    )
    kept = [edges[band] for band in bands] + [edges[bands[-1] + 1]]
    return Heat(
        names=[one.name for one, _ in pieces],
        edges_hz=kept,
        values=table - np.median(table, axis=0),
        x_words="recording, in order of time" if pieces[0][0].at else "recording, in order of name",
    )


def _next(page: Page, inspection: Inspection, rehearsal: Rehearsal) -> None:
    wanted = rehearsal.ruling.record
    serious = [note for note in inspection.record.notes if note.serious]
    if not wanted and not serious:
        return
    page.heading("What to do next")
    rows = [("record", what) for what in wanted]
    rows += [("mend", f"{note.kind}: {note.text}") for note in serious]
    page.table(("do", "what"), rows)


def _untypical(
    page: Page,
    heard: Sequence[Heard],
    rehearsal: Rehearsal | None,
    *,
    channel: int | None,
    sound: bool,
) -> None:
    # What is unlike all others sets no threshold and is not scored: it stands before all else.
    judged = any(one.score is not None for one in heard)
    known = [one for one in heard if (one.score if judged else one.distance) is not None]
    order = sorted(
        {one.name: one for one in (*known, *(one for one in heard if one.untypical))}.values(),
        key=lambda one: (
            not one.untypical,
            -((one.score if judged and not one.untypical else one.distance) or 0.0),
        ),
    )
    if not order:
        return
    page.heading("Least typical first")
    page.text(
        "Listen: a fault among them is learnt as healthy. What does not sound right, take out, "
        f"and learn again.{'' if sound else ' (No sound is put into this report.)'}"
    )
    # What is shown as usual comes from the middle of the ranking.
    shown = [(n + 1, one) for n, one in enumerate(order[:_SHOWN])]
    shown += [(n + 1, one) for n, one in enumerate(order) if n >= max(_SHOWN, len(order) // 2)][
        :_USUAL
    ]
    sounds = (
        [_stretch(one, channel) for _, one in shown]
        if sound
        else [np.empty(0, np.float32)] * len(shown)
    )
    top = top_of([one for one in sounds if len(one)], RATE)
    threshold = None if rehearsal is None else rehearsal.threshold
    cards = []
    for (rank, one), heard_sound in zip(shown, sounds, strict=True):
        words = [f"{rank} of {len(order)}{', usual' if rank > _SHOWN else ''}"]
        if one.untypical:
            words.append(f"unlike all others (distance {one.distance or 0:.1f})")
        elif one.score is not None and threshold is not None:
            words.append(f"score {one.score:.3g}, threshold {threshold:.3g}")
        elif one.distance is not None:
            words.append(f"distance {one.distance:.2f}")
        if one.start:
            words.append(f"from {one.start:.0f} s on")
        if one.at is not None:
            words.append(f"{one.at:%Y-%m-%d %H:%M}")
        cards.append(
            Card(
                one.name, "; ".join(words),
                small_spectrogram(heard_sound, RATE, top) if len(heard_sound) else None,
                player(heard_sound, RATE) if len(heard_sound) else None,
                "bad" if one.above or one.untypical else "",
            )
        )  # fmt: skip
    page.recordings(cards)
    if sound:
        page.text(
            "Pictures: ten seconds to the right, 0 to 8 kHz upwards, bright is loud.", note=True
        )


def _stretch(one: Heard, channel: int | None) -> Samples:
    try:
        return read_stretch(
            one.recording.path, one.start, PIECE_SECONDS, rate=RATE, channel=channel
        )
    except AudioError:
        return np.empty(0, np.float32)


def _name(inspection: Inspection, path: Path) -> str:
    return path.relative_to(inspection.machine.root).as_posix()


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def duration(seconds: float) -> str:
    """A length in words: `40 s`, `12 min`, `3.5 h`."""
    return (
        f"{seconds / 3600:.1f} h"
        if seconds >= 5400
        else f"{seconds / 60:.0f} min"
        if seconds >= 90
        else f"{seconds:.0f} s"
    )
