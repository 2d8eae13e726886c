"""`auscult shorten`: shorter forms of a trained transformer, with what each loses."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.commands.options import Written, json_option

if TYPE_CHECKING:
    from rich.table import Table

    from agent.tune.forms import FormInfo, FormList


@click.command(short_help="Measure shorter forms of a trained transformer, and choose one.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--out", required=True, metavar="FORMS", type=Written(file=False),
    help="Folder that gets a bundle for each form, and forms.json.",
)  # fmt: skip
@click.option(
    "--data", type=click.Path(path_type=Path),
    help="Where the recordings are, if they moved since training.",
)  # fmt: skip
@click.option(
    "--form", "forms", multiple=True, metavar="FORM",
    help="Measure this form beside the full one, and no other: layer8, merge4, heads6, or several "
    "joined by + (repeatable).  [default: all worth measuring]",
)  # fmt: skip
@click.option(
    "--loss", type=click.FloatRange(min=0), default=1.0, show_default=True,
    help="How many percent points of the test set's harmonic mean a form may lose.",
)  # fmt: skip
@click.option(
    "--cosine", type=click.FloatRange(0, 1), default=0.98, show_default=True,
    help="Without a test set of both kinds: the mean cosine that a form's embeddings must have to "
    "the full form's.",
)  # fmt: skip
@click.option(
    "--device", "device_path", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False),
    help="What the device can do, from `auscult tune --profile FILE` there: the largest form that "
    "fits is chosen.  [default: the cheapest is]",
)  # fmt: skip
@click.option(
    "--sign", "key", metavar="KEY", type=click.Path(path_type=Path, dir_okay=False),
    help="Sign the bundles with this private key of `auscult keygen`.",
)  # fmt: skip
@click.option("--machine", metavar="NAME", help="The machine that the bundles are for.")
@json_option("What forms.json holds")
def shorten_command(
    run: Path,
    out: Path,
    data: Path | None,
    forms: tuple[str, ...],
    loss: float,
    cosine: float,
    device_path: Path | None,
    key: Path | None,
    machine: str | None,
    json_path: Path | None,
) -> None:
    """Measure shorter forms of the transformer of a RUN that `auscult train` left.

    Fewer layers, tokens of neighbouring time steps merged, fewer attention heads, and those
    together that lose little enough: each is exported with a bank and a threshold of its own, and
    held against the full form on the run's test set. Takes about ten exports.
    """
    from rich.console import Console
    from rich.markup import escape

    from agent.core.program import next_command
    from agent.core.progress import busy
    from agent.core.storage import write_json
    from agent.encode.embedding_cache import EmbeddingCache
    from agent.tune.profile import read_profile

    with busy("loading what trains and exports"):
        import export.bundle  # noqa: F401
    from export.form_loss import Bounds
    from export.shorten import shorten_run
    from trainer.graph.graph_cache import GraphCache

    console, told = Console(), Console(stderr=True)
    profile = None if device_path is None else read_profile(device_path)
    found = shorten_run(
        run,
        out,
        data=data,
        forms=forms,
        bounds=Bounds(loss, cosine),
        profile=profile,
        sign=key,
        machine_name=machine,
        console=told,
        told=lambda form: told.print(escape(_words(form)), highlight=False),
        cache=EmbeddingCache.of_user(),
        graphs=GraphCache.of_user(),
    )
    if json_path is not None:
        write_json(json_path, found.model_dump(mode="json"))
    console.print(forms_table(found))
    if found.judged_by == "cosine":
        console.print(
            "[yellow]no test set with faults: what is lost of detection is not known. Cosine "
            "judged, so that fewer layers, whose embedding is another, were not chosen[/]"
        )
    why = f"the largest that fits {found.device}" if found.device else "the cheapest within bounds"
    if found.too_large:
        why = "the cheapest within bounds: none fits the device"
        console.print(
            f"[yellow]{escape('; '.join(found.too_large))}. Listen with a longer `hop` or to fewer "
            "machines, allow a greater --loss, or train a smaller preset[/]",
            highlight=False,
        )
    console.print(f"chosen: [bold]{escape(found.chosen)}[/bold], {escape(why)}", highlight=False)
    for line in (
        next_command("score", "--bundle", out / found.chosen, "FILE..."),
        next_command("tune", "--forms", out),
    ):
        console.print(escape(line), highlight=False, soft_wrap=True)


def _words(form: FormInfo) -> str:
    if form.fault:
        return f"{form.name}: not exported: {form.fault}"
    parts = []
    if form.cosine_mean is not None:
        parts.append(f"cosine {form.cosine_mean:.4f}")
    if form.hmean is not None:
        parts.append(f"harmonic mean {100 * form.hmean:.2f}")
    return f"{form.name}: {', '.join(parts)}"


def forms_table(found: FormList) -> Table:
    """The forms for a person to read."""
    from rich.table import Table

    full = found.forms[0]
    clips = f", {found.clips} test recordings" if found.clips else ""
    table = Table(title=f"{found.preset}, {found.machine}{clips}", title_justify="left")
    for heading in ("form", "processor", "memory", "cosine (least)", "harmonic mean",
                    "loss (95 %)", "within"):  # fmt: skip
        table.add_column(heading, justify="left" if heading == "form" else "right")
    for form in found.forms:
        table.add_row(
            form.name,
            "" if form.cpu_ms is None or full.cpu_ms is None
            else f"{form.cpu_ms:.1f} ms (x {full.cpu_ms / form.cpu_ms:.2f})",
            "" if form.memory_mb is None else f"{form.memory_mb:.0f} MB",
            "" if form.cosine_mean is None else f"{form.cosine_mean:.4f} ({form.cosine_min:.4f})",
            "" if form.hmean is None else f"{100 * form.hmean:.2f}",
            "" if form.loss is None
            else f"{form.loss:+.2f} ({form.loss_low:+.1f} to {form.loss_high:+.1f})",
            form.fault or ("yes" if form.within else "no"),
        )  # fmt: skip
    return table
