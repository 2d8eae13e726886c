"""What is seen while the agent listens; plain lines where there is no terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from export.demo.outcome import Heard, Record
from export.demo.stream import Stream

_ROWS = 10
_BARS = "▁▂▃▄▅▆▇█"
# Off a terminal: one line in so many windows, besides the alarms.
_EVERY = 20


class LiveView:
    """Shows a record as it grows. Use `update` inside `with view.shown():`.

    Args:
        console: Where.
        stream: What is being played.
        record: What has been received.
    """

    def __init__(self, console: Console, stream: Stream, record: Record) -> None:
        self._console = console
        self._stream = stream
        self._record = record
        self._live: Live | None = None

    def shown(self) -> Live:
        """The display, to be entered; silent off a terminal."""
        self._live = Live(
            console=self._console,
            refresh_per_second=8,
            get_renderable=self._picture,
            auto_refresh=self._console.is_terminal,
        )
        return self._live

    def update(self, what: Heard | str) -> None:
        """Take note of a window or an event just recorded."""
        if self._console.is_terminal:
            return
        if isinstance(what, Heard):
            if what.index % _EVERY == 0:
                self._console.print(self._line(what), highlight=False)
            return
        self._console.print(self._event(what), highlight=False)

    def _event(self, event: str) -> str:
        ends = self._record.raised if event == "raised" else self._record.cleared
        return f"  {ends[-1]:5.0f} s  ALARM {event} ({self._against_onset(ends[-1])})"

    def _against_onset(self, end: float) -> str:
        delay = end - self._stream.onset
        return f"{delay:.0f} s after the fault began" if delay > 0 else "no fault yet: false"

    def _line(self, heard: Heard) -> str:
        score = "invalid" if heard.score is None else f"{heard.score:.4f}"
        return (
            f"  {heard.end:5.0f} s  window {heard.index:4d}  score {score}  "
            f"threshold {heard.threshold:.4f}  {_truth(heard, self._stream)}, {heard.level}"
        )

    def _picture(self) -> RenderableType:
        if not self._console.is_terminal:
            return Text("")
        windows = self._record.windows
        table = Table(expand=False, pad_edge=False)
        for name in ("heard until", "window", "truth", "score", "threshold", "", "alarm"):
            table.add_column(name, justify="right" if name != "" else "left")
        for heard in windows[-_ROWS:]:
            above = "bold red" if heard.exceeded else "green"
            table.add_row(
                f"{heard.end:.0f} s",
                str(heard.index),
                _truth(heard, self._stream),
                Text("invalid" if heard.score is None else f"{heard.score:.4f}", style=above),
                f"{heard.threshold:.4f}",
                Text(_bar(heard), style=above),
                Text(heard.level, style="bold red" if heard.level == "alarm" else "green"),
            )
        parts: list[RenderableType] = [table, sparkline(windows, self._console.width - 4)]
        for end in self._record.raised:
            words = f"ALARM raised at {end:.0f} s: {self._against_onset(end)}"
            parts.append(Panel(words, style="bold red", expand=False))
        return Group(*parts)


def sparkline(windows: Sequence[Heard], width: int) -> Text:
    """All scores so far in one line, red above the threshold; the latest when they don't fit."""
    text = Text()
    shown = [w for w in windows if w.score is not None][-max(10, width) :]
    scores = [w.score for w in shown if w.score is not None]
    if not scores:
        return text
    low, high = min(scores), max(scores)
    for heard, score in zip(shown, scores, strict=True):
        step = int((score - low) / (high - low or 1.0) * (len(_BARS) - 1))
        text.append(_BARS[step], style="red" if heard.exceeded else "green")
    return text


def _bar(heard: Heard) -> str:
    if heard.score is None or heard.threshold <= 0:
        return ""
    return "█" * max(0, min(24, round(12 * heard.score / heard.threshold)))


def _truth(heard: Heard, stream: Stream) -> str:
    if heard.end <= stream.onset:
        return "healthy"
    return "faulty" if heard.start >= stream.onset else "onset"
