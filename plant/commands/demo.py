"""`auscult plant demo`: a plant of three machines from an empty folder."""

from __future__ import annotations

from pathlib import Path

import click

from agent.commands.options import Written, json_option


@click.command(short_help="Show a plant of three machines: learnt, rolled out, put back.")
@click.option(
    "--out",
    type=Written(),
    default=Path("auscult-plant-demo"),
    show_default=True,
    help="Folder for everything made; it must not be there yet.",
)
@click.option(
    "--machine",
    "machines",
    multiple=True,
    metavar="NAME=FOLDER",
    help="A machine and its folder, with normal/ or healthy recordings; three. [default: made]",
)
@click.option(
    "--recordings",
    type=click.IntRange(min=8),
    default=16,
    show_default=True,
    help="Of each machine's recordings so many are taken: all of them may take hours.",
)
@click.option("--stay", is_flag=True, help="Leave all of it running, page included, until Ctrl-C.")
@json_option("What happened,")
def demo(
    out: Path, machines: tuple[str, ...], recordings: int, json_path: Path | None, *, stay: bool
) -> None:
    """Learn three machines, roll their bundles out to three devices, kill one, put a bad one back.

    Needs no root, microphone or download; the broker is mosquitto where it is installed. Every
    part is a process of its own, as in a plant. Ends with 1 when something went otherwise.
    """
    import signal
    import threading

    from agent.core.errors import ConfigError
    from agent.core.storage import write_json
    from plant.demo.scene import Scene
    from plant.demo.show import Show
    from plant.demo.sound import gather, write_machines
    from plant.learn.task import PlantError

    if out.exists():
        raise ConfigError("is there already", where=out, remedy="Remove it, or name another --out.")
    named = dict(one.partition("=")[::2] for one in machines)
    if named and len(named) != 3:
        raise click.UsageError("give three machines as --machine NAME=FOLDER, or none")
    root = out.absolute()
    root.mkdir(parents=True)
    found = {name: Path(data).absolute() for name, data in named.items()}
    scene = Scene(root)
    done = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        data = gather(root / "sound", found, recordings) if found else None
        told = Show(scene, data or write_machines(root / "sound"), click.echo).run()
        if json_path is not None:
            write_json(json_path, {name: one for name, one in told.items() if name != "password"})
        if stay:
            if told["page"]:
                click.echo(f"the page: {told['page']} (user demo, password {told['password']})")
            done.wait()
    except PlantError as fault:
        click.echo(f"auscult: {fault}", err=True)
        raise click.exceptions.Exit(1) from fault
    finally:
        scene.stop()
