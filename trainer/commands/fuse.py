"""`auscult fuse`: finished scores of several systems combined."""

from __future__ import annotations

from pathlib import Path

import click

from agent.commands.options import Written, json_option
from trainer.commands.options import SEEDS, resamples_option


@click.command()
@click.argument("scores", nargs=-1, required=True)
@click.option(
    "--method",
    type=click.Choice(["mean", "rank", "min", "max", "test-rank"]),
    default="mean",
    show_default=True,
    help="mean: weighted mean; rank: by the share of healthy scores above; min, max: without "
    "weights and labels; test-rank: mean rank within the test set (offline only).",
)
@click.option(
    "--normalize",
    type=click.Choice(["z", "minmax", "quantile", "none"]),
    default=None,
    help="By each system's own healthy scores: deviations, range, or the share of them above. "
    "[default: z; quantile with min and max]",
)
@click.option(
    "--weights",
    default="equal",
    show_default=True,
    metavar="equal|search|W1,W2,...",
    help="search: by grid on the labelled clips, with nested cross-validation.",
)
@click.option(
    "--step",
    type=click.FloatRange(min=0.01, max=1.0),
    default=None,
    help="Step of the search; default: the finest that is quick, 0.05 for two.",
)
@click.option(
    "--objective",
    type=click.Choice(["official", "auc", "pauc"]),
    default="official",
    show_default=True,
    help="What searched weights make as large as can be: the official score, or the AUCs or the "
    "pAUC alone.",
)
@click.option(
    "--key",
    "key_path",
    metavar="CSV",
    type=click.Path(path_type=Path),
    help="Real names of an evaluation set with anonymous ones, as `auscult metrics` takes.",
)
@click.option(
    "--out",
    type=Written(file=False),
    help="Write the fused result files, fusion.json and fusion.yaml into this folder.",
)
@json_option("The fusion")
@click.option(
    "--repeats",
    type=click.IntRange(min=2),
    default=10,
    show_default=True,
    help="How often the clips are halved to judge searched weights.",
)
@resamples_option
@click.option("--seed", type=SEEDS, default=0, show_default=True)
def fuse(
    scores: tuple[str, ...],
    method: str,
    normalize: str | None,
    weights: str,
    step: float | None,
    objective: str,
    key_path: Path | None,
    out: Path | None,
    json_path: Path | None,
    repeats: int,
    resamples: int,
    seed: int,
) -> None:
    """Fuse the scores of several systems, and say what the fusion is worth.

    Each of SCORES is a folder of challenge-format result files (name it with NAME=FOLDER), or a
    folder that `auscult evaluate` wrote, which stands for every system in it. Scores are made
    comparable by each system's healthy scores, which `auscult evaluate` writes beside them, never
    by the test set. At the end stands the section of a preset that fuses so on a device.
    """
    import json

    from rich.console import Console
    from rich.markup import escape
    from rich.syntax import Syntax

    from agent.core.progress import progress_bar
    from trainer.fusion.fuse import fuse as run
    from trainer.fusion.recipe import recipe
    from trainer.fusion.report import fusion_json, fusion_notes, fusion_tables
    from trainer.fusion.systems import find_systems
    from trainer.metrics import read_key, write_scores
    from trainer.metrics.report import metrics_table
    from trainer.metrics.summary import too_few

    given = _numbers(weights)
    if step is not None and abs(round(1 / step) * step - 1) > 1e-9:
        raise click.BadParameter("must divide 1, as 0.05 or 0.1 do", param_hint="--step")
    systems = find_systems(scores, None if key_path is None else read_key(key_path))
    with progress_bar(Console(stderr=True)) as progress:
        done = run(
            systems,
            method.replace("-", "_"),  # type: ignore[arg-type]
            normalize=normalize,  # type: ignore[arg-type]
            weights=given,
            searching=weights == "search",
            step=step,
            objective=objective,  # type: ignore[arg-type]
            repeats=repeats,
            resamples=resamples,
            seed=seed,
            progress=progress,
        )
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, 140)
    console.print(metrics_table(done.machines, done.total))
    for table in fusion_tables(done):
        console.print(table)
    for note in (*fusion_notes(done), too_few(done.machines)):
        if note:
            console.print(f"note: {escape(note)}", highlight=False)
    section = recipe(done)
    for note in section.notes:
        console.print(f"note: {escape(note)}", highlight=False)
    if section.text:
        console.print("\nfor a preset:", highlight=False)
        console.print(Syntax(section.text.rstrip(), "yaml", background_color="default"))
    about = json.dumps(fusion_json(done, resamples=resamples, seed=seed), indent=2) + "\n"
    if out is not None:
        for scored in done.sections:
            write_scores(out, scored)
        (out / "fusion.json").write_text(about, encoding="utf-8")
        if section.text:
            (out / "fusion.yaml").write_text(section.text, encoding="utf-8")
        console.print(f"written: {escape(str(out))}", highlight=False)
    if json_path is not None:
        json_path.parent.mkdir(parents=True, exist_ok=True)
        json_path.write_text(about, encoding="utf-8")
        console.print(f"written: {escape(str(json_path))}", highlight=False)


def _numbers(text: str) -> list[float] | None:
    """Weights as typed; None for `equal` and `search`."""
    if text in {"equal", "search"}:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as fault:
        raise click.BadParameter(
            f"'{text}' is neither equal, nor search, nor numbers with commas between",
            param_hint="--weights",
        ) from fault
