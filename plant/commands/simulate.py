"""`auscult plant simulate`: many devices, as one was recorded, to size a server."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command(short_help="Let many simulated devices tell what one was recorded telling.")
@click.argument("plant", metavar="PLANT.yaml", type=click.Path(path_type=Path))
@click.option(
    "--stream", required=True, type=click.Path(path_type=Path),
    help="Lines that an agent told, as `jsonl` of its configuration names them.",
)  # fmt: skip
@click.option("--devices", type=click.IntRange(1, 50_000), default=1000, show_default=True)
@click.option(
    "--machines", type=click.IntRange(1, 1000), default=4, show_default=True,
    help="Of each device.",
)  # fmt: skip
@click.option(
    "--events", type=click.FloatRange(0), default=2000.0, show_default=True,
    help="Events a second, of all devices; each with the states that it brings.",
)  # fmt: skip
@click.option(
    "--scores", type=click.FloatRange(0), default=800.0, show_default=True,
    help="Windows a second, of all devices.",
)  # fmt: skip
@click.option("--seconds", type=click.FloatRange(1), default=30.0, show_default=True)
@click.option("--name", default="sim", show_default=True, help="Begins the devices' names.")
@click.option(
    "--ids", type=click.Path(path_type=Path),
    help="Write the id of every event to this file, to be compared with what is kept.",
)  # fmt: skip
def simulate(
    plant: Path,
    stream: Path,
    devices: int,
    machines: int,
    events: float,
    scores: float,
    seconds: float,
    name: str,
    ids: Path | None,
) -> None:
    """Publish to the broker of PLANT.yaml as many devices would, and say what it took.

    Never on a plant in use: the simulated devices appear on its page. Ends with 1 when the broker
    did not acknowledge everything.
    """
    from agent.core.errors import DeliveryError
    from agent.core.secret_file import read_secret
    from plant.simulate.devices import fleet
    from plant.simulate.recorded import read_streams
    from plant.watch.file import load_serve

    broker = load_serve(plant).broker
    if broker.tls is not None:
        raise DeliveryError(
            "simulated devices speak no TLS", where=plant,
            remedy="Give the broker a listener without it, on its own host, for the time.",
        )  # fmt: skip
    password = None
    if broker.password_file is not None:
        password = read_secret(
            broker.password_file, "the broker's password file",
            remedy="Put the password on its first line.",
        )  # fmt: skip
    made = fleet(
        (broker.host, broker.broker_port), broker.prefix, read_streams(stream),
        devices=devices, machines=machines, login=(broker.username, password), name=name,
    )  # fmt: skip
    try:
        made.start()
    except OSError as fault:
        raise DeliveryError(
            f"the broker is not reached ({fault.strerror or fault})", where=broker.host,
            remedy="Check `broker`, and how many files a process may open (ulimit -n).",
        ) from fault  # fmt: skip
    try:
        made.run(events, scores, seconds)
        whole = made.finish(60.0)
    finally:
        made.stop()
        if ids is not None:
            ids.write_text("".join(f"{one}\n" for one in made.sent.ids))
    sent = made.sent
    click.echo(
        f"{devices} devices x {machines} machines, {seconds:g} s: {sent.events} events "
        f"({sent.events / seconds:.0f} a second), {sent.messages} messages, "
        f"{sent.acknowledged} acknowledged, {sent.reconnects} reconnects, "
        f"pace behind by {sent.late:.2f} s at most"
    )
    if not whole:
        click.echo("not everything was acknowledged within a minute", err=True)
        sys.exit(1)
