"""The first screen of evaluate's and benchmark's reports: verdict, numbers, picture."""

from __future__ import annotations

from collections.abc import Sequence

from agent.recordings.model import Machine
from agent.report.decisions import HEADINGS, domain_rows, first_numbers
from agent.report.page import Page
from agent.verdict.figures import ASSUMPTION
from export.report.clips import histogram
from export.results import Evaluation
from export.verdicts import headline, rule_worst
from export.wording import title


def open_with_verdict(page: Page, evaluation: Evaluation, machines: Sequence[Machine]) -> None:
    """Put the first screen on a page: the worst verdict on what one would deploy."""
    found = headline(evaluation, machines)
    if found.verdict is None:
        page.answer(found.text, tone="unknown")
        return
    page.verdict(found.verdict, of=found.subject)
    system = next(s for s in evaluation.systems if s.name == found.system)
    machine = next(m for m in machines if m.name == found.worst)
    ruling = rule_worst(evaluation, system, machine)
    assert ruling is not None
    page.numbers(first_numbers(ruling.figures["all"]))
    page.first_chart(
        f"Scores of {system.name} on {machine.name}: healthy clips stand on the axis, faulty ones "
        "hang from it; what lies right of the dashed threshold is called faulty",
        histogram(next(iter(evaluation.of(system, machine.name).values()))),
    )


def show_verdicts(page: Page, evaluation: Evaluation, machines: Sequence[Machine]) -> None:
    """Every system on every machine at its threshold, the worst of its seeds, by domain."""
    page.heading("What the thresholds do")
    rows: list[tuple[str, ...]] = []
    for machine in machines:
        for system in evaluation.systems:
            ruling = rule_worst(evaluation, system, machine)
            if ruling is None:
                continue
            for number, row in enumerate(domain_rows(ruling.figures)):
                # A domain's row stands below that of all clips, which names the rest.
                names = (machine.name, title(system), ruling.verdict.level)
                rows.append((*(names if number == 0 else ("", "", "")), *row))
    headings = ("machine", "system", "verdict", *HEADINGS)
    shown = [i for i in range(len(headings)) if any(row[i] not in {"-", ""} for row in rows)]
    page.table([headings[i] for i in shown], [[row[i] for i in shown] for row in rows])
    page.text(f"In brackets exact 95 % intervals. False alarms: {ASSUMPTION}.", note=True)
