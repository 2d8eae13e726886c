"""Which report a preset follows, with everything that is otherwise: its own and its members'."""

from __future__ import annotations

from agent.bundle.report import ReportInfo
from trainer.members import recipes
from trainer.preset import Preset
from trainer.published.records import find_report


def report_info(preset: Preset) -> ReportInfo | None:
    """What presets, bundles and pages say of the report; None for a preset that follows none.

    Args:
        preset: The preset; deviations of an ensemble's members come after its own, each once.

    Raises:
        ConfigError: There is no report of the number it names.
    """
    own = preset.report
    if own is None:
        return None
    deviations, chosen = list(own.deviations), list(own.chosen)
    for name, recipe in recipes(preset).items():
        if recipe.report is not None:
            deviations += [f"{name}: {what}" for what in recipe.report.deviations]
            chosen += [f"{name}: {what}" for what in recipe.report.chosen]
    return own.model_copy(
        update={
            "title": find_report(own.number).title,
            "deviations": tuple(dict.fromkeys(deviations)),
            "chosen": tuple(dict.fromkeys(chosen)),
        }
    )
