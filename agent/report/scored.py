"""The report of scored recordings: which are strange, where in them, and how that sounds."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agent.bundle.manifest import Manifest
from agent.capture.files import read_stretch
from agent.core.errors import AudioError
from agent.core.name_time import all_name_times
from agent.core.records import Samples
from agent.core.storage import make_private, write_json
from agent.core.text import plural
from agent.offline.recording import open_recording
from agent.report.charts import Lines, Series, Tone, wall_seconds
from agent.report.page import Card, Number, Page
from agent.report.pictures import player, small_spectrogram, top_of
from agent.verdict.report import write_csv

PAGE, DATA, TABLE, WINDOWS = "report.html", "report.json", "recordings.csv", "windows.csv"
COLUMNS = (
    "recording", "score", "zone", "raw_score", "raw_threshold", "p_value", "state", "verdict",
    "strangest_from", "error",
)  # fmt: skip
WINDOW_COLUMNS = (
    "recording", "start", "score", "zone", "raw_score", "raw_threshold", "p_value", "state",
    "verdict", "validity", "reason",
)  # fmt: skip
# Recordings shown with sound, and those whose windows are drawn one after the other.
_SHOWN, _DRAWN = 6, 3
# Windows from which on a line through them tells more than the recording's score.
_LONG = 3
_RATE = 16000
_SILENCE: Samples = np.empty(0, np.float32)
_VERDICTS: tuple[tuple[str, Tone], ...] = (
    ("normal", "healthy"), ("anomalous", "faulty"), ("not_counted", "other"),
)  # fmt: skip


def write_report(
    document: Mapping[str, Any],
    manifest: Manifest,
    folder: Path,
    *,
    channel: int | None = None,
    sound: bool = True,
) -> Path:
    """Write `report.html`, `report.json`, `recordings.csv` and `windows.csv` into a folder.

    Args:
        document: What `auscult score --json` writes; the recordings must still be where they were.
        manifest: Of the bundle.
        folder: The folder; made where it lacks.
        channel: Channel asked for; None for that of training, or the average.
        sound: Put the strangest recordings into the page, to listen to.

    Returns:
        The page.

    Raises:
        OSError: The folder cannot be made, or written into.
    """
    files = _named(document["files"])
    judged = sorted((one for one in files if one["score"] is not None), key=lambda o: -o["score"])
    page = Page(
        f"auscult score: {document['machine']}",
        heading=f"How {document['machine']} sounds in {plural(len(files), 'recording')}",
    )
    _open(page, files, judged)
    if judged:
        _strangest(page, judged, manifest, channel=channel, sound=sound)
        long = [one for one in judged if len(one["windows"]) >= _LONG] if judged[1:] else []
        if long:
            page.heading("Window by window")
        for one in long[:_DRAWN]:
            page.chart(f"Score over time: {one['name']}", _over_time(one), size="small")
        page.heading("All recordings")
        page.table(
            ("recording", "score", "zone", "verdict"),
            [(one["name"], f"{one['score']:.2f}", _zone(one), _said(one)) for one in judged],
            find="Find recordings (anomalous, part of a name)",
            folded=f"All {plural(len(judged), 'judged recording')}, the strangest first",
        )
    failed = [one for one in files if one["error"] is not None]
    if failed:
        page.heading("Not scored")
        page.table(("recording", "why"), [(one["name"], one["error"]) for one in failed])
    page.heading("The bundle")
    page.facts(_facts(document, manifest))
    page.text(f"The same for programs: {DATA}, {TABLE}, {WINDOWS}.", note=True)
    make_private(folder)
    written = page.write(folder / PAGE)
    write_json(folder / DATA, dict(document))
    write_csv(folder / TABLE, COLUMNS, _rows(files))
    write_csv(folder / WINDOWS, WINDOW_COLUMNS, _window_rows(files))
    return written


def _named(files: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Each with a `name`: its path below the folder that all are in."""
    folders = {Path(one["path"]).parent for one in files}
    try:
        root = Path(os.path.commonpath(folders)) if len(files) > 1 else folders.pop()
    except ValueError:  # of some the folder is known from the root, of others not
        root = Path()
    return [
        {**one, "name": os.path.relpath(one["path"], root) if root.parts else one["path"]}
        for one in files
    ]


def _open(
    page: Page, files: Sequence[Mapping[str, Any]], judged: Sequence[Mapping[str, Any]]
) -> None:
    strange = [one for one in judged if one["verdict"] == "anomalous"]
    standing = sum(one["verdict"] == "not_counted" for one in judged)
    failed = sum(one["error"] is not None for one in files)
    words = [_counted(len(strange), len(judged))]
    if standing:
        words.append(f"in {standing} the machine stands still")
    if failed:
        words.append(f"{failed} could not be scored")
    whole = bool(judged) and not failed and not standing
    page.answer("; ".join(words) + ".", tone="bad" if strange else "good" if whole else "unknown")
    windows = [one for file in judged for one in file["windows"]]
    counted = [one for one in windows if one["verdict"] in {"normal", "anomalous"}]
    above = sum(one["verdict"] == "anomalous" for one in counted)
    highest = judged[0] if judged else None
    page.numbers((
        Number("Anomalous", f"{len(strange)} of {len(judged)}", "recordings above the threshold"),
        Number(
            "Highest score", f"{highest['score']:.2f}" if highest else "none",
            f"zone {_zone(highest)}; 1 is the threshold" if highest else "",
        ),
        Number("Windows above", f"{above} of {len(counted)}", "of those that count"),
    ))  # fmt: skip
    if len(judged) > 1:
        page.first_chart(
            "Score of each recording; click a dot whose sound is on this page",
            _by_recording(judged),
        )
    elif judged:
        page.first_chart("Score of each window", _over_time(judged[0]))


def _counted(strange: int, judged: int) -> str:
    if not judged:
        return "No recording could be judged"
    if judged == 1:
        return f"The recording is {'' if strange else 'not '}anomalous"
    return f"{strange or 'None'} of {judged} recordings {'are' if strange > 1 else 'is'} anomalous"


def _by_recording(judged: Sequence[Mapping[str, Any]]) -> Lines:
    shown = sorted(judged, key=lambda one: str(one["path"]))
    times = all_name_times([Path(one["path"]).name for one in shown])
    if times is not None:
        order = sorted(range(len(shown)), key=times.__getitem__)
        shown, times = [shown[n] for n in order], [times[n] for n in order]
    return Lines(
        x=[n + 1.0 for n in range(len(shown))]
        if times is None
        else [wall_seconds(at) for at in times],
        series=_by_verdict(shown),
        x_words="recording, in order of name" if times is None else "recorded at",
        y_words="anomaly score",
        wall=times is not None,
        names=[one["name"] for one in shown],
        level=(1.0, "threshold"),
    )


def _over_time(file: Mapping[str, Any]) -> Lines:
    windows = file["windows"]
    line = Series("score", [one["score"] for one in windows])
    return Lines(
        x=[one["start"] for one in windows],
        series=(line, *(one for one in _by_verdict(windows) if one.tone != "healthy")),
        x_words="window from, seconds",
        y_words="anomaly score",
        level=(1.0, "threshold"),
    )


def _by_verdict(judged: Sequence[Mapping[str, Any]]) -> tuple[Series, ...]:
    """Dots of a colour a verdict; verdicts that nobody got are left out."""
    return tuple(
        Series(
            verdict.replace("_", " "),
            [one["score"] if one["verdict"] == verdict else None for one in judged],
            tone,
            dots=True,
        )
        for verdict, tone in _VERDICTS
        if any(one["verdict"] == verdict for one in judged)
    )


def _strangest(
    page: Page,
    judged: Sequence[Mapping[str, Any]],
    manifest: Manifest,
    *,
    channel: int | None,
    sound: bool,
) -> None:
    page.heading("The strangest first")
    shown = judged[:_SHOWN]
    windows = [_worst(one) for one in shown]
    sounds = [
        _stretch(one["path"], window["start"], manifest, channel) if sound else _SILENCE
        for one, window in zip(shown, windows, strict=True)
    ]
    top = top_of([one for one in sounds if len(one)], _RATE)
    page.recordings([
        Card(
            one["name"], _caption(one, window),
            small_spectrogram(heard, _RATE, top) if len(heard) else None,
            player(heard, _RATE) if len(heard) else None,
            "bad" if one["verdict"] == "anomalous" else "",
        )
        for one, window, heard in zip(shown, windows, sounds, strict=True)
    ])  # fmt: skip
    if sound:
        page.text(
            f"Pictures: the strangest {manifest.window_seconds:g} s of each to the right, "
            "0 to 8 kHz upwards, bright is loud.",
            note=True,
        )


def _worst(file: Mapping[str, Any]) -> Mapping[str, Any]:
    """Its strangest window, of those that count where any does."""
    windows = [one for one in file["windows"] if one["score"] is not None]
    counted = [one for one in windows if one["verdict"] != "not_counted"]
    worst: Mapping[str, Any] = max(counted or windows, key=lambda one: one["score"])
    return worst


def _caption(file: Mapping[str, Any], window: Mapping[str, Any]) -> str:
    words = [f"{_said(file)}, score {file['score']:.2f}, zone {_zone(file)}"]
    words.append(f"strangest from {window['start']:g} s on: {window['score']:.2f}")
    if window["explanation"] is not None:
        words.append(window["explanation"]["text"])
    return "; ".join(words)


def _stretch(path: str, start: float, manifest: Manifest, channel: int | None) -> Samples:
    try:
        heard = open_recording(Path(path), manifest, channel)
        return read_stretch(path, start, manifest.window_seconds, rate=_RATE, channel=heard.channel)
    except AudioError:
        return _SILENCE


def _facts(document: Mapping[str, Any], manifest: Manifest) -> Sequence[tuple[str, str]]:
    return (
        ("Machine", document["machine"]),
        ("Bundle", f"{document['bundle']}, {manifest.digest}"),
        ("Preset", document["preset"]),
        ("Window", f"{document['window_seconds']:g} s every {document['hop_seconds']:g} s"),
        ("Threshold", f"1 on the scale shown; raw {document['raw_threshold']:.4g} of a window"),
        ("Learnt from", f"{plural(manifest.trained_on.recordings, 'healthy recording')}"),
    )


def _said(judged: Mapping[str, Any]) -> str:
    return str(judged["verdict"]).replace("_", " ")


def _zone(judged: Mapping[str, Any]) -> str:
    return str(judged["zone"].value)


def _rows(files: Sequence[Mapping[str, Any]]) -> Iterator[list[object]]:
    for one in files:
        known = one["score"] is not None
        yield [
            one["path"], one["score"], _zone(one) if known else None, one["raw_score"],
            one.get("raw_threshold"), one["p_value"], one["state"], one["verdict"],
            _worst(one)["start"] if known else None, one["error"],
        ]  # fmt: skip


def _window_rows(files: Sequence[Mapping[str, Any]]) -> Iterator[list[object]]:
    for file in files:
        for one in file["windows"]:
            yield [
                file["path"], one["start"], one["score"],
                _zone(one) if one["score"] is not None else None, one["raw_score"],
                one["raw_threshold"], one["p_value"], one["state"], one["verdict"],
                one["validity"], one["reason"],
            ]  # fmt: skip
