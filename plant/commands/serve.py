"""`auscult plant serve`: what all devices tell, kept in a database and shown on one page."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import click

_SMALLEST = """\b
The smallest PLANT.yaml:
  plant: hall-2
  broker: {host: broker.example}
"""


@click.command(
    short_help="Keep what all devices tell in a database, and show it on one page.",
    epilog=_SMALLEST,
)
@click.argument("plant", metavar="PLANT.yaml", type=click.Path(path_type=Path))
@click.option(
    "--instance",
    help="Name of this instance where several share the load, the same at each start.  "
    "[default: the host's name]",
)
@click.option("--port", type=click.IntRange(0, 65535), help="Of the page, in place of web.port.")
@click.option("--no-page", is_flag=True, help="Listen and keep alone.")
@click.option(
    "--no-listen", is_flag=True,
    help="Have the page alone, in a process of its own: it stays quick while much is told.",
)  # fmt: skip
@click.option("--debug", is_flag=True, help="Say more.")
def serve(
    plant: Path,
    instance: str | None,
    port: int | None,
    no_page: bool,
    no_listen: bool,
    debug: bool,
) -> None:
    """Listen to every device of PLANT.yaml's broker until stopped.

    Tables are made and migrated by itself. Start it on several servers with one PostgreSQL, each
    with its own --instance: they share the messages, and what one that is gone had not written
    yet is taken over by the others.
    """
    from plant.watch.file import load_serve
    from plant.watch.service import PlantServer

    logging.basicConfig(
        level=logging.DEBUG if debug else logging.INFO,
        format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr,
    )  # fmt: skip
    for name in ("alembic", "sqlalchemy"):
        logging.getLogger(name).setLevel(logging.WARNING)
    config = load_serve(plant)
    changes = {} if port is None else {"port": port}
    if no_page:
        changes["enabled"] = False
    config = config.model_copy(update={"web": config.web.model_copy(update=changes)})
    if no_page and no_listen:
        raise click.UsageError("--no-page and --no-listen together leave nothing to do")
    server = PlantServer(config, instance, listen=not no_listen)
    try:
        server.start()
        server.wait()
    finally:
        server.stop()
    if server.failed:
        sys.exit(1)
