"""What was found and what was left out, for a person."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from agent.capture.files import audio_info
from agent.core.errors import AudioError
from agent.core.text import plural
from agent.recordings.model import Machine

# How many values of an attribute are shown before they are only counted.
_VALUES_SHOWN = 4
_ROUNDING = 1e-3  # seconds


def print_summary(
    machines: Sequence[Machine], console: Console, *, window_seconds: float = 0.0
) -> None:
    """Print both tables, the second only when something was left out, and of short recordings.

    Args:
        machines: Inspected.
        console: Where to.
        window_seconds: What the encoder hears at once, seconds; 0 says nothing of short recordings.
    """
    console.print(summary_table(machines))
    for machine in machines:
        note = short_note((recording.path for recording in machine.recordings), window_seconds)
        if note:
            console.print(f"[yellow]{escape(f'{machine.name}: {note}')}[/]", highlight=False)
    if any(machine.rejected for machine in machines):
        console.print(rejected_table(machines))


def short_note(paths: Iterable[Path], window_seconds: float) -> str:
    """What becomes of recordings shorter than a window; empty when there are none.

    Args:
        paths: Recordings; one that cannot be read is passed over.
        window_seconds: What the encoder hears at once, seconds.
    """
    short: list[tuple[float, Path]] = []
    for path in paths:
        with contextlib.suppress(AudioError):
            seconds = audio_info(path).seconds
            # A header's length may differ from the encoder's by a sample's rounding.
            if seconds < window_seconds - _ROUNDING:
                short.append((seconds, path))
    if not short:
        return ""
    seconds, path = min(short)
    return (
        f"{plural(len(short), 'recording')} shorter than the {window_seconds:g} s that are heard "
        f"at once (the shortest: {path.name}, {seconds:.3g} s): each is repeated until it fills "
        f"them. Recordings of {window_seconds:g} s or more say more of the machine"
    )


def summary_table(machines: Sequence[Machine]) -> Table:
    """One row a machine: recordings by role and domain, how many were left out, attributes."""
    # So that no heading is cut off where 80 columns are all there is.
    table = Table(title="Recordings", collapse_padding=True)
    table.add_column("machine")
    for heading in ("healthy", "idle", "noise", "clean", "test\nnormal", "test\nanomaly"):
        table.add_column(heading, justify="right")
    unlabelled = any(r.label is None for machine in machines for r in machine.of("test"))
    if unlabelled:
        table.add_column("test\nunknown", justify="right")
    table.add_column("left\nout", justify="right")
    table.add_column("attributes")
    for machine in machines:
        labels = Counter(r.label for r in machine.of("test"))
        cells = [
            escape(machine.name),
            _healthy(machine),
            *(str(len(machine.of(role))) for role in ("idle", "noise", "clean")),
            str(labels["normal"]),
            str(labels["anomaly"]),
        ]
        if unlabelled:
            cells.append(str(labels[None]))
        left_out = len(machine.rejected)
        cells += [f"[yellow]{left_out}[/]" if left_out else "0", escape(_attributes(machine))]
        table.add_row(*cells)
    return table


def rejected_table(machines: Sequence[Machine]) -> Table:
    """One row a file left out: why, and what to do about it."""
    table = Table(title="Left out")
    # A path that is folded can still be copied; one cut off cannot.
    table.add_column("file", overflow="fold")
    table.add_column("reason")
    table.add_column("what to do")
    for machine in machines:
        for fault in machine.rejected:
            path = f"{machine.name}/{fault.path.relative_to(machine.root).as_posix()}"
            table.add_row(escape(path), escape(fault.reason), escape(fault.remedy))
    return table


def _healthy(machine: Machine) -> str:
    domains = Counter(r.domain for r in machine.of("normal"))
    total = sum(domains.values())
    known = {name: count for name, count in domains.items() if name != "unknown"}
    if not known:
        return str(total)
    return f"{total} ({', '.join(f'{count} {name}' for name, count in sorted(domains.items()))})"


def _attributes(machine: Machine) -> str:
    values: dict[str, set[str]] = {}
    for recording in machine.of("normal"):
        for name, value in recording.attributes.items():
            values.setdefault(name, set()).add(value)
    shown = [
        f"{name}: {', '.join(sorted(found))}"
        if len(found) <= _VALUES_SHOWN
        else f"{name}: {len(found)} values"
        for name, found in sorted(values.items())
    ]
    return "; ".join(shown) or "none"
