"""`auscult drift`: watch a recorded sequence for slow change."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.commands.options import Written, json_option
from agent.core.text import plural
from trainer.commands.options import SEEDS

if TYPE_CHECKING:
    from trainer.drift.sequence import Sequence


@click.command()
@click.argument("sequence", type=click.Path(path_type=Path))
@click.option(
    "--baseline",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.1,
    show_default=True,
    help="Leading share of the sequence that is known to be normal.",
)
@json_option("Distances, threshold and warnings")
@click.option(
    "--out",
    "out",
    metavar="DIR",
    type=Written(file=False),
    help="Write drift.json, drift.png, and baseline.json and state.json for --resume here.",
)
@click.option(
    "--bundle",
    "bundle_path",
    metavar="B",
    type=click.Path(path_type=Path),
    help="Take this bundle's encoder for features; without it, band statistics.",
)
@click.option("--rate", type=click.FloatRange(min=1), help="Sampling rate of an npz, Hz.")
@click.option(
    "--window",
    "window_seconds",
    type=click.FloatRange(min=0.01),
    default=10.0,
    show_default=True,
    help="Step of a folder's band statistics, seconds; shorter recordings shorten it.",
)
@click.option(
    "--sigmas",
    type=click.FloatRange(min=0, min_open=True),
    help="k of the threshold, mean + k sigma; 2 for band statistics, 4 for embeddings if left out.",
)
@click.option("--block", type=click.IntRange(min=2), help="Windows a block; chosen when left out.")
@click.option("--seed", type=SEEDS, default=0, show_default=True)
@click.option(
    "--accept",
    type=int,
    multiple=True,
    metavar="STEP",
    help="Confirm at this step that the standing change is healthy, and follow it.",
)
@click.option("--operator", default="", help="Who confirms; needed with --accept.")
@click.option(
    "--resume",
    metavar="DIR",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Go on from this folder's baseline.json and state.json; all of SEQUENCE is new.",
)
def drift(
    sequence: Path,
    baseline: float,
    json_path: Path | None,
    out: Path | None,
    bundle_path: Path | None,
    rate: float | None,
    window_seconds: float,
    sigmas: float | None,
    block: int | None,
    seed: int,
    accept: tuple[int, ...],
    operator: str,
    resume: Path | None,
) -> None:
    """Watch SEQUENCE for drift.

    SEQUENCE is a folder of audio, in time order by name, or an npz of snapshots x[n, samples,
    channels] with their times t. Of a machine's training folder the healthy recordings are taken;
    one that cannot be read is skipped. Its beginning is taken as normal; the rest is compared with
    it by an evolving Student-t mixture (DtMM), and by six simple charts on the same features. The
    verdict is DtMM's or the rolling median's; both must say so while running-in may go on.
    """
    import json
    from dataclasses import replace

    import numpy as np
    from rich.console import Console

    from agent.core.progress import busy, progress_bar
    from agent.core.storage import make_parents, write_atomic
    from agent.deploy.opening import open_tried
    from agent.drift.baseline import DriftError, load_baseline, save_baseline
    from agent.drift.monitor import DriftMonitor
    from agent.drift.state import load_state, save_state
    from trainer.drift.plot import draw
    from trainer.drift.replay import alone, observe_all, replay, summary, trace, warnings_json
    from trainer.drift.report import charts_table
    from trainer.drift.sequence import read_sequence

    if accept and not operator.strip():
        raise click.UsageError("--accept needs --operator: who confirms is kept with the state.")
    if not sequence.exists():
        raise DriftError("does not exist", where=sequence, remedy="Give a folder or an .npz file.")
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, 120)
    bundle = None if bundle_path is None else open_tried(bundle_path)
    with progress_bar(Console(stderr=True)) as progress:
        steps = read_sequence(
            sequence,
            rate=rate,
            bundle=bundle,
            window_seconds=window_seconds,
            progress=progress,
        )
    _tell_missing(steps)
    if resume is None:
        settings = replace(
            steps.settings, sigmas=sigmas or steps.settings.sigmas, block=block, seed=seed
        )
        with busy("following the drift"):
            done = replay(
                steps, baseline=baseline, settings=settings, accept=accept, operator=operator
            )
        monitor, readings, accepted = done.monitor, done.readings, done.accepted
        traces, tolerant = done.charts, done.tolerant
        first, unjudged = done.baseline_count, done.unjudged
    else:
        monitor = DriftMonitor(
            load_baseline(resume / "baseline.json"), load_state(resume / "state.json")
        )
        with busy("following the drift"):
            readings, accepted = observe_all(
                monitor, steps, first=0, accept=accept, operator=operator
            )
        traces = {"verdict": trace(readings), "dtmm": alone(readings, monitor)}
        tolerant = {}
        first = 0
        judged = np.isfinite(steps.features).all(axis=1)
        unjudged = tuple(int(index) for index in np.flatnonzero(~judged))
    found = {
        "n": len(steps.steps),
        "baseline_n": first,
        "monitors": warnings_json(traces),
        "same_allowance": warnings_json(tolerant),
        "accepted": list(accepted),
        "unjudged": list(unjudged),
        "left_out": steps.left_out,
        "notes": list(steps.notes),
        "skipped": [{"file": str(one.path), "reason": one.reason} for one in steps.skipped],
        **summary(steps, monitor, readings),
    }
    console.print(charts_table(traces, tolerant, count=len(steps.steps)))
    for detail in found["details"]:
        console.print(f"step {detail['window']} ({detail['source']}): {detail['text']}")
    places = [] if json_path is None else [(json_path, json_path.with_suffix(".png"))]
    if out is not None:
        places.append((out / "drift.json", out / "drift.png"))
        save_baseline(monitor.baseline, out / "baseline.json")
        save_state(monitor.state(whole=True), out / "state.json")
    for text, picture in places:
        make_parents(text)
        write_atomic(text, (json.dumps(found, indent=1) + "\n").encode())
        draw(
            traces,
            count=len(steps.steps),
            baseline=first,
            title=f"{sequence.name}: {steps.source}",
            path=picture,
        )
        console.print(f"written: {text}, {picture}")


def _tell_missing(steps: Sequence) -> None:
    """Say on stderr which recordings are no part of the sequence."""
    if steps.left_out:
        names = ", ".join(f"{folder or '.'}/ ({count})" for folder, count in steps.left_out.items())
        click.echo(f"auscult: only the healthy recordings are taken; left out: {names}", err=True)
    for note in steps.notes:
        click.echo(f"auscult: {note}", err=True)
    for one in steps.skipped:
        click.echo(f"auscult: {one.path} is skipped: {one.reason}. {one.remedy}", err=True)
    if steps.skipped:
        used = len({step.source for step in steps.steps})
        found = plural(used + len(steps.skipped), "recording")
        click.echo(
            f"auscult: {len(steps.skipped)} of {found} skipped",
            err=True,
        )
