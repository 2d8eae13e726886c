"""`auscult collect`: record labelled sound on the device, for the bank and the gate."""

from __future__ import annotations

import getpass
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.commands.options import config_option
from agent.core.program import next_command
from agent.core.text import plural

if TYPE_CHECKING:
    from agent.collect.spool import CollectOrder, Spool
    from agent.config.agent import AgentConfig


@click.command(short_help="Record labelled sound on the device.")
@config_option()
@click.option("--machine", help="Machine to record.  [default: the only one]")
@click.option(
    "--label",
    type=click.Choice(["healthy", "idle", "noise"]),
    help="healthy: it runs in good order; idle: it stands still; noise: it is not heard at all.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=2, max=86_400),
    help="How much sound to record.",
)
@click.option("--comment", default="", help="What else to remember of it.")
@click.option(
    "--schedule", metavar="HH:MM", help="Record every day at this local time, by the running agent."
)
@click.option(
    "--times",
    type=click.IntRange(min=1, max=3660),
    default=7,
    show_default=True,
    help="On how many days, with --schedule.",
)
@click.option("--list", "show", is_flag=True, help="List what was recorded and what is scheduled.")
@click.option("--cancel", metavar="NAME", help="Cancel a schedule.")
def collect(
    config_path: Path,
    machine: str | None,
    label: str | None,
    seconds: float | None,
    comment: str,
    schedule: str | None,
    times: int,
    cancel: str | None,
    *,
    show: bool,
) -> None:
    """Record sound of a known kind; silence and clipping are left out.

    While the agent runs, it does the recording, and goes on listening; otherwise this command opens
    the microphone itself. Ends with code 1 when nothing could be kept.
    """
    from agent.collect.schedule import Schedules
    from agent.collect.spool import CollectOrder, Spool
    from agent.config.agent import load_config

    config = load_config(config_path)
    state = config.state_path
    schedules = Schedules(state / "collect" / "schedules.json")
    if show:
        _list(config)
        return
    if cancel is not None:
        schedules.cancel(cancel)
        click.echo(f"cancelled schedule {cancel}")
        return
    if label is None or seconds is None:
        raise click.UsageError("--label and --seconds are needed")
    name = config.machine(machine).name
    order = CollectOrder.model_validate(
        {"machine": name, "label": label, "seconds": seconds, "by": _user(), "comment": comment}
    )
    if schedule is not None:
        entry = schedules.add(schedule, times, order)
        click.echo(
            f"schedule {entry.name}: {seconds:g} s of {label} sound of {name} at {schedule} on "
            f"{plural(times, 'day')}, while the agent runs"
        )
        click.echo(next_command("collect", "--config", config_path, "--list"))
        return
    spool = Spool(state / "collect")
    folder = _by_agent(spool, order) if spool.served() else _by_ourselves(config, order)
    click.echo(_next(config, config_path, order, folder))


def _next(config: AgentConfig, config_path: Path, order: CollectOrder, folder: Path) -> str:
    """What to type next: the sound joins the bundle's bank, or a first bundle is learnt of it."""
    which = ("--config", config_path, "--machine", order.machine)
    judged = config.bundle_at(order.machine).is_dir()
    if judged:
        return next_command("bank", "add", folder, *which)
    if order.label == "healthy":
        return next_command("learn", *which)
    wanted = ("--label", "healthy", "--seconds", "1200")
    return next_command("collect", *which, *wanted)


def _user() -> str:
    """Who asks; a container may run as somebody without a name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def _by_agent(spool: Spool, order: CollectOrder) -> Path:
    """Leave an order and wait for the answer; the session's folder."""
    from rich.console import Console

    from agent.core.errors import AuscultError
    from agent.core.progress import progress_bar

    ticket = spool.order(order)
    deadline = time.monotonic() + 1.5 * order.seconds + 90
    began = 0.0
    with progress_bar(Console(stderr=True)) as progress:
        task = progress.add_task(f"{order.label} sound of {order.machine}, s", total=order.seconds)
        while time.monotonic() < deadline:
            answer = spool.answered(ticket)
            if answer is not None and answer.status == "recording" and not began:
                click.echo(f"the agent is recording {order.seconds:g} s into {answer.folder}")
                if answer.message:
                    click.echo(f"auscult: {answer.message}", err=True)
                began = time.monotonic()
            elif answer is not None and answer.status == "done":
                click.echo(f"{answer.folder}: {answer.message}")
                return Path(answer.folder)
            elif answer is not None and answer.status == "refused":
                raise click.ClickException(answer.message)
            if not spool.served():
                break
            if began:
                heard = min(time.monotonic() - began, order.seconds)
                progress.update(task, completed=round(heard))
            time.sleep(0.3)
    raise AuscultError(
        "the agent does not answer", remedy="See its log; what was recorded by then is kept."
    )


def _by_ourselves(config: AgentConfig, order: CollectOrder) -> Path:
    """Open the machine's source and record it here; the session's folder."""
    from rich.console import Console

    from agent.bundle.verify import read_manifest
    from agent.capture.source import open_source
    from agent.collect.recording import Recording, discard_empty
    from agent.collect.session import summary
    from agent.core.errors import ConfigError
    from agent.core.progress import progress_bar
    from agent.core.records import Level
    from agent.decide.state import AlarmFile

    machine = config.machine(order.machine)
    source_config, place = config.source_of(machine), config.bundle_of(machine)
    if source_config is None:
        raise ConfigError(
            f"no microphone is chosen for '{machine.name}'",
            remedy="Give the machine a `source` (`auscult devices` lists what there is), or choose "
            "it on the page.",
        )
    rate = config.collect.rate
    if machine.bundle is not None or place.is_dir():
        rate = read_manifest(place).encoder.sample_rate
    source = open_source(source_config, rate)
    recording = Recording(
        config.state_path / "collected", config.device_name, order, config.collect
    )
    source.start()
    recording.open()
    memory = AlarmFile(config.state_path / "state" / f"{machine.name}.json").load()
    if memory is not None and memory.level is not Level.NORMAL:
        doubt = recording.doubt(f"{memory.level.value} {memory.alarm_id}")
        if doubt:
            click.echo(f"auscult: {doubt}", err=True)
    heard = 0.0
    with progress_bar(Console(stderr=True)) as progress:
        task = progress.add_task(f"{order.label} sound of {order.machine}, s", total=order.seconds)
        try:
            for block in source.blocks():
                recording.take(block)
                heard += len(block.samples) / block.rate
                progress.update(task, completed=round(min(heard, order.seconds)))
                if recording.done:
                    break
            recording.finish("the source ended")
        except KeyboardInterrupt:
            recording.finish("stopped by Ctrl-C")
        finally:
            source.stop()
            recording.finish("the source failed")
    text = summary(recording.result())
    if discard_empty(recording):
        raise click.ClickException(f"nothing was kept: {text}")
    click.echo(f"{recording.folder}: {text}")
    return recording.folder


def _list(config: AgentConfig) -> None:
    from agent.collect.schedule import Schedules
    from agent.collect.session import SESSION, read_session
    from agent.core.errors import AuscultError
    from agent.core.text import local_time

    state = config.state_path
    for place in sorted((state / "collected").glob(f"*/*/*/{SESSION}")):
        try:
            session = read_session(place.parent)
        except AuscultError as fault:
            click.echo(str(fault), err=True)
            continue
        end = f"\tended early: {session.ended}" if session.ended else ""
        click.echo(
            f"{place.parent}\t{session.label}\t{local_time(session.started)}\t"
            f"{session.kept_seconds:.0f} s in {plural(len(session.segments), 'file')}{end}"
            + "".join(f"\t{note}" for note in session.notes)
        )
    for entry in Schedules(state / "collect" / "schedules.json").all():
        order = entry.order
        click.echo(
            f"schedule {entry.name}\t{order.machine}\t{order.label}\t{order.seconds:g} s at "
            f"{entry.at}\t{plural(entry.times, 'day')} left"
        )
