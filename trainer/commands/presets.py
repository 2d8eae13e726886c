"""`auscult presets`: what there is to choose from."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command()
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path), help="Also write them to this file."
)
def presets(json_path: Path | None) -> None:
    """List the presets: encoder, checkpoint it needs, scorer, published figures."""
    from rich.console import Console
    from rich.table import Table

    from agent.score.config import describe
    from trainer.preset import load_preset, preset_names

    table = Table(title="presets", title_justify="left")
    for heading in ("preset", "encoder", "needs", "scorer", "what it is"):
        table.add_column(heading, overflow="fold")
    every = [load_preset(name) for name in preset_names()]
    for preset in sorted(every, key=lambda p: (p.floor, p.name)):
        table.add_row(
            preset.name + (" (floor)" if preset.floor else ""),
            f"{preset.encoder.kind} {preset.encoder.features}".strip(),
            preset.encoder.weights or "nothing",
            describe(preset.scorer),
            preset.summary,
        )
    Console().print(table)
    if json_path:
        data = {"presets": {preset.name: preset.model_dump(mode="json") for preset in every}}
        json_path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
