"""The report of what a device has learnt: the machine and its threshold, without torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from agent.core.storage import make_private, write_json
from agent.core.text import local_time
from agent.learn.learn import Learnt
from agent.learn.report import report_data, told
from agent.report.machine import COLUMNS, csv_rows, heard_of, open_page, show_machine
from agent.report.page import Page
from agent.verdict.report import write_csv

PAGE, DATA, TABLE = "report.html", "report.json", "recordings.csv"


def write_report(
    done: Learnt, folder: Path, *, channel: int | None = None, sound: bool = True
) -> Path:
    """Write `report.html`, and the same as `report.json` and `recordings.csv`, into a folder.

    Args:
        done: What was learnt; the recordings must still be where they were.
        folder: The folder; made where it lacks.
        channel: Channel in use; None averages.
        sound: Put the least typical recordings into the page, to listen to.

    Returns:
        The page.

    Raises:
        BundleError: It cannot be written.
        OSError: The folder cannot be made.
    """
    manifest, inspection, rehearsal = done.manifest, done.inspection, done.rehearsal
    heard = heard_of(inspection, rehearsal)
    page = Page(
        f"auscult learn: {manifest.machine}", heading=f"What was learnt of {manifest.machine}"
    )
    open_page(page, inspection, rehearsal, heard)
    show_machine(page, inspection, rehearsal, heard, channel=channel, sound=sound)
    page.heading("What the threshold promises, and sees")
    for _, line in told(manifest, rehearsal, done.healthy_hours):
        page.text(line.removeprefix("note: "))
    page.heading("The bundle")
    page.facts(_facts(done))
    page.text(f"The same for programs: {DATA}, {TABLE}.", note=True)
    make_private(folder)
    written = page.write(folder / PAGE)
    write_json(folder / DATA, report_data(done))
    threshold = rehearsal.threshold if rehearsal.clips else None
    write_csv(folder / TABLE, COLUMNS, csv_rows(heard, inspection, threshold))
    return written


def _facts(done: Learnt) -> Sequence[tuple[str, str]]:
    manifest = done.manifest
    trained, limit = manifest.trained_on, manifest.threshold
    return (
        ("Machine", manifest.machine),
        ("Bundle", manifest.digest),
        ("Learnt", local_time(manifest.created)),
        ("Preset", trained.preset),
        ("Encoder", f"{manifest.encoder.kind}, {manifest.encoder.precision}"),
        ("Healthy recordings", f"{trained.recordings}, {trained.seconds / 60:.1f} min"),
        ("Threshold", f"{limit.value:.4g}: {limit.method}"),
        ("Left out", str(len(done.inspection.machine.rejected))),
        ("Size", f"{sum(one.size for one in manifest.files.values()) / 1e6:.2f} MB"),
    )
