"""Tables of what a hop that follows the machine changes: by machine, by fault, and at thresholds
that are lower than the agent's, where there is something to count."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import binomtest, chi2

HEALTHY = ("healthy", "cycles", "noisy", "knocks", "starts")
FAULTY = ("fault", "fault, noisy", "fault, slow")
#: One stream, heard one way at thresholds of one height.
Line = dict[str, Any]
_REPEATS = 2000


def _table(title: str, *headings: str) -> Table:
    table = Table(title=title, title_justify="left")
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number else "left")
    return table


def _total(lines: Sequence[Line], way: str, what: Callable[[Line], float]) -> float:
    """The mean count of a way over its phases, which hear the same hours."""
    some = [one for one in lines if one["way"] == way]
    return sum(map(what, some)) / max(1, len({one["phase"] for one in some}))


def _alarms(one: Line) -> int:
    return len(one["alarms"])


def _alerts(one: Line) -> int:
    return len(one["alerts"])


def most_a_day(count: float, hours: float) -> float:
    """95 % upper bound of a Poisson rate, events a day."""
    return 24 * float(chi2.ppf(0.95, 2 * count + 2)) / 2 / hours


def healthy_table(lines: Sequence[Line]) -> Table:
    """What each machine's hours without a fault come to, by the agent's own thresholds."""
    table = _table(
        "Without a fault: at 1 s, and with auto", "machine", "hours", "alarms", "alerts",
        "at most a day (95 %)", "windows", "called an hour", "trigger to window",
    )  # fmt: skip
    healthy = [one for one in lines if one["kind"] in HEALTHY and one["fraction"] == 1.0]
    for name in (*dict.fromkeys(one["machine"] for one in healthy), "all"):
        some = [one for one in healthy if name in (one["machine"], "all")]
        hours = _total(some, "1 s", lambda one: one["seconds"]) / 3600
        waits = [wait for one in some if one["way"] == "auto" for wait in one["waits"]]
        table.add_row(
            name, f"{hours:.2f}",
            *(
                f"{_total(some, '1 s', of):.0f}, {_total(some, 'auto', of):.0f}"
                for of in (_alarms, _alerts)
            ),
            f"{most_a_day(_total(some, 'auto', _alarms), hours):.2g}",
            f"{_total(some, 'auto', _windows) / _total(some, '1 s', _windows):.0%}",
            f"{_total(some, 'auto', lambda one: one['called']) / hours:.1f}",
            f"{len(waits)}, at most {max(waits, default=0.0):.2f} s",
        )  # fmt: skip
    return table


def _windows(one: Line) -> int:
    return int(one["windows"])


def fault_table(lines: Sequence[Line]) -> Table:
    """How soon faults are told, in seconds from the onset, each against the same at 1 s."""
    table = _table(
        "Faults: told; seconds from the onset", "kind", "strength", "faults", "told: 1 s, auto",
        "median", "later than 1 s", "sooner", "mean of both", "only auto", "only 1 s",
    )  # fmt: skip
    pairs = _pairs([one for one in lines if one["fraction"] == 1.0], FAULTY, "delay")
    for kind, strength in sorted({key[1:3] for key in pairs}):
        table.add_row(
            kind, strength,
            *_compared([pair for key, pair in pairs.items() if key[1:3] == (kind, strength)]),
        )  # fmt: skip
    table.add_row("all", "", *_compared(list(pairs.values())))
    return table


def _pairs(
    lines: Sequence[Line], kinds: Sequence[str], what: str
) -> dict[tuple[str, ...], tuple[Any, Any]]:
    """Pairs of a stream at 1 s and with `auto`, by machine, kind, strength and name."""
    found: dict[tuple[str, ...], dict[str, Any]] = defaultdict(dict)
    for one in lines:
        if one["kind"] in kinds:
            key = (one["machine"], one["kind"], one["strength"], one["stream"])
            found[key][one["way"]] = one[what]
    return {key: (by["1 s"], by["auto"]) for key, by in found.items()}


def _compared(pairs: Sequence[tuple[float | None, float | None]]) -> tuple[str, ...]:
    both = [(a, b) for a, b in pairs if a is not None and b is not None]
    later = [b - a for a, b in both if b - a > 0.5]
    return (
        str(len(pairs)),
        f"{sum(a is not None for a, _ in pairs)}, {sum(b is not None for _, b in pairs)}",
        f"{np.median([a for a, _ in both]):.0f}, {np.median([b for _, b in both]):.0f}"
        if both else "",
        f"{len(later)}, at most {max(later, default=0):.0f} s",
        str(sum(b - a < -0.5 for a, b in both)),
        f"{np.mean([b - a for a, b in both]):+.1f} s" if both else "",
        str(sum(a is None and b is not None for a, b in pairs)),
        str(sum(a is not None and b is None for a, b in pairs)),
    )  # fmt: skip


def occasion_table(lines: Sequence[Line]) -> Table:
    """Doubled gain, knocks and quiet starts, by the agent's own thresholds."""
    table = _table(
        "What is no fault", "occasion", "machines", "alarms: 1 s, auto", "a change of level told",
        "seconds later than 1 s",
    )  # fmt: skip
    for kind in ("gain", "knocks", "starts"):
        some = [one for one in lines if one["kind"] == kind and one["fraction"] == 1.0]
        told = _pairs(some, (kind,), "levels")
        late = [b[0] - a[0] for a, b in told.values() if a and b]
        table.add_row(
            kind, str(len(told)),
            f"{_total(some, '1 s', _alarms):.0f}, {_total(some, 'auto', _alarms):.0f}",
            f"{sum(bool(a) for a, _ in told.values())}, {sum(bool(b) for _, b in told.values())}",
            f"{min(late):+.0f} to {max(late):+.0f}" if late else "",
        )  # fmt: skip
    return table


def lowered_table(lines: Sequence[Line]) -> Table:
    """Alarms and alerts where thresholds lie at a fraction of their height, each against 1 s.

    The ratio's interval draws machines anew: hours of one are alike.
    """
    table = _table(
        "Thresholds at a fraction of their height: 1 s, auto", "fraction", "alarms", "ratio (95 %)",
        "alerts", "ratio (95 %)", "machines with more, fewer", "windows", "faults told", "later",
    )  # fmt: skip
    for fraction in sorted({one["fraction"] for one in lines}, reverse=True):
        some = [one for one in lines if one["fraction"] == fraction]
        well = [one for one in some if one["kind"] in HEALTHY]
        delays = _pairs(some, FAULTY, "delay")
        compared = _compared(list(delays.values()))
        table.add_row(
            f"{fraction:g}",
            *(
                text
                for of in (_alarms, _alerts)
                for text in (
                    f"{_total(well, '1 s', of):.0f}, {_total(well, 'auto', of):.0f}",
                    _ratio(well, of),
                )
            ),
            _more_and_fewer(well),
            f"{_total(well, 'auto', _windows) / _total(well, '1 s', _windows):.0%}",
            compared[1], compared[3],
        )  # fmt: skip
    return table


def _ratio(lines: Sequence[Line], what: Callable[[Line], float]) -> str:
    names = sorted({one["machine"] for one in lines})
    by = np.array([
        [_total([one for one in lines if one["machine"] == name], way, what) for name in names]
        for way in ("1 s", "auto")
    ])  # fmt: skip
    if not by[0].sum():
        return ""
    drawn = np.random.default_rng(0).integers(len(names), size=(_REPEATS, len(names)))
    each, auto = by[:, drawn].sum(axis=2)
    low, high = np.quantile(auto[each > 0] / each[each > 0], [0.025, 0.975])
    return f"{by[1].sum() / by[0].sum():.2f} ({low:.2f} to {high:.2f})"


def _more_and_fewer(lines: Sequence[Line]) -> str:
    """Machines whose false alarms are more with `auto` than at 1 s, and fewer: a sign test."""
    names = sorted({one["machine"] for one in lines})
    away = [
        _total(some, "auto", _alarms) - _total(some, "1 s", _alarms)
        for name in names
        for some in [[one for one in lines if one["machine"] == name]]
    ]
    more, fewer = sum(one > 0 for one in away), sum(one < 0 for one in away)
    chance = binomtest(more, more + fewer).pvalue if more + fewer else 1.0
    return f"{more}, {fewer} (p = {chance:.2f})"


def print_tables(lines: Sequence[Line]) -> None:
    """Print all tables."""
    console = Console(width=160)
    for table in (healthy_table, fault_table, occasion_table, lowered_table):
        console.print(table(lines))
