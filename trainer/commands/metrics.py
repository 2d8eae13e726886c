"""`auscult metrics`: score challenge-format result files as the official evaluator does."""

from __future__ import annotations

from pathlib import Path

import click

from agent.commands.options import json_option
from trainer.commands.options import SEEDS, resamples_option


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--key",
    "key_path",
    metavar="CSV",
    type=click.Path(path_type=Path),
    help="Real names of an evaluation set with anonymous ones: a line with the machine's name, "
    "then lines `anonymous,real`.",
)
@json_option("The figures, as fractions,")
@resamples_option
@click.option("--seed", type=SEEDS, default=0, show_default=True)
def metrics(
    folder: Path, key_path: Path | None, json_path: Path | None, resamples: int, seed: int
) -> None:
    """Score the challenge-format files in DIR as DCASE Task 2 does.

    DIR holds anomaly_score_<machine>_section_<s>_test.csv (lines `file name,score`) and perhaps
    decision_result_<machine>_section_<s>_test.csv (`file name,0|1`). The last row is the official
    score: one harmonic mean over the AUC source, AUC target and pAUC of every section.
    """
    import json

    from rich.console import Console
    from rich.markup import escape

    from agent.core.progress import busy
    from trainer.metrics import official, read_key, read_scores, summarize
    from trainer.metrics.report import decisions_table, metrics_json, metrics_table
    from trainer.metrics.summary import too_few

    key = None if key_path is None else read_key(key_path)
    with busy(f"reading scores, and drawing {resamples} resamples"):
        machines = summarize(read_scores(folder, key), resamples=resamples, seed=seed)
    total = official(machines)
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, 140)
    console.print(metrics_table(machines, total))
    decisions = decisions_table(machines)
    if decisions is not None:
        console.print(decisions)
    warning = too_few(machines)
    if warning:
        console.print(f"note: {escape(warning)}", highlight=False)
    if json_path is not None:
        found = metrics_json(machines, total, resamples=resamples, seed=seed)
        json_path.parent.mkdir(parents=True, exist_ok=True)
        json_path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        console.print(f"written: {json_path}")
