"""`auscult run`: listen, score, and raise alarms, until told to stop."""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.commands.options import config_option
from agent.core.text import plural

if TYPE_CHECKING:
    from agent.core.counters import Counters
    from agent.pipeline.listener import Listener
    from agent.service import Agent

log = logging.getLogger("agent.run")

_CHANGES_SHOWN = 20
# Threads that call what may never return.
_OURS = frozenset({"microphone-reader", "mqtt"})


@click.command(short_help="Listen to machines and raise alarms.")
@config_option(
    "The agent's configuration (see configs/agent.yaml, docs/reference/configuration.md)."
)
@click.option(
    "--jsonl",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also append every message to this file, one JSON object a line.",
)
@click.option("--check", is_flag=True, help="Verify configuration, bundles and sources, then end.")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="Least grave lines shown.",
)
def run(config_path: Path, jsonl: Path | None, log_level: str, *, check: bool) -> None:
    """Listen to the machines that --config describes, until SIGTERM, Ctrl-C or the replay's end.

    Ends with code 0 when it was told to stop or its recordings are over, 2 when the configuration,
    a bundle or a source cannot be used, 1 when it met a fault that a restart may mend.
    """
    from agent.config.agent import load_config
    from agent.config.publish import JsonlConfig
    from agent.core.logs import start_logging
    from agent.core.memory import few_arenas

    few_arenas()  # before libraries start threads
    from agent.service import Agent

    start_logging(log_level)
    # systemd's watchdog ends a process that hangs by SIGABRT: where it hung is then told.
    faulthandler.enable()
    config = load_config(config_path)
    if jsonl is not None:
        config = config.model_copy(update={"jsonl": JsonlConfig(path=jsonl)})
    agent = Agent(config)

    def on_signal(number: int, _frame: Any) -> None:
        # A second one ends at once.
        signal.signal(number, signal.SIG_DFL)
        agent.request_stop()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    agent.prepare(strict=check)
    if check:
        from agent.capture.probe import check_source

        for machine in config.machines:
            source, place = config.source_of(machine), config.bundle_of(machine)
            found = None if source is None else check_source(source)
            click.echo(
                f"{machine.name}: {'no microphone is chosen yet' if found is None else found.text}"
            )
            if found is not None and found.doubt:
                click.echo(f"{machine.name}: {found.doubt}. {found.remedy}", err=True)
            if machine.bundle is None and not place.is_dir():
                click.echo(f"{machine.name}: no bundle yet; heard, not judged. It goes to {place}")
        click.echo(f"{config_path}: configuration, bundles and sources are in order")
        return
    try:
        agent.start()
        agent.wait(lambda: heartbeat(agent))
    finally:
        agent.stop()
    for pipeline in agent.pipelines:
        _summarise(pipeline)
    _leave(_exit_code(agent.fault()))


def _exit_code(fault: Exception | None) -> int:
    from agent.capture.microphone import AudioHungError
    from agent.core.errors import AudioError

    if fault is None:
        return 0
    return 2 if isinstance(fault, AudioError) and not isinstance(fault, AudioHungError) else 1


def _leave(code: int) -> None:
    """End the process, also while a thread hangs in a sound driver or a name server."""
    busy = [thread.name for thread in threading.enumerate() if thread.name in _OURS]
    if not busy and not code:
        return
    if busy:
        # Leaving as usual would have the driver wait for itself.
        log.warning("ending although %s has not ended", ", ".join(busy))
        logging.shutdown()
        sys.stdout.flush()
        os._exit(code)
    sys.exit(code)


def heartbeat(agent: Agent) -> None:
    for pipeline in agent.pipelines:
        counters = pipeline.counters
        if pipeline.missing:
            log.info(
                "%s: no %s yet: %d windows heard, %d of them fit to learn from, none judged",
                pipeline.name, " and no ".join(pipeline.missing), counters.windows,
                counters.unjudged,
            )  # fmt: skip
            continue
        extra = ", ".join(f"{count} {name}" for name, count in pipeline.faults().items())
        log.info(
            "%s: %d windows judged, %d above the threshold%s, %d invalid, %d alarms%s",
            pipeline.name, counters.windows - counters.invalid.total(), counters.exceeded,
            _levelled(counters), counters.invalid.total(), counters.raised,
            f"; {extra}" if extra else "",
        )  # fmt: skip
    if state := agent.publisher_states():
        log.warning("%s", state)


def _levelled(counters: Counters) -> str:
    """What else scored above the threshold, and raises no alarm."""
    if not counters.levelled:
        return ""
    return f" ({counters.levelled} more by another level alone, which raises no alarm)"


def _summarise(pipeline: Listener) -> None:
    counters = pipeline.counters
    if pipeline.missing:
        click.echo(
            f"{pipeline.name}: no {' and no '.join(pipeline.missing)} yet: "
            f"{plural(counters.windows, 'window')} "
            f"over {_clock(counters.stream_seconds)} heard, none judged"
        )
        return
    click.echo(
        f"{pipeline.name}: {plural(counters.windows, 'window')} "
        f"over {_clock(counters.stream_seconds)}, "
        f"{counters.exceeded} above the threshold{_levelled(counters)}, "
        f"{counters.invalid.total()} invalid"
        + "".join(f", {count} {name}" for name, count in sorted(counters.invalid.items()))
    )
    for name, count in sorted(pipeline.faults().items()):
        click.echo(f"  {name.replace('_', ' ')}: {count}")
    if len(counters.alarms) > _CHANGES_SHOWN:
        click.echo(f"  {plural(counters.raised, 'alarm')} raised; the latest changes:")
    for change in list(counters.alarms)[-_CHANGES_SHOWN:]:
        word = "raised " if change.raised else "cleared"
        click.echo(
            f"  alarm {word} at {_clock(change.stream_seconds)} "
            f"(window {change.window}, {change.origin}, {change.alarm_id})"
        )
    if not counters.raised:
        click.echo("  no alarm")
    if counters.elapsed_seconds > 0:
        factor = counters.stream_seconds / counters.elapsed_seconds
        judged = max(1, counters.windows - counters.invalid.total())
        click.echo(
            f"  {factor:.1f} times real time; "
            f"encoder {1000 * counters.inference_seconds / judged:.1f} ms a window"
        )


def _clock(seconds: float) -> str:
    """`1:02:03.4`, hours counting on."""
    whole, tenth = divmod(round(10 * seconds), 10)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}.{tenth}"
