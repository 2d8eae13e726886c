"""The report of a training: the machine by its recordings, and what was learnt of it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from agent.hygiene.stage import Inspection
from agent.learn.rehearsal import Rehearsal
from agent.recordings.summary import short_note
from agent.report.charts import loss_chart
from agent.report.decisions import domain_rows
from agent.report.machine import COLUMNS, csv_rows, heard_of, open_page, show_machine
from agent.report.page import Page
from agent.verdict.figures import ASSUMPTION
from agent.verdict.report import write_csv
from trainer.run import RunRecord

REPORT, TABLE = "report.html", "recordings.csv"


def write_report(
    folder: Path, record: RunRecord, inspection: Inspection, rehearsal: Rehearsal | None = None
) -> Path:
    """Write `report.html` and `recordings.csv` into a run folder.

    Args:
        folder: The run folder.
        record: Its record.
        inspection: What was found of its recordings, which must still be where they were.
        rehearsal: What its threshold would have done with its recordings; None where nobody knows.

    Returns:
        The page.
    """
    heard = heard_of(inspection, rehearsal)
    page = Page(f"auscult train: {record.machine}", heading=f"What was learnt of {record.machine}")
    open_page(page, inspection, rehearsal, heard)
    show_machine(page, inspection, rehearsal, heard, channel=record.channel)
    if rehearsal is not None and len(rehearsal.figures) > 1:
        page.heading("False alarms by domain")
        rows = domain_rows(rehearsal.figures)
        page.table(
            ("domain", "false alarms", "false alarms a day"), [(r[0], r[2], r[3]) for r in rows]
        )
        page.text(f"False alarms: {ASSUMPTION}.", note=True)
    healthy = [r for r in record.recordings if r.role in {"normal", "clean"}]
    conditions = Counter(
        (r.domain, ", ".join(f"{key} {value}" for key, value in sorted(r.attributes.items())))
        for r in healthy
    )
    page.heading("Operating conditions")
    page.table(
        ("domain", "attributes", "recordings"),
        [(domain, what or "-", str(n)) for (domain, what), n in sorted(conditions.items())],
    )
    page.heading("The training")
    if record.losses:
        page.chart("Mean loss of each epoch", loss_chart(record.losses), size="small")
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
    page.text(f"The same for programs: run.json, decisions.json, {TABLE}.", note=True)
    threshold = rehearsal.threshold if rehearsal is not None and rehearsal.clips else None
    write_csv(folder / TABLE, COLUMNS, csv_rows(heard, inspection, threshold))
    return page.write(folder / REPORT)


def _others(record: RunRecord) -> str:
    counts = Counter(r.role for r in record.recordings if r.role not in {"normal", "clean"})
    return ", ".join(f"{n} {role}" for role, n in sorted(counts.items())) or "none"
