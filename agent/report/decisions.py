"""The first screen's numbers of a detector at its threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agent.report.page import Number
from agent.verdict.figures import DecisionFigures
from agent.verdict.report import (
    daily_amount,
    daily_words,
    delay_words,
    share_note,
    share_words,
)

HEADINGS = ("domain", "faults found", "false alarms", "false alarms a day", "delay")


def first_numbers(figures: DecisionFigures) -> tuple[Number, ...]:
    """Faults found, false alarms, and false alarms a day, each with its interval."""
    found, false = figures.found, figures.false
    day, note = daily_amount(figures.daily)
    return (
        Number(
            "Faults found",
            f"{found.hits} of {found.total}" if found.total else "none to find",
            share_note(found),
        ),
        Number("False alarms", f"{false.hits} of {false.total}", share_note(false)),
        Number("False alarms a day", day, note or "length unknown"),
    )


def domain_rows(figures: Mapping[str, DecisionFigures]) -> Sequence[tuple[str, ...]]:
    """A row for all clips and one a domain, under `HEADINGS`."""
    return [
        (
            place,
            share_words(own.found),
            share_words(own.false),
            daily_words(own.daily),
            delay_words(own.delay),
        )
        for place, own in figures.items()
    ]
