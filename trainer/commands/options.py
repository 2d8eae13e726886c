"""Options that several commands share: one wording, one range, one default."""

from __future__ import annotations

from pathlib import Path

import click

# What numpy, scikit-learn and torch all take as a seed.
SEEDS = click.IntRange(min=0, max=2**32 - 1)

weights_option = click.option(
    "--weights",
    type=click.Path(path_type=Path, exists=True),
    envvar="AUSCULT_WEIGHTS",
    help="Folder of pre-trained checkpoints, or the file itself.",
)
channel_option = click.option(
    "--channel",
    type=click.IntRange(min=0),
    help="Channel to read, from 0; default: the average.",
)
untypical_option = click.option(
    "--untypical",
    type=click.Choice(["refuse", "leave-out", "keep"]),
    default="refuse",
    show_default=True,
    help="What to do with healthy recordings unlike all others: leave-out learns without them, "
    "keep learns from them but lets them set no threshold.",
)
machines_option = click.option(
    "--machine", "names", multiple=True, help="Only this machine of DATA; may be given repeatedly."
)
split_option = click.option(
    "--split",
    type=click.Choice(["given", "time"]),
    default="given",
    show_default=True,
    help="time: learn from the earlier healthy recordings and judge on the later, whichever folder "
    "they are in.",
)
cut_option = click.option(
    "--cut",
    metavar="WHEN",
    help="Where --split time divides: a share of the healthy recordings (0.5), which cuts between "
    "days where there are several, or a date or time (2026-03-26).  [default: 0.5]",
)
resamples_option = click.option(
    "--resamples",
    type=click.IntRange(min=100),
    default=2000,
    show_default=True,
    help="Bootstrap resamples behind the intervals.",
)
