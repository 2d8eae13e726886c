"""`auscult plant build`: every machine of a plant learnt, judged and exported."""

from __future__ import annotations

from pathlib import Path

import click

from agent.commands.options import json_option

_SMALLEST = """\b
The smallest PLANT.yaml:
  plant: hall-2
  machines:
    - {name: pump7, data: recordings/pump7}
    - {name: fan3, data: [fan3-training.zip, fan3-march.zip]}
"""


@click.command(short_help="Learn, judge and export every machine of a plant.", epilog=_SMALLEST)
@click.argument("plant", metavar="PLANT.yaml", type=click.Path(path_type=Path))
@click.option("--machine", "only", multiple=True, help="Only this machine; may be repeated.")
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Machines at a time, here.  [default: by cores and memory]",
)
@click.option(
    "--ray",
    "address",
    metavar="[ADDRESS]",
    is_flag=False,
    flag_value="auto",
    help="Learn on this Ray cluster (HOST:PORT); without an address on the one that runs here, or "
    "that RAY_ADDRESS names. Give it last or as --ray=ADDRESS.",
)
@click.option(
    "--cores",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processor cores that one machine takes.",
)
@json_option("The summary")
def build(
    plant: Path,
    only: tuple[str, ...],
    workers: int | None,
    address: str | None,
    cores: int,
    json_path: Path | None,
) -> None:
    """Learn, judge and export every machine of PLANT.yaml, and sum up, the worst first.

    Run it again after it was interrupted, or with changed recordings: what is done is kept, what
    changed is learnt anew. A machine that fails stops no other. Ends with 1 when one failed.
    """
    import shutil

    from rich.console import Console

    from agent.core.progress import progress_bar
    from plant.learn.build import Workers, build_plant
    from plant.learn.cluster import RayCluster
    from plant.learn.pool import LocalPool, default_workers
    from plant.learn.schema import load_plant
    from plant.learn.summary import write_summary
    from plant.learn.task import tasks_of

    told = load_plant(plant)
    tasks = tasks_of(told, threads=cores, only=only)
    console = Console(stderr=True)
    pool: Workers
    if address is not None:
        cluster = RayCluster(address, cores)
        cluster.start()
        console.print(f"on a Ray cluster of {cluster.nodes()} nodes")
        pool = cluster
    else:
        pool = LocalPool(workers or max(1, default_workers() // cores))
    with progress_bar(console) as progress:
        done = build_plant(tasks, pool, progress)
    page = write_summary(done, told.plant)
    _tell(done)
    click.echo(f"wrote {page}, summary.csv and summary.json beside it")
    if json_path is not None:
        shutil.copyfile(done.out / "summary.json", json_path)
    if done.failed:
        raise click.exceptions.Exit(1)


def _tell(done: object) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from plant.learn.build import Built
    from plant.learn.summary import row_of

    assert isinstance(done, Built)
    table = Table(box=None)
    for name in ("machine", "verdict", "faults found", "false alarms", ""):
        table.add_column(name)
    for outcome in done.outcomes:
        row = row_of(outcome)
        found = f"{row['found']} of {row['faults']}" if row["faults"] else ""
        false = f"{row['false_alarms']} of {row['healthy']}" if row["healthy"] else ""
        table.add_row(outcome.machine, str(row["level"]), found, false, outcome.state)
    console = Console()
    console.print(table)
    for outcome in done.failed:
        click.echo(f"{outcome.machine}: {escape(outcome.reason)}", err=True)
        click.echo(f"  log: {done.out / 'logs' / outcome.machine}.log", err=True)
