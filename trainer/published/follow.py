"""Which report a preset follows, with everything that is otherwise: its own and its members'."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
    members = {
        name: recipe.report for name, recipe in recipes(preset).items() if recipe.report is not None
    }
    return own.model_copy(
        update={
            "title": find_report(own.number).title,
            "deviations": _with_members(
                own.deviations, {name: report.deviations for name, report in members.items()}
            ),
            "chosen": _with_members(
                own.chosen, {name: report.chosen for name, report in members.items()}
            ),
        }
    )


def _with_members(own: Sequence[str], members: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """An ensemble's remarks, then its members', each once with the names it holds for."""
    held: dict[str, list[str]] = {}
    for name, texts in members.items():
        for text in texts:
            held.setdefault(text, []).append(name)
    theirs = [f"{', '.join(names)}: {text}" for text, names in held.items() if text not in own]
    return (*own, *theirs)
