"""What the hygiene stage found, on a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from agent.hygiene.stage import Inspection

# Told before a training; the others are for `auscult inspect` and the page.
_QUIET = frozenset({"promise", "offset"})


def print_notes(inspection: Inspection, console: Console, *, everything: bool) -> None:
    """Print a line for each note, the serious ones first.

    Args:
        inspection: Of one machine.
        console: Where to.
        everything: Also what is only worth knowing.
    """
    for note in sorted(inspection.record.notes, key=lambda note: not note.serious):
        if everything or note.serious or note.kind not in _QUIET:
            colour = "yellow" if note.serious else "dim"
            text = escape(f"{inspection.machine.name}: {note.text}")
            console.print(f"[{colour}]{note.kind}[/] {text}", highlight=False)
