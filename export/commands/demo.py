"""`auscult demo`: the whole path, shown on a synthetic machine or on real recordings."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import click

from agent.commands.options import Written
from trainer.commands.options import SEEDS, weights_option


@click.command(short_help="Show the whole path: train, export, listen, raise the alarm.")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Real recordings with labelled test recordings; default: a synthetic machine.",
)
@click.option(
    "--machine", default=None, help="Which machine of --data; needed when it has several."
)
@click.option(
    "--out",
    type=Written(),
    default=Path("auscult-demo"),
    show_default=True,
    help="Folder for everything made.",
)
@click.option("--preset", default="auscult_scratch", show_default=True, help="Name, or a .yaml.")
@weights_option
@click.option(
    "--fault",
    type=click.Choice(["imbalance", "bearing", "belt"]),
    default="bearing",
    show_default=True,
    help="What breaks in the synthetic machine.",
)
@click.option(
    "--severity",
    type=click.FloatRange(0, 2, min_open=True),
    default=0.8,
    show_default=True,
    help="How badly it breaks; 1 is plain to the ear.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=30),
    default=180.0,
    show_default=True,
    help="Healthy sound the agent hears before the fault.",
)
@click.option(
    "--epochs",
    type=click.IntRange(min=1),
    help="Passes over the recordings; default: the preset's. Fewer save time and detect less.",
)
@click.option(
    "--seed", type=SEEDS, default=0, show_default=True, help="Another seed is another machine."
)
def demo(
    data: Path | None,
    machine: str | None,
    out: Path,
    preset: str,
    weights: Path | None,
    fault: str,
    severity: float,
    seconds: float,
    epochs: int | None,
    seed: int,
) -> None:
    """Train on a healthy machine, export, listen to it breaking, and report.

    Needs no root, broker, microphone or download. The agent runs as on a device, in its own
    process, and publishes over MQTT; what is shown is what a subscriber receives. Ends with code 0
    when the alarm was raised after the fault began, else with 1.
    """
    from rich.console import Console

    from export.demo.show import Options, show
    from trainer.preset_file import load_preset

    def on_sigterm(_number: int, _frame: Any) -> None:
        # Unwinds like Ctrl-C does, so that the agent and the broker are stopped.
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, on_sigterm)
    recipe = load_preset(preset)
    if epochs is not None:
        training = recipe.training.model_copy(update={"epochs": epochs})
        recipe = recipe.model_copy(update={"training": training})
    outcome = show(
        Options(
            out=out,
            preset=recipe,
            data=data,
            machine=machine,
            weights=weights,
            seed=seed,
            fault=fault,  # type: ignore[arg-type]  # click has checked it
            severity=severity,
            healthy_seconds=seconds,
        ),
        Console(),
    )
    if not outcome.detected:
        raise click.exceptions.Exit(1)
