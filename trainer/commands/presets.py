"""`auscult presets`: what there is to choose from."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.commands.options import json_option, write_given

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from trainer.preset import Preset

_PASSES = 5  # timed passes of one window; the median is shown
_YEAR = "dcase2025"
_WIDE = 160  # columns for who reads no terminal
_GAP = 2  # columns between those of the table
_RIGHT = {"values", "s a window", "published*"}
_HOW_MEASURED = (
    f"torch, float32, two threads, median of {_PASSES} windows; values are random, whether or not "
    "there is a checkpoint"
)
_MEASURED = (
    f"Times: {_HOW_MEASURED}. They say what an encoder costs, not how well it hears; a device "
    "runs the exported graph, mostly in INT8 and faster, and `auscult export` times that."
)
_THOUSAND, _MILLION = 1_000, 1_000_000


@click.command()
@click.argument("names", nargs=-1)
@click.option(
    "--measure",
    is_flag=True,
    help="Also time one window of each on this machine: torch, float32, two threads, with random "
    "values in place of trained ones. The largest take gigabytes of memory.",
)
@json_option("They")
def presets(names: tuple[str, ...], measure: bool, json_path: Path | None) -> None:
    """List the presets: encoder, length, checkpoint it needs, scorer, published figures.

    With NAMES, tell those in full: what they are, which report they follow, how they deviate.
    """
    from rich.console import Console

    from agent.core.progress import progress_bar
    from trainer.defaults import needed_weights
    from trainer.preset_file import load_preset, preset_names
    from trainer.published.follow import report_info
    from trainer.published.show import published_json

    chosen = [load_preset(name) for name in names or preset_names()]
    chosen.sort(key=lambda preset: (preset.floor, preset.name))
    facts: dict[str, dict[str, Any]] = {}
    with progress_bar(Console(stderr=True)) as progress:
        task = progress.add_task("presets", total=len(chosen))
        for preset in chosen:
            progress.update(task, description=preset.name, advance=1)
            follows = report_info(preset)
            facts[preset.name] = {
                "needs": needed_weights(preset),
                "parameters": _parameters(preset),
                "seconds_a_window": _seconds(preset) if measure else None,
                "follows": None if follows is None else follows.model_dump(mode="json"),
                "figures": published_json(preset.name),
            }
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, _WIDE)
    if names:
        for preset in chosen:
            _tell(console, preset, facts[preset.name])
    else:
        list_presets(console, chosen, facts)
    if measure:
        console.print(_MEASURED, highlight=False)
    if json_path is None:
        return
    data: dict[str, Any] = {"measured": _HOW_MEASURED} if measure else {}
    data["presets"] = {
        preset.name: preset.model_dump(mode="json") | facts[preset.name] for preset in chosen
    }
    write_given(json_path, data)


def list_presets(
    console: Console, chosen: Sequence[Preset], facts: Mapping[str, Mapping[str, Any]]
) -> None:
    """Print a line a preset, or, where that would break names, a paragraph each.

    Args:
        console: Where to.
        chosen: The presets, in order.
        facts: Of each by its name: `needs`, `parameters` and `seconds_a_window`.
    """
    from rich.markup import escape
    from rich.padding import Padding
    from rich.table import Table

    from agent.config.scorer import describe

    rows = []
    for preset in chosen:
        found = facts[preset.name]
        seconds = found["seconds_a_window"]
        rows.append(
            (
                preset.name + (" (floor)" if preset.floor else ""),
                _encoder(preset),
                _length(found["parameters"]),
                "" if seconds is None else f"{seconds:.3f}",
                "\n".join(_short(name) for name in found["needs"]) or "no checkpoint",
                describe(preset.scorer),
                _published(preset),
            )
        )
    titles = ("preset", "encoder", "values", "s a window", "needs", "scorer", "published*")
    shown = [place for place, title in enumerate(titles) if any(row[place] for row in rows)]
    wide = _widths([titles, *rows], shown, console.width)
    if wide:
        table = Table(title="presets", title_justify="left", box=None, padding=(0, _GAP, 0, 0))
        for place, width in zip(shown, wide, strict=True):
            right = titles[place] in _RIGHT
            table.add_column(titles[place], justify="right" if right else "left", width=width)
        for row in rows:
            table.add_row(*(escape(row[place]) for place in shown))
        console.print(table)
    else:
        for name, encoder, values, seconds, needs, scorer, figures in rows:
            console.print(f"[bold]{escape(name)}[/]", highlight=False)
            told = [encoder, f"{values} values", *([f"{seconds} s a window"] if seconds else [])]
            told += [f"needs {needs.replace(chr(10), ' and ')}", f"scorer: {scorer}"]
            told += [f"published* {figures}"] if figures else []
            console.print(Padding(escape("; ".join(told)), (0, 0, 0, 2)), highlight=False)
    console.print(
        "* official score, DCASE 2025 development / evaluation. `auscult presets NAME` tells more.",
        highlight=False,
    )


def _widths(
    rows: Sequence[Sequence[str]], shown: Sequence[int], available: int
) -> list[int] | None:
    """Widths of the columns, or None where some name or figure would have to be broken.

    Args:
        rows: Texts, titles first.
        shown: Which columns.
        available: Width of the whole.
    """
    wanted, least = [], []
    for place in shown:
        texts = [row[place] for row in rows]
        wanted.append(max(len(line) for text in texts for line in text.split("\n")))
        whole = rows[0][place] in _RIGHT
        pieces = [text for text in texts[1:] if whole] or [w for t in texts for w in t.split()]
        least.append(max(len(piece) for piece in pieces))
    if sum(least) + _GAP * len(shown) > available:
        return None
    # What can best be spared is taken away, a column's width at a time.
    while sum(wanted) + _GAP * len(shown) > available:
        slack = [have - need for have, need in zip(wanted, least, strict=True)]
        wanted[slack.index(max(slack))] -= 1
    return wanted


def _tell(console: Console, preset: Preset, found: dict[str, Any]) -> None:
    from rich.markup import escape
    from rich.padding import Padding

    from agent.config.scorer import describe
    from trainer.published.follow import report_info
    from trainer.published.records import find_report, reports_of
    from trainer.published.show import published_tables

    console.print(f"[bold]{preset.name}[/]: {escape(preset.summary)}", highlight=False)
    follows = report_info(preset)
    lines = {
        "source": preset.source,
        "report": "" if follows is None else f"{follows.number}, {follows.system}: {follows.title}",
        "members": ", ".join(
            f"{m.weight:g} {m.preset}" if preset.scorer.kind == "fusion" else m.preset
            for m in preset.members
        ),
        "encoder": f"{_encoder(preset)}, {_length(found['parameters'])} values",
        "needs": ", ".join(found["needs"]) or "no checkpoint",
        "training": preset.training.kind,
        "scorer": describe(preset.scorer),
    }
    if found["seconds_a_window"] is not None:
        lines["one window"] = f"{found['seconds_a_window']:.3f} s here"
    if preset.published:
        lines["published"] = json.dumps(preset.published)
    for title, text in lines.items():
        if text:
            console.print(f"  {title}: {escape(text)}", highlight=False)
    if follows is not None:
        _listed(console, "otherwise than the report", follows.deviations)
        _listed(console, "the report does not say", follows.chosen)
    for title, table in published_tables(preset.name):
        console.print(f"  {escape(title)}", highlight=False)
        console.print(Padding(table, (0, 0, 0, 4)))
    for number in reports_of(preset.name):
        _listed(console, f"of report {number}", find_report(number).notes)


def _listed(console: Console, title: str, texts: Sequence[str]) -> None:
    from rich.markup import escape
    from rich.padding import Padding

    if texts:
        console.print(f"  {title}:", highlight=False)
    for text in texts:
        console.print(Padding(f"- {escape(text)}", (0, 0, 0, 4)), highlight=False)


def _encoder(preset: Preset) -> str:
    parts = Counter(
        " ".join(word for word in (part.kind, part.size, part.features) if word)
        for part in preset.encoder.each
    )
    return " + ".join(part if count == 1 else f"{count} x {part}" for part, count in parts.items())


def _short(checkpoint: str) -> str:
    """A checkpoint by the name that `auscult pretrained list` gives it."""
    place = Path(checkpoint)
    return place.stem if len(place.parts) == 1 else place.parts[0]


def _published(preset: Preset) -> str:
    from trainer.published.records import development_score

    figures = [
        preset.published.get(f"{_YEAR}_{part}", {}).get("official_score")
        for part in ("development", "evaluation")
    ]
    if figures[0] is None:
        figures[0] = development_score(preset.name)
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
