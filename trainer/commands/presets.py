"""`auscult presets`: what there is to choose from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

    from trainer.preset import Preset

_PASSES = 5  # timed passes of one window; the median is shown
_YEAR = "dcase2025"
_THOUSAND, _MILLION = 1_000, 1_000_000


@click.command()
@click.argument("names", nargs=-1)
@click.option(
    "--measure",
    is_flag=True,
    help="Also time one window of each on this machine (torch, float32, two threads, untrained "
    "values); the largest take gigabytes of memory.",
)
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path), help="Also write them to this file."
)
def presets(names: tuple[str, ...], measure: bool, json_path: Path | None) -> None:
    """List the presets: encoder, length, checkpoint it needs, scorer, published figures.

    With NAMES, tell those in full: what they are, which report they follow, how they deviate.
    """
    from rich.console import Console

    from trainer.preset import load_preset, preset_names
    from trainer.progress import progress_bar

    chosen = [load_preset(name) for name in names or preset_names()]
    chosen.sort(key=lambda preset: (preset.floor, preset.name))
    facts: dict[str, dict[str, Any]] = {}
    with progress_bar(Console(stderr=True)) as progress:
        task = progress.add_task("presets", total=len(chosen))
        for preset in chosen:
            progress.update(task, description=preset.name, advance=1)
            facts[preset.name] = {
                "needs": _needs(preset),
                "parameters": _parameters(preset),
                "seconds_a_window": _seconds(preset) if measure else None,
            }
    console = Console()
    if names:
        for preset in chosen:
            _tell(console, preset, facts[preset.name])
    else:
        _list(console, chosen, facts, measure)
    if json_path:
        data = {
            "presets": {
                preset.name: preset.model_dump(mode="json") | facts[preset.name]
                for preset in chosen
            }
        }
        json_path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def _list(
    console: Console, chosen: list[Preset], facts: dict[str, dict[str, Any]], measure: bool
) -> None:
    from rich.table import Table

    from agent.score.config import describe

    table = Table(title="presets", title_justify="left", box=None, padding=(0, 2, 0, 0))
    table.add_column("preset", no_wrap=True)
    table.add_column("encoder", overflow="fold")
    table.add_column("values", justify="right", no_wrap=True)
    if measure:
        table.add_column("s a window", justify="right")
    table.add_column("needs", overflow="fold")
    table.add_column("scorer", overflow="fold")
    table.add_column("published*", justify="right", no_wrap=True)
    for preset in chosen:
        found = facts[preset.name]
        row = [
            preset.name + (" (floor)" if preset.floor else ""),
            _encoder(preset),
            _length(found["parameters"]),
            *([f"{found['seconds_a_window']:.3f}"] if measure else []),
            "\n".join(_short(name) for name in found["needs"]) or "nothing",
            describe(preset.scorer),
            _published(preset),
        ]
        table.add_row(*row)
    console.print(table)
    console.print(
        "* official score, DCASE 2025 development / evaluation. `auscult presets NAME` tells more.",
        highlight=False,
    )


def _tell(console: Console, preset: Preset, found: dict[str, Any]) -> None:
    from rich.markup import escape

    from agent.score.config import describe

    console.print(f"[bold]{preset.name}[/]: {escape(preset.summary)}", highlight=False)
    lines = {
        "source": preset.source,
        "encoder": f"{_encoder(preset)}, {_length(found['parameters'])} values",
        "needs": ", ".join(found["needs"]) or "nothing",
        "training": preset.training.kind,
        "scorer": describe(preset.scorer),
    }
    if found["seconds_a_window"] is not None:
        lines["one window"] = f"{found['seconds_a_window']:.3f} s here, torch, two threads"
    if preset.published:
        lines["published"] = json.dumps(preset.published)
    for title, text in lines.items():
        console.print(f"  {title}: {escape(text)}", highlight=False)


def _encoder(preset: Preset) -> str:
    return " + ".join(
        " ".join(word for word in (part.kind, part.size, part.features) if word)
        for part in preset.encoder.each
    )


def _needs(preset: Preset) -> list[str]:
    """Checkpoints, each once."""
    return list(dict.fromkeys(part.weights for part in preset.encoder.each if part.weights))


def _short(checkpoint: str) -> str:
    """A checkpoint by the name that `auscult pretrained list` gives it."""
    place = Path(checkpoint)
    return place.stem if len(place.parts) == 1 else place.parts[0]


def _published(preset: Preset) -> str:
    figures = [
        preset.published.get(f"{_YEAR}_{part}", {}).get("official_score")
        for part in ("development", "evaluation")
    ]
    if not any(figures):
        return ""
    return " / ".join("-" if figure is None else f"{figure:.2f}" for figure in figures)


def _length(values: int) -> str:
    if values >= 10 * _MILLION:
        return f"{values / _MILLION:.0f} M"
    if values >= _MILLION:
        return f"{values / _MILLION:.1f} M"
    return f"{values / _THOUSAND:.0f} k" if values else "0"


def _parameters(preset: Preset) -> int:
    """Learnt values of the encoder, counted without taking memory for them."""
    import torch

    with torch.device("meta"):
        encoder = _build(preset)
    return sum(parameter.numel() for parameter in encoder.parameters())


def _seconds(preset: Preset) -> float:
    """Median time of one window through the untrained encoder, seconds."""
    import logging
    import statistics
    import time

    import torch

    # It warns of values that nobody loaded, which is what is asked for here.
    logging.getLogger("trainer.encoders").setLevel(logging.ERROR)
    encoder = _build(preset)
    waveform = 0.1 * torch.randn(1, encoder.window_samples)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with torch.inference_mode():
            encoder(waveform)
            taken = []
            for _ in range(_PASSES):
                began = time.perf_counter()
                encoder(waveform)
                taken.append(time.perf_counter() - began)
    finally:
        torch.set_num_threads(threads)
    return statistics.median(taken)


def _build(preset: Preset) -> Any:
    from trainer.encoders.registry import build_encoder

    return build_encoder(
        preset.encoder.without_weights(),
        window_seconds=preset.window.seconds,
        weights=None,
        seed=0,
        members=preset.training.ensemble,
    )
