"""A page's section on what the reports published of the same machines."""

from __future__ import annotations

from collections.abc import Sequence

from agent.recordings.model import Machine
from agent.report.page import Page
from export.published import beside, beside_rows
from export.results import Evaluation


def show_beside(page: Page, evaluation: Evaluation, machines: Sequence[Machine]) -> None:
    """Add the section where the data are those that the reports' tables are of.

    Args:
        page: The page.
        evaluation: What was found.
        machines: With their recordings.
    """
    found, remark = beside(evaluation, machines)
    if not found:
        return
    page.heading("Beside what the reports published")
    page.table(*beside_rows(found))
    if remark:
        page.text(remark, note=True)
