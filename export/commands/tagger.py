"""`auscult convert-tagger`: a published sound tagger becomes what agents run."""

from __future__ import annotations

from pathlib import Path

import click

from agent.commands.options import Written


@click.command("convert-tagger", short_help="Make a published sound tagger ready for agents.")
@click.argument("source", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=Written(),
    default=Path("tagger.onnx"),
    show_default=True,
    help="Where the ONNX graph is written.",
)
def convert_tagger_command(source: Path, out: Path) -> None:
    """Convert SOURCE, YAMNet as TensorFlow Lite with spectra as input, to ONNX.

    An agent that names the result (`foreign.tagger` of a machine) says what else is heard when a
    window exceeds: speech, music, vehicles, rain, tools, blows.
    """
    from agent.core.progress import busy
    from export.tagger import convert_tagger

    with busy("converting"):
        convert_tagger(source, out)
    click.echo(f"{out}: name it as foreign.tagger of a machine in agent.yaml")
