"""What became of the promise: alarms by month, and how many a person answered "healthy"."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

from agent.core.errors import AuscultError
from agent.core.text import plural
from agent.evidence.record import alarm_folders, read_feedback, read_record
from agent.publish.device_payloads import MonthOfAlarms

_FRESH_SECONDS = 60.0


def month_words(month: MonthOfAlarms) -> str:
    """`2026-11: 3 alarms, 1 answered healthy, 2 not answered`."""
    text = f"{month.month}: {plural(month.alarms, 'alarm')}, {month.healthy} answered healthy"
    return f"{text}, {month.unanswered} not answered" if month.unanswered else text


def months(root: Path) -> list[MonthOfAlarms]:
    """A machine's alarms by month, the latest first.

    Args:
        root: The machine's evidence.
    """
    found: dict[str, list[str]] = {}
    for raised, verdict in _answers(root):
        found.setdefault(f"{raised:%Y-%m}", []).append(verdict)
    return [
        MonthOfAlarms(
            month=month,
            alarms=len(verdicts),
            healthy=verdicts.count("normal"),
            unanswered=verdicts.count(""),
        )
        for month, verdicts in sorted(found.items(), reverse=True)
    ]


def false_in(root: Path, now: datetime, days: float) -> int:
    """Alarms of the latest days that were answered `normal`.

    Args:
        root: The machine's evidence.
        now: The present, with its time zone.
        days: How far back.
    """
    since = now - timedelta(days=days)
    return sum(verdict == "normal" and raised >= since for raised, verdict in _answers(root))


class Answers:
    """A machine's alarms by month, read again now and then. Any thread.

    Args:
        root: The machine's evidence; None where none is kept.
    """

    def __init__(self, root: Path | None) -> None:
        self._root = root
        self._read: tuple[float, list[MonthOfAlarms]] | None = None

    @property
    def months(self) -> list[MonthOfAlarms]:
        """The latest first; at most a minute old."""
        now, known = time.monotonic(), self._read
        if self._root is None:
            return []
        if known is None or now - known[0] >= _FRESH_SECONDS:
            self._read = known = (now, months(self._root))
        return known[1]


def _answers(root: Path) -> list[tuple[datetime, str]]:
    """When each alarm rose, and what a person said: `normal`, `anomalous`, or nothing."""
    found: list[tuple[datetime, str]] = []
    for folder in alarm_folders(root):
        try:
            record, feedback = read_record(folder), read_feedback(folder)
        except AuscultError:
            continue  # damaged: told where it is looked at
        if record.asked:
            continue  # one window that a person answered, no alarm
        raised = datetime.fromisoformat(record.raised.replace("Z", "+00:00"))
        found.append(
            (raised.astimezone(timezone.utc), "" if feedback is None else feedback.verdict)
        )
    return found
