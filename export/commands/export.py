"""`auscult export`: from a trained run to a bundle for the device."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.commands.options import Written, json_option

if TYPE_CHECKING:
    from export.compare import Comparison


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--out",
    required=True,
    metavar="BUNDLE",
    type=Written(),
    help="Folder of the bundle; an earlier bundle there is replaced.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Where the recordings are, if they moved since training.",
)
@click.option("--float", "as_float", is_flag=True, help="Keep float32: no quantization.")
@click.option(
    "--encoder-from",
    metavar="BUNDLE",
    type=click.Path(path_type=Path),
    help="Take the INT8 graph of this bundle, exported of the same preset for another machine: a "
    "device that has both holds it once. Refused where it embeds this machine's sound otherwise.",
)
@click.option(
    "--test/--no-test",
    default=True,
    show_default=True,
    help="Score the test set, where there is one, in float32 and as exported.",
)
@click.option(
    "--sign",
    "key",
    metavar="KEY",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Sign the bundle with this private key of `auscult keygen`.",
)
@click.option(
    "--machine",
    metavar="NAME",
    help="The machine that the bundle is for: a device that took up another machine's refuses it, "
    "where it takes only signed ones.  [default: the machine that was trained]",
)
@click.option(
    "--counter",
    type=click.IntRange(min=0),
    help="What a device orders a machine's bundles by: one below the highest that it took up is "
    "older.  [default: seconds since 1970]",
)
@click.option(
    "--sound/--no-sound",
    default=True,
    show_default=True,
    help="Put a few healthy windows into the bundle as sound (4 MB at most), to be heard beside an "
    "alarm on the device's page.",
)
@click.option(
    "--device",
    "device_path",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="What the device can do, from `auscult tune --profile FILE` there: tells whether the "
    "bundle is one for it.",
)
@json_option("The figures")
def export(
    run: Path,
    out: Path,
    data: Path | None,
    as_float: bool,
    encoder_from: Path | None,
    test: bool,
    key: Path | None,
    machine: str | None,
    counter: int | None,
    sound: bool,
    device_path: Path | None,
    json_path: Path | None,
) -> None:
    """Write the bundle of a RUN that `auscult train` left.

    The encoder becomes one ONNX graph from waveform to embedding, INT8 as far as the preset's
    bounds allow, with the memory bank and the threshold made through that graph. Prints what
    quantization did; refuses to write a bundle that it moved too far.
    """
    from rich.console import Console
    from rich.markup import escape

    from agent.calibrate.fit_cache import FitCache
    from agent.core.program import next_command
    from agent.core.progress import busy, progress_bar
    from agent.core.storage import write_json
    from agent.encode.embedding_cache import EmbeddingCache
    from agent.learn.report import told
    from agent.tune.profile import read_profile
    from agent.verdict.report import rehearsal_json

    with busy("loading what exports"):
        from export.bundle import export_bundle
    from export.fits import judge_fit
    from trainer.graph.graph_cache import GraphCache

    if as_float and encoder_from is not None:
        raise click.UsageError("give either --float or --encoder-from")
    console = Console()
    profile = None if device_path is None else read_profile(device_path)
    done = export_bundle(
        run,
        out,
        data=data,
        precision="float32" if as_float else "int8",
        test=test,
        sign=key,
        machine_name=machine,
        counter=counter,
        sound=sound,
        console=console,
        cache=EmbeddingCache.of_user(),
        graphs=GraphCache.of_user(),
        fits=FitCache.of_user(),
        encoder_from=encoder_from,
    )
    manifest = done.manifest
    limit, rehearsal, tell = manifest.threshold, done.rehearsal, console.print
    for colour, line in told(manifest, rehearsal, done.healthy_hours, done.tested):
        tell(f"[{colour}]{escape(line)}[/{colour}]", highlight=False)
    size = sum(record.size for record in manifest.files.values())
    tell(f"wrote {escape(str(out))} ({size / 1e6:.2f} MB)", highlight=False, soft_wrap=True)
    with progress_bar(Console(stderr=True)) as progress:
        task = progress.add_task("measuring the encoder", total=1)
        fit = judge_fit(out, manifest, profile)
        progress.advance(task)
    tell(escape(fit.words()), highlight=False)
    for fault in fit.faults:
        tell(
            f"[bold red]too large:[/bold red] {escape(fault)}. Listen with a longer `hop_seconds`, "
            "or train a smaller preset (`auscult presets`)",
            highlight=False,
        )
    tell(escape(next_command("score", "--bundle", out, "FILE...")), highlight=False, soft_wrap=True)
    if json_path is not None:
        figures = {
            "bundle": str(out),
            "precision": manifest.encoder.precision,
            "quantization": manifest.quantization.model_dump(mode="json"),
            "comparison": _compared(done.comparison),
            "healthy": rehearsal_json(rehearsal.figures, rehearsal.ruling)
            if rehearsal.clips
            else None,
            "test": None
            if done.comparison.test is None or done.tested is None
            else rehearsal_json(done.comparison.test.figures, done.tested),
            "threshold": limit.model_dump(mode="json"),
            "agreement": None
            if manifest.agreement is None
            else manifest.agreement.model_dump(mode="json"),
            "notes": list(manifest.notes),
            "device": {
                "profile": None if profile is None else profile.model_dump(mode="json"),
                "here": asdict(fit.cost),
                "load": fit.load,
                "too_large": list(fit.faults),
            },
        }
        write_json(json_path, figures)


def _compared(comparison: Comparison) -> dict[str, Any]:
    """The comparison for JSON; what the threshold did stands by itself."""
    found = asdict(comparison)
    if found["test"] is not None:
        del found["test"]["figures"]
    return found
