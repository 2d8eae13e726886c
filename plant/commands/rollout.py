"""`auscult plant offer`, `rollout`, `recall`, `inventory`: bundles to devices, who runs what."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.commands.options import json_option

if TYPE_CHECKING:
    from plant.learn.schema import PlantFile
    from plant.rollout.fleet import Fleet, MachineSeen

_PLANT = click.argument("plant", metavar="PLANT.yaml", type=click.Path(path_type=Path))
_LISTEN_SECONDS = 2.0
_BROKER_SECONDS = 10.0


@click.command(short_help="Plan a rollout of bundles to the devices that have their machines.")
@_PLANT
@click.argument("bundles", nargs=-1, type=click.Path(path_type=Path), metavar="[BUNDLE]...")
@click.option("--device", "devices", multiple=True, help="To this device alone; may be repeated.")
@click.option("--machine", "machines", multiple=True, help="This machine alone; may be repeated.")
@click.option(
    "--canary",
    type=click.FloatRange(min=0, max=1, min_open=True),
    help="Share of the machines that are first.  [default: rollout.canary_share]",
)
@click.option(
    "--downgrade",
    is_flag=True,
    help="Also where it is older than what runs; devices must allow it (`offers.allow_downgrade`).",
)
@click.option(
    "--as-meant",
    is_flag=True,
    help="Also where a device does not recognise its machine in it; takes a --reason.",
)
@click.option("--reason", default="", help="Why; told on the devices, too.")
def offer(
    plant: Path,
    bundles: tuple[Path, ...],
    devices: tuple[str, ...],
    machines: tuple[str, ...],
    canary: float | None,
    reason: str,
    *,
    downgrade: bool,
    as_meant: bool,
) -> None:
    """Plan a rollout of BUNDLEs, by default of all that `auscult plant build` made.

    A bundle goes to every device that has a machine of its name and runs another bundle. `auscult
    plant rollout` carries it out. Ends with 1 when no device needs any.
    """
    from agent.core.program import next_command
    from plant.learn.schema import load_plant
    from plant.rollout.plan import Plans, new_rollout
    from plant.rollout.repository import Repository
    from plant.rollout.service import wanted
    from plant.rollout.targets import find_targets

    if as_meant and not reason:
        raise click.UsageError("--as-meant takes a --reason: it is kept, and told on the devices")
    told = load_plant(plant)
    _, config, _ = wanted(told, plant)
    out = told.out.absolute()
    repository = Repository(out / "repository")
    found = bundles or tuple(sorted(out.glob("machines/*/*.bundle")))
    stored = [repository.add(path) for path in found]
    fleet = _heard(told)
    targets = find_targets(fleet.machines(), stored, devices=devices, machines=machines)
    if not targets:
        click.echo("no device needs any of these bundles", err=True)
        raise click.exceptions.Exit(1)
    rollout = new_rollout(
        targets, canary_share=canary or config.canary_share, reason=reason, downgrade=downgrade,
        as_meant=as_meant,
    )  # fmt: skip
    Plans(out / "rollouts").save(rollout)
    for one in rollout.targets:
        first = "first" if one.canary else "then"
        click.echo(f"{first}\t{one.device}\t{one.machine}\t{one.digest[:12]}")
    click.echo(f"planned: rollout {rollout.id}")
    click.echo(next_command("plant", "rollout", plant))


@click.command(short_help="Serve bundles, offer them, watch how devices fare, put back.")
@_PLANT
@click.option("--until-done", is_flag=True, help="End when no rollout is running any more.")
def rollout(plant: Path, *, until_done: bool) -> None:
    """Carry out the rollouts that `auscult plant offer` planned, and serve what devices fetch.

    Canaries first; the others follow when every canary that took the bundle ran well for
    `rollout.gate.watch_seconds`; where a canary or too many others fail, all get back what they
    had. It may be stopped and started at any time. With --until-done it ends with 1 when the
    latest was put back.
    """
    import logging
    import signal

    from plant.learn.schema import load_plant
    from plant.rollout.service import RolloutService, wanted

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    told = load_plant(plant)
    service = RolloutService(told.out.absolute(), *wanted(told, plant))
    service.start()
    click.echo(f"content is served on port {service.content.port}", err=True)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: service.request_stop())
    try:
        well = service.run(until_done=until_done)
    finally:
        service.stop()
    if until_done and not well:
        raise click.exceptions.Exit(1)


@click.command(short_help="Put the latest rollout back, whether it is under way or done.")
@_PLANT
@click.option("--reason", default="", help="Why; told on the devices, too.")
def recall(plant: Path, reason: str) -> None:
    """Put the latest rollout back: every machine is offered the bundle that it ran before.

    `auscult plant rollout` carries it out. Ends with 1 when there is nothing to put back.
    """
    from agent.core.program import next_command
    from plant.learn.schema import load_plant
    from plant.rollout.plan import Plans

    plans = Plans(load_plant(plant).out.absolute() / "rollouts")
    latest = max(plans.all(), key=lambda one: one.created, default=None)
    if latest is None or latest.state == "put back":
        click.echo("no rollout is there, or the latest was put back already", err=True)
        raise click.exceptions.Exit(1)
    plans.stop(latest, reason)
    click.echo(f"rollout {latest.id} is to be put back: {len(latest.targets)} machines")
    click.echo(next_command("plant", "rollout", plant))


@click.command(short_help="List which device runs which bundle, and what became of offers.")
@_PLANT
@json_option("The list")
def inventory(plant: Path, json_path: Path | None) -> None:
    """List which device runs which bundle: as the devices themselves told the broker."""
    from rich.console import Console
    from rich.table import Table

    from agent.core.storage import write_json
    from plant.learn.schema import load_plant
    from plant.rollout.plan import Plans

    told = load_plant(plant)
    machines = [one for _, one in sorted(_heard(told).machines().items())]
    table = Table(box=None)
    for name in ("device", "machine", "", "bundle", "exported", "auscult", "latest offer"):
        table.add_column(name)
    for one in machines:
        row = _row(one)
        table.add_row(
            one.device, one.machine, "online" if one.online else "offline",
            one.digest[:12] or "none", one.created, one.version, row["offer"],
        )  # fmt: skip
    Console().print(table)
    plans = Plans(told.out.absolute() / "rollouts")
    if (latest := max(plans.all(), key=lambda one: one.created, default=None)) is not None:
        why = f": {latest.why}" if latest.why else ""
        click.echo(f"latest rollout, {latest.id}: {latest.state}{why}")
    if json_path is not None:
        write_json(json_path, {"machines": [_row(one) for one in machines]})


def _heard(plant: PlantFile) -> Fleet:
    """What the broker has retained of all devices."""
    import time

    from agent.core.errors import ConfigError
    from plant.rollout.fleet import Fleet
    from plant.rollout.wire import RolloutWire

    if plant.broker is None:
        raise ConfigError("broker: is missing: it is where devices are heard")
    fleet = Fleet()
    wire = RolloutWire(plant.broker, fleet)
    wire.start(wait_seconds=_BROKER_SECONDS)
    # What is retained comes at once; there is no word that it was all.
    seen, deadline = -1, time.monotonic() + _BROKER_SECONDS
    while seen != (seen := len(fleet.machines())) and time.monotonic() < deadline:
        time.sleep(_LISTEN_SECONDS)
    wire.stop()
    return fleet


def _row(one: MachineSeen) -> dict[str, Any]:
    offered = ""
    if one.offer is not None and one.offer.state != "none":
        why = f": {one.offer.reason}" if one.offer.reason else ""
        offered = f"{one.offer.state} {one.offer.digest[:12]}{why}"
    return {
        "device": one.device, "machine": one.machine, "online": one.online,
        "bundle": one.digest, "created": one.created, "version": one.version, "offer": offered,
    }  # fmt: skip
