"""Decision figures and verdicts as JSON, as CSV, and in words."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from agent.verdict.figures import ASSUMPTION, DAY, DailyRate, DecisionFigures, Delay, Share
from agent.verdict.verdict import Verdict

COLUMNS = (
    "domain", "faults", "found", "recall", "recall_low", "recall_high",
    "healthy", "false_alarms", "false_share", "false_share_low", "false_share_high",
    "healthy_days", "false_alarms_per_day", "per_day_low", "per_day_high",
    "fault_episodes", "episodes_noticed", "median_delay_seconds",
)  # fmt: skip


def figures_json(figures: DecisionFigures) -> dict[str, Any]:
    """For a JSON file: shares as fractions, times in seconds, null where there is nothing."""
    daily, delay = figures.daily, figures.delay
    return {
        "faults": figures.found.total,
        "found": figures.found.hits,
        "recall": figures.found.value,
        "recall_interval": _pair(figures.found.interval),
        "healthy": figures.false.total,
        "false_alarms": figures.false.hits,
        "false_alarm_share": figures.false.value,
        "false_alarm_share_interval": _pair(figures.false.interval),
        "healthy_seconds": None if daily is None else daily.seconds,
        "false_alarms_per_day": None if daily is None else daily.per_day,
        "false_alarms_per_day_interval": None if daily is None else list(daily.interval),
        "delay": None
        if delay is None
        else {
            "episodes": delay.episodes,
            "noticed": len(delay.seconds),
            "seconds": list(delay.seconds),
        },
    }


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    """For a JSON file."""
    return {
        "level": verdict.level,
        "text": verdict.text(),
        "counts": verdict.counts,
        "reasons": list(verdict.reasons),
        "record": list(verdict.record),
    }


def rehearsal_json(figures: Mapping[str, DecisionFigures], ruling: Verdict) -> dict[str, Any]:
    """What thresholds found without each recording would have done, for a JSON file."""
    return {
        "at_threshold": {place: figures_json(own) for place, own in figures.items()},
        "verdict": verdict_json(ruling),
        "false_alarms_per_day": ASSUMPTION,
    }


def rehearsal_words(figures: Mapping[str, DecisionFigures]) -> str:
    """What thresholds found without each recording would have done, in a line."""
    whole = figures["all"]
    text = (
        "healthy recordings, each held against a threshold found without it: "
        f"{share_words(whole.false)} false alarms"
    )
    return text if whole.daily is None else f"{text}, {daily_words(whole.daily)} a day"


def csv_rows(figures: Mapping[str, DecisionFigures]) -> list[list[object]]:
    """A row a domain, in the order of `COLUMNS`; empty where there is nothing."""
    rows = []
    for domain, own in figures.items():
        daily, delay = own.daily, own.delay
        noticed = None if delay is None or not delay.seconds else median(delay.seconds)
        rows.append(
            [
                domain, own.found.total, own.found.hits, own.found.value, *_ends(own.found),
                own.false.total, own.false.hits, own.false.value, *_ends(own.false),
                None if daily is None else daily.seconds / DAY,
                None if daily is None else daily.per_day,
                *((None, None) if daily is None else daily.interval),
                None if delay is None else delay.episodes,
                None if delay is None else len(delay.seconds),
                noticed,
            ]
        )  # fmt: skip
    return rows


def write_csv(path: Path, headings: Sequence[str], rows: Iterable[Sequence[object]]) -> Path:
    """Write a table with a line of headings.

    Returns:
        `path`.
    """
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(headings)
        writer.writerows(rows)
    return path


def share_words(share: Share) -> str:
    """`4 of 100 (4 %, 1 to 10 %)`; a dash of nothing."""
    note = share_note(share)
    return f"{share.hits} of {share.total} ({note})" if note else "-"


def share_note(share: Share) -> str:
    """`4 %, 1.1 to 9.93 %`: the share and its interval; empty of nothing."""
    if share.interval is None or share.value is None:
        return ""
    low, high = share.interval
    return f"{100 * share.value:.3g} %, {100 * low:.2g} to {100 * high:.3g} %"


def daily_words(daily: DailyRate | None) -> str:
    """`605 (243 to 1246)`, false alarms a day; a dash where that is not known."""
    value, note = daily_amount(daily)
    return f"{value} ({note})" if note else value


def delay_words(delay: Delay | None) -> str:
    """Median and longest delay, and episodes that nothing noticed."""
    if delay is None:
        return "-"
    if not delay.seconds:
        return f"none of {delay.episodes} noticed"
    text = f"{median(delay.seconds):.0f} s"
    if len(delay.seconds) > 1:
        text += f", at most {max(delay.seconds):.0f} s"
    return f"{text}, {delay.missed} of {delay.episodes} not noticed" if delay.missed else text


def daily_amount(daily: DailyRate | None) -> tuple[str, str]:
    """False alarms a day and their interval: `605`, `243 to 1246`; a dash and nothing."""
    if daily is None:
        return "-", ""
    low, high = daily.interval
    return _amount(daily.per_day), f"{_amount(low)} to {_amount(high)}"


def _amount(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def _ends(share: Share) -> tuple[float | None, float | None]:
    return (None, None) if share.interval is None else share.interval


def _pair(interval: tuple[float, float] | None) -> list[float] | None:
    return None if interval is None else list(interval)
