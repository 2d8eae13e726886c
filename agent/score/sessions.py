"""Recordings that were made in one go, and what is left out together when healthy sound is judged.

Recordings of one evening are alike: each is close to its neighbours, and a threshold found by
leaving out one recording at a time knows nothing of what changes from one day to the next. Where
names tell when recordings were made, a whole session is left out at a time instead.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta

from agent.bundle.manifest import Row
from agent.core.name_time import name_time
from agent.core.text import plural

# Nothing recorded for so long: what comes next is another session.
GAP = timedelta(hours=4)
# What goes on for longer than this is divided by days.
_LONGEST = timedelta(hours=24)
# A session is left out whole only if at least this share of the recordings remains, and so many.
_REMAINING, _LEAST = 0.25, 4
# What to do about recordings of a single session.
OTHER_DAY = (
    "record the machine on another day and train again, or let the bundle listen in shadow first "
    "(`commission: {}` of the machine, docs/guide/commissioning.md)"
)


def session_names(names: Sequence[str]) -> list[str]:
    """The session of each recording, named by the time it began.

    A session ends where nothing was recorded for four hours; one that goes on for more than a day
    is divided at midnight.

    Args:
        names: Paths of the recordings, as far as their folders are meant to be read.

    Returns:
        `2026-03-02T23:42`, say; empty where a name tells no time.
    """
    times = [name_time(name) for name in names]
    order = sorted((time, i) for i, time in enumerate(times) if time is not None)
    runs: list[list[tuple[datetime, int]]] = []
    for time, i in order:
        if runs and time - runs[-1][-1][0] <= GAP:
            runs[-1].append((time, i))
        else:
            runs.append([(time, i)])
    found = [""] * len(names)
    for run in runs:
        long = run[-1][0] - run[0][0] > _LONGEST
        starts: dict[object, datetime] = {}
        for time, i in run:
            start = starts.setdefault(time.date() if long else None, time)
            found[i] = f"{start:%Y-%m-%dT%H:%M}"
    return found


def left_out_with(rows: Sequence[Row]) -> list[str]:
    """What is left out together with each row when it is judged as sound never heard.

    That is its session, where its operating condition (domain, section, attributes) was recorded in
    another session too (else the score would be that of an unknown condition) and enough remains to
    compare with; its recording otherwise.

    Args:
        rows: Of a bank.

    Returns:
        A name for each; equal names are left out together.
    """
    recordings = {row.group: row for row in rows}
    of_session = Counter(row.session for row in recordings.values())
    total = len(recordings)
    where: defaultdict[tuple[object, ...], set[str]] = defaultdict(set)
    for row in recordings.values():
        where[_condition(row)].add(row.session)

    def whole(row: Row) -> bool:
        rest = total - of_session[row.session]
        known = {name for name in where[_condition(row)] if name}
        return bool(row.session) and rest >= max(_LEAST, _REMAINING * total) and len(known) > 1

    return [f"session {row.session}" if whole(row) else f"recording {row.group}" for row in rows]


def sessions_of(rows: Sequence[Row]) -> tuple[str, ...]:
    """The sessions that are left out whole, ascending; none where recordings are."""
    units = left_out_with(rows)
    named = zip(units, rows, strict=True)
    return tuple(sorted({row.session for unit, row in named if unit == f"session {row.session}"}))


def one_session(rows: Sequence[Row]) -> str:
    """When all recordings of a bank are of one session, what that means for a promise; else empty.

    Where names tell no times nothing is known, and nothing is said.
    """
    names = {row.session for row in rows}
    recordings = len({row.group for row in rows})
    if len(names) != 1 or "" in names or recordings < 2:
        return ""
    return (
        f"all {recordings} recordings are of one session (from {_told(names.pop())} on): nothing "
        "is promised for other days, which may be above the threshold from their first minute on"
    )


def session_note(rows: Sequence[Row]) -> str:
    """What the sessions of a bank leave unknown, for people; empty where there are enough."""
    names = {row.session for row in rows}
    recordings = len({row.group for row in rows})
    if "" in names or recordings < 2:
        return ""
    if one := one_session(rows):
        return f"ONE SESSION: {one}; {OTHER_DAY}"
    left_out = sessions_of(rows)
    if not left_out:
        return (
            f"the {len(names)} sessions were not recorded in the same conditions, or all but one "
            "are too short: the threshold knows nothing of what changes from day to day; record "
            "each condition on several days"
        )
    if len(left_out) < _LEAST:
        return (
            f"what changes from day to day is known from {plural(len(left_out), 'session')} only "
            f"({', '.join(_told(name) for name in left_out)}): record the machine on more days"
        )
    return ""


def _told(session: str) -> str:
    return session.replace("T", " ")


def _condition(row: Row) -> tuple[object, ...]:
    return (row.domain, row.section, tuple(sorted(row.attributes.items())))
