"""`auscult init`: a first agent.yaml, by asking."""

from __future__ import annotations

import contextlib
import re
import sys
from pathlib import Path
from typing import Any

import click


@click.command(short_help="Write a first agent.yaml, by asking.")
@click.option(
    "--config", "config_path", type=click.Path(path_type=Path), default="agent.yaml",
    show_default=True, help="The configuration to write.",
)  # fmt: skip
@click.option("--device", help="Name of this device in messages.  [default: its host name]")
@click.option(
    "--machine", "machines", multiple=True, help="A machine's name; several may be given."
)
@click.option(
    "--microphone", "microphones", multiple=True,
    help="Its microphone, as `auscult devices` names it, one for each machine in order. Left out, "
    "it is chosen on the page.",
)  # fmt: skip
@click.option(
    "--bundle", "bundles", multiple=True, type=click.Path(path_type=Path),
    help="Its bundle, one for each machine in order. Left out, it is learnt here.",
)  # fmt: skip
@click.option(
    "--replay", "replays", multiple=True, type=click.Path(path_type=Path),
    help="In place of a microphone, to try it: a recording or a folder of them, heard over and "
    "over; one for each machine in order.",
)  # fmt: skip
@click.option("--broker", help="Host of the MQTT broker, or HOST:PORT.")
@click.option("--page/--no-page", default=None, help="Serve the device's own page.")
@click.option(
    "--commission/--no-commission", default=None,
    help="Let a new bundle listen in shadow for two days before its first alarm.",
)  # fmt: skip
@click.option("--yes", is_flag=True, help="Ask nothing: what is not given takes its default.")
@click.option("--force", is_flag=True, help="Replace a configuration that is there.")
def init(
    config_path: Path,
    device: str | None,
    machines: tuple[str, ...],
    microphones: tuple[str, ...],
    bundles: tuple[Path, ...],
    replays: tuple[Path, ...],
    broker: str | None,
    page: bool | None,
    commission: bool | None,
    *,
    yes: bool,
    force: bool,
) -> None:
    """Ask what there is, and write a configuration that `auscult run` takes.

    Without a terminal nothing is asked, as with --yes. What it writes is checked first; every
    further key is in docs/reference/configuration.md.
    """
    from agent.config.agent import AgentConfig
    from agent.config.recipe import WindowConfig
    from agent.core.errors import ConfigError
    from agent.core.program import next_command
    from agent.core.storage import write_atomic

    if config_path.exists() and not force:
        raise ConfigError(
            "is there already",
            where=config_path,
            remedy="Give another --config, or replace it with --force.",
        )
    if not yes and at_terminal():
        device = device or click.prompt("Name of this device in messages", _host())
        machines = machines or (click.prompt("Name of the machine to listen to", "machine-1"),)
        if not microphones and not replays:
            microphones = free_microphones(len(machines))
        if broker is None:
            broker = click.prompt("MQTT broker, HOST or HOST:PORT (empty for none)", "").strip()
        if page is None:
            page = click.confirm("Serve the device's own page?", default=True)
        if commission is None:
            commission = click.confirm(
                "Let a new bundle listen in shadow for two days before its first alarm?",
                default=True,
            )
    machines = machines or ("machine-1",)
    if microphones and replays:
        raise click.UsageError("give either --microphone or --replay")
    every = (("--microphone", microphones), ("--bundle", bundles), ("--replay", replays))
    for kind, given in every:
        if given and len(given) != len(machines):
            raise click.UsageError(f"give one {kind} for each --machine, in their order")
    for replay in replays:
        check_there(config_path.parent / replay)
    looked = [_look_at(config_path.parent / bundle) for bundle in bundles]
    windows = [seconds for _, seconds in looked] or [WindowConfig().seconds] * len(machines)
    chosen = {
        "device": device or "",
        "machines": [
            _machine(
                name,
                microphones[n] if microphones else "",
                bundles[n] if bundles else None,
                _replayed(config_path.parent, replays[n], windows[n]) if replays else None,
                shadow=bool(commission),
            )
            for n, name in enumerate(machines)
        ],
        "mqtt": _broker(broker) if broker else None,
        # Without a microphone or a bundle somebody has to see to it, and a try is looked at.
        "page": page if page is not None else bool(replays) or not (microphones and bundles),
    }
    text = _yaml(chosen)
    _check(text, AgentConfig)
    write_atomic(config_path, text.encode())
    click.echo(f"wrote {config_path}")
    for note in filter(None, [note for note, _ in looked]):
        click.echo(f"note: {note}", err=True)
    click.echo(next_command("doctor", "--config", config_path))


def at_terminal() -> bool:
    return sys.stdin.isatty()


def _host() -> str:
    from agent.config.agent import AgentConfig

    return AgentConfig.model_validate({"machines": [{"name": "x"}]}).device_name


def free_microphones(count: int) -> tuple[str, ...]:
    """Ask for the microphone, of those that there are."""
    from agent.capture import portaudio
    from agent.core.errors import AudioError

    if count > 1:
        return ()
    try:
        inputs = portaudio.inputs()
    except (AudioError, OSError) as fault:
        click.echo(f"microphones cannot be listed: {fault}", err=True)
        return ()
    if not inputs:
        click.echo("no microphone is connected; it can be chosen on the page later", err=True)
        return ()
    for number, one in enumerate(inputs, 1):
        click.echo(f"  {number}  {one.name}  ({one.id})", err=True)
    picked = click.prompt(
        "Microphone (0: choose it on the page later)", 1, type=click.IntRange(0, len(inputs))
    )
    return (inputs[picked - 1].id,) if picked else ()


def check_there(recordings: Path) -> None:
    """Look whether recordings are where the configuration will look for them.

    Raises:
        ConfigError: They are not.
    """
    from agent.core.errors import ConfigError

    if not recordings.exists():
        raise ConfigError(
            "there is no such recording or folder",
            where=recordings,
            remedy="Paths are taken from the folder of --config.",
        )


def _machine(
    name: str,
    microphone: str,
    bundle: Path | None,
    replayed: dict[str, Any] | None,
    *,
    shadow: bool,
) -> dict[str, Any]:
    found: dict[str, Any] = {"name": name}
    if bundle is not None:
        found["bundle"] = str(bundle)
    if microphone:
        found["source"] = {"kind": "microphone", "device": microphone}
    if replayed is not None:
        found["source"] = replayed
    if shadow:
        found["commission"] = {}
    return found


def _replayed(folder: Path, replay: Path, window: float) -> dict[str, Any]:
    """Recordings as a source, over and over.

    No window reaches over the seam of end and beginning, which is a sound of its own, unless a
    recording has no room for a window; then all are spliced.
    """
    from agent.capture.files import audio_info
    from agent.capture.replay import find_recordings
    from agent.core.errors import AudioError

    lengths = []
    for file in find_recordings((str(folder / replay),)):
        # The agent skips what cannot be read, and says so.
        with contextlib.suppress(AudioError):
            lengths.append(audio_info(file).seconds)
    apart = not lengths or min(lengths) >= window
    if not apart:
        click.echo(
            f"note: {replay}: {min(lengths):.1f} s are less than a window of {window:g} s: "
            "recordings are heard as one stream, seams and all",
            err=True,
        )
    return {"kind": "replay", "paths": [str(replay)], "loop": True, "gap_between_files": apart}


def _look_at(bundle: Path) -> tuple[str, float]:
    """What to know of a bundle that is named, and its windows' length in seconds.

    One may be put there later: its windows are taken to be of the usual length.

    Raises:
        BundleError: What is there is no bundle.
    """
    from agent.bundle.verify import read_manifest
    from agent.config.recipe import WindowConfig
    from agent.core.errors import MissingBundleError

    try:
        return "", read_manifest(bundle).window_seconds
    except MissingBundleError as fault:
        return str(fault), WindowConfig().seconds


def _broker(text: str) -> dict[str, Any]:
    host, _, port = text.rpartition(":")
    if re.fullmatch(r"[0-9]+", port) and host and not (host.count(":") and host[-1] != "]"):
        return {"host": host.strip("[]"), "port": int(port)}
    return {"host": text.strip("[]")}


def _yaml(chosen: dict[str, Any]) -> str:
    import yaml

    def flow(data: Any) -> str:
        text = yaml.safe_dump(data, default_flow_style=True, width=10_000, allow_unicode=True)
        return text.strip().removesuffix("\n...")

    lines = ["# Written by `auscult init`; every key: docs/reference/configuration.md."]
    if chosen["device"]:
        lines.append(f"device: {flow(chosen['device'])}")
    lines.append("machines:")
    for machine in chosen["machines"]:
        lines.append(f"  - name: {flow(machine['name'])}")
        if "source" in machine:
            lines.append(f"    source: {flow(machine['source'])}")
        else:
            lines.append("    # source: left out, the microphone is chosen on the page")
        if "bundle" in machine:
            lines.append(f"    bundle: {flow(machine['bundle'])}")
        else:
            lines.append("    # bundle: left out, it is learnt here (`auscult learn`, or the page)")
        if "commission" in machine:
            lines.append("    commission: {}          # two days in shadow before its first alarm")
    if chosen["mqtt"]:
        lines.append(f"mqtt: {flow(chosen['mqtt'])}")
    if chosen["page"]:
        lines.append("web: {enabled: true}        # http://127.0.0.1:8765/")
    return "\n".join(lines) + "\n"


def _check(text: str, model: Any) -> None:
    """Hold what would be written to the schema.

    Raises:
        ConfigError: A name or an address does not do.
    """
    import yaml
    from pydantic import ValidationError

    from agent.core.errors import ConfigError
    from agent.core.schema import explain

    try:
        model.model_validate(yaml.safe_load(text))
    except ValidationError as fault:
        raise ConfigError(explain(fault), remedy="Nothing was written.") from fault
