"""`auscult record`: labelled recordings to train with."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.commands.options import Written
from agent.core.program import next_command
from agent.core.text import plural

if TYPE_CHECKING:
    from agent.capture.level import Level
    from agent.capture.microphone import Microphone
    from agent.capture.recorder import Take

# Quieter than this, dBFS RMS, a recording is kept but the gain is worth a look.
_QUIET_DBFS = -70.0
# Without a terminal, a line each, seconds.
_LINE_SECONDS = 10.0


@click.command(short_help="Record a machine, to train with.")
@click.option(
    "--device",
    required=True,
    help="Microphone: part of its name, hw:CARD=ID,DEV=0 or usb:SOCKET (see `auscult devices`).",
)
@click.option(
    "--label",
    required=True,
    type=click.Choice(["healthy", "idle", "noise"]),
    help="What is heard: the healthy machine, the machine standing, its surroundings alone.",
)
@click.option(
    "--seconds", required=True, type=click.FloatRange(min=1), help="Sound to record, seconds."
)
@click.option(
    "--out",
    required=True,
    type=Written(file=False),
    help="The machine's folder; recordings go to its normal/, idle/ or noise/.",
)
@click.option(
    "--clip-seconds",
    type=click.FloatRange(min=10),
    default=60.0,
    show_default=True,
    help="Longest recording; then a new one is begun.",
)
@click.option(
    "--channel", type=click.IntRange(min=0), help="Channel, from 0.  [default: average of all]"
)
@click.option("--rate", type=click.IntRange(min=1), help="Rate, Hz.  [default: the device's own]")
def record(
    device: str,
    label: str,
    seconds: float,
    out: Path,
    clip_seconds: float,
    channel: int | None,
    rate: int | None,
) -> None:
    """Record labelled sound as FLAC, with a JSON beside each, in the layout that `train` reads.

    Sound that is silent or clipped ends it with what to do, and is not kept; so do channels that
    should not be averaged (one dead, humming, clipped or wired the other way round), and a
    microphone that fails. Ctrl-C ends it and keeps what is recorded, from 10 seconds on.
    """
    from pydantic import ValidationError

    from agent import __version__
    from agent.capture.microphone import Microphone
    from agent.capture.probe import probe
    from agent.capture.recorder import Recorder
    from agent.config.capture import MicrophoneSource
    from agent.core.errors import ConfigError
    from agent.core.schema import explain

    try:
        config = MicrophoneSource(device=device, channel=channel, rate=rate)
    except ValidationError as fault:
        raise ConfigError(explain(fault), remedy="`auscult devices` lists them.") from fault
    found = probe(config, 0.1).device
    microphone = Microphone(config, None)
    microphone.start()
    about = {
        "name": found.name,
        "device": found.id,
        "usb": found.usb or None,
        "channel": channel,
        "auscult": __version__,
    }
    with _stopped_by_signals(microphone), _meter(found.name, seconds) as show:
        recorder = Recorder(out, label, seconds, clip_seconds, about, show)
        try:
            recorder.run(microphone.listen())
        finally:
            _tell(recorder.take)
    if recorder.take.seconds < seconds - 1:
        raise click.Abort
    machine = out.absolute().name
    click.echo(next_command("learn", out, "--out", f"{machine}.bundle"), err=True)


@contextmanager
def _stopped_by_signals(microphone: Microphone) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the stream, and so the recording; a second one ends at once."""

    def stop(number: int, _frame: Any) -> None:
        signal.signal(number, signal.SIG_DFL)
        microphone.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _meter(name: str, seconds: float) -> Iterator[Callable[[Level, float], None]]:
    """Live level and progress at a terminal; otherwise a line now and then."""
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from agent.capture.level import bar, style

    console = Console(stderr=True)
    if not console.is_terminal:
        due = 0.0

        def line(level: Level, so_far: float) -> None:
            nonlocal due
            if so_far >= due:
                due = so_far + _LINE_SECONDS
                click.echo(
                    f"{name}: {so_far:.0f} of {seconds:.0f} s, "
                    f"level {level.rms:.0f} dBFS, peak {level.peak:.0f} dBFS{_hint(level)}",
                    err=True,
                )

        yield line
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(bar_width=20),
        TextColumn("{task.completed:.0f} of {task.total:.0f} s"), TimeRemainingColumn(),
        TextColumn("{task.fields[level]}"),
    )  # fmt: skip
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(escape(name), total=seconds, level="warming up")

        def update(level: Level, so_far: float) -> None:
            colour = style(level)
            text = f"[{colour}]{bar(level)} {level.rms:.0f} dBFS[/]{_hint(level)}"
            progress.update(task, completed=so_far, level=text)

        yield update


def _hint(level: Level) -> str:
    return " (very quiet: raise the gain if you can)" if level.rms < _QUIET_DBFS else ""


def _tell(take: Take) -> None:
    for path in take.files:
        click.echo(str(path))
    lost = plural(take.gaps, "time")
    gaps = f"; sound was lost {lost}, where a new recording begins" if take.gaps else ""
    click.echo(
        f"{take.seconds:.0f} s kept in {plural(len(take.files), 'recording')}{gaps}", err=True
    )
