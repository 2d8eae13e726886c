"""`auscult devices`: what can be listened to, and how loud it is there."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.commands.options import json_option, write_given
from agent.core.text import plural

if TYPE_CHECKING:
    from rich.table import Table

    from agent.capture.devices import InputDevice
    from agent.capture.probe import Probe

    Found = Probe | str | None


@click.command(short_help="List microphones, with their levels.")
@json_option("The list")
@click.option("--once", is_flag=True, help="Measure each once, also at a terminal.")
def devices(json_path: Path | None, *, once: bool) -> None:
    """List the inputs there are: name, what to write as a source's `device`, channels, rate, level.

    At a terminal the levels are measured again and again, one input after another, until Ctrl-C.
    """
    from agent.capture import portaudio

    inputs = portaudio.inputs()
    if sys.stdout.isatty() and not once and json_path is None and inputs:
        _watch(inputs)
        return
    found = [_probe(device) for device in inputs]
    _print(inputs, found)
    write_given(json_path, [_record(*pair) for pair in zip(inputs, found, strict=True)])


def _probe(device: InputDevice) -> Found:
    """What is heard there, or why nothing is."""
    from agent.capture.probe import probe
    from agent.config.capture import MicrophoneSource
    from agent.core.errors import AudioError

    try:
        return probe(MicrophoneSource.model_construct(device=device.id))
    except AudioError as fault:
        return fault.problem


def _watch(inputs: list[InputDevice]) -> None:
    from rich.console import Console
    from rich.live import Live

    found: list[Found] = [None] * len(inputs)
    with Live(_table(inputs, found), console=Console(), auto_refresh=False) as live:
        while True:
            for number, device in enumerate(inputs):
                found[number] = _probe(device)
                live.update(_table(inputs, found), refresh=True)


def _table(inputs: list[InputDevice], found: list[Found]) -> Table:
    from rich.table import Table
    from rich.text import Text

    from agent.capture.level import bar, style

    table = Table("name", "device", "socket", "channels", "rate", "level (RMS, peak: dBFS)")
    for device, heard in zip(inputs, found, strict=True):
        meters = Text()
        if isinstance(heard, str):
            meters.append(heard, "red")
        elif heard is not None:
            for number, level in enumerate(heard.levels):
                meters.append("\n" if number else "")
                meters.append(bar(level), style(level))
                meters.append(f" {level.rms:5.0f} {level.peak:4.0f}")
        table.add_row(
            Text(device.name + " (default)" * device.default), Text(device.id), device.usb,
            str(device.channels), f"{device.rate:g}", meters,
        )  # fmt: skip
    return table


def _print(inputs: list[InputDevice], found: list[Found]) -> None:
    """Lines that grep and awk can use."""
    if not inputs:
        click.echo(
            "no input found: plug a microphone in; in a container, pass /dev/snd in", err=True
        )
    for device, heard in zip(inputs, found, strict=True):
        level = heard or ""
        if heard is not None and not isinstance(heard, str):
            level = " ".join(f"{one.rms:.0f}/{one.peak:.0f} dBFS" for one in heard.levels)
        click.echo(
            f"{device.name}\t{device.id}\t{device.usb or '-'}\t"
            f"{plural(device.channels, 'channel')}\t"
            f"{device.rate:g} Hz\t{level}"
        )


def _record(device: InputDevice, heard: Found) -> dict[str, Any]:
    levels = [] if heard is None or isinstance(heard, str) else heard.levels
    return {
        "name": device.name,
        "device": device.id,
        "usb": device.usb or None,
        "channels": device.channels,
        "rate": device.rate,
        "default": device.default,
        "levels": [
            {"rms_dbfs": round(level.rms, 1), "peak_dbfs": round(level.peak, 1)} for level in levels
        ],
        "error": heard if isinstance(heard, str) else None,
    }
