"""The report of a training: what was listened to, what was left out, and how the loss fell."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from agent.capture.files import read_audio
from agent.core.errors import AudioError
from agent.core.records import Samples
from agent.learn.rehearsal import Rehearsal
from agent.recordings.summary import short_note
from agent.verdict.figures import ASSUMPTION
from trainer.report.decisions import domain_rows, first_numbers
from trainer.report.page import Page, flac
from trainer.report.paint import draw, histogram, losses, loudest, spectrogram
from trainer.run import RunRecord

REPORT = "report.html"
# What is shown of a recording.
_SECONDS, _RATE = 10.0, 16000
_SHOWN = 4


def write_report(folder: Path, record: RunRecord, rehearsal: Rehearsal | None = None) -> Path:
    """Write `report.html` into a run folder.

    Args:
        folder: The run folder.
        record: Its record; the recordings must still be where it says.
        rehearsal: What its threshold would have done with its recordings; None where nobody knows.

    Returns:
        The page.
    """
    page = Page(f"auscult train: {record.machine}", heading=f"What was learnt of {record.machine}")
    if rehearsal is None or not rehearsal.clips:
        page.answer(
            "Too few healthy recordings to say what its threshold would do.", tone="unknown"
        )
    else:
        _rehearsed(page, rehearsal)
    healthy = [r for r in record.recordings if r.role in {"normal", "clean"}]
    paths = [Path(record.root) / r.path for r in record.recordings]
    page.facts(
        [
            ("Preset", f"{record.preset.name}: {record.preset.summary}"),
            ("Follows", record.preset.source),
            ("Healthy recordings", str(len(healthy))),
            ("Other recordings", _others(record)),
            ("Left out", str(len(record.rejected))),
            ("Short", short_note(paths, record.preset.window.seconds) or "none"),
            ("Classes", f"{record.classes}: {record.class_rule}" if record.classes else "none"),
            ("Seed", str(record.seed)),
            ("Took", f"{record.seconds:.0f} s"),
            ("auscult", f"{record.auscult_version}, {record.created}"),
        ]
    )
    if record.losses:
        page.picture("Loss of each epoch", draw((10, 3), losses(record.losses)))
    conditions = Counter(
        (r.domain, ", ".join(f"{key} {value}" for key, value in sorted(r.attributes.items())))
        for r in healthy
    )
    page.heading("Operating conditions")
    page.table(
        ("domain", "attributes", "recordings"),
        [(domain, what or "-", str(n)) for (domain, what), n in sorted(conditions.items())],
    )
    sounds = _sounds(Path(record.root), [r.path for r in healthy], record.channel)
    if sounds:
        page.heading("How it sounds when healthy")
        page.text("If one of these does not sound healthy to you, take it out and train again.")
        top = loudest([sound for _, sound in sounds])
        page.cards(
            [
                (name, draw((5, 2.8), spectrogram(sound, _RATE, "", top)), _player(sound))
                for name, sound in sounds
            ]
        )
    if record.rejected:
        page.heading("Left out")
        page.table(("recording", "why"), sorted(record.rejected.items()))
    return page.write(folder / REPORT)


def _rehearsed(page: Page, rehearsal: Rehearsal) -> None:
    ruined = "" if rehearsal.agreement is None else rehearsal.agreement.ruined
    if ruined:
        page.answer(ruined, tone="bad")
    else:
        page.verdict(rehearsal.ruling, of="on the healthy recordings, each left out,")
    page.numbers(first_numbers(rehearsal.figures["all"]))
    page.first_picture(
        "Scores of the healthy recordings, each with itself left out, and the threshold that they "
        "give together",
        draw((6.8, 3.0), histogram(rehearsal.scores, rehearsal.threshold, "recordings")),
    )
    if len(rehearsal.figures) > 1:
        rows = domain_rows(rehearsal.figures)
        page.table(
            ("domain", "false alarms", "false alarms a day"), [(r[0], r[2], r[3]) for r in rows]
        )
    page.text(
        "Each recording was held against a threshold found without it. Faults are judged by export "
        f"and evaluate. False alarms: {ASSUMPTION}.",
        note=True,
    )


def _others(record: RunRecord) -> str:
    counts = Counter(r.role for r in record.recordings if r.role not in {"normal", "clean"})
    return ", ".join(f"{n} {role}" for role, n in sorted(counts.items())) or "none"


def _sounds(root: Path, paths: list[str], channel: int | None) -> list[tuple[str, Samples]]:
    """A few recordings from all over the list, those that can still be read."""
    found = []
    for i in np.unique(np.linspace(0, len(paths) - 1, _SHOWN).astype(int)) if paths else []:
        try:
            sound = read_audio(root / paths[i], rate=_RATE, channel=channel, seconds=_SECONDS)
        except AudioError:
            continue
        found.append((paths[i], sound))
    return found


def _player(sound: Samples) -> bytes:
    return flac(sound * (0.8 / max(1e-6, float(np.abs(sound).max()))), _RATE)
