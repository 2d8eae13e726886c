"""What reproducing a report takes: the systems to train, and those that weigh finished scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.config.scorer import FusionConfig
from agent.core.errors import ConfigError
from export.reproduce.rehearse import Rehearsal, rehearsed, shortenings
from trainer.fusion.search import Objective
from trainer.members import assemble
from trainer.preset import Preset
from trainer.preset_file import load_preset
from trainer.published.records import Report, find_report


@dataclass(frozen=True, slots=True)
class Weighed:
    """A system made of others' finished scores.

    Attributes:
        name: What it is called here.
        preset: The preset that it stands for.
        members: Presets whose scores are weighed, with their weights; 1 each where they are
            searched.
        objective: What searched weights are to make as large as can be; None for fixed ones.
    """

    name: str
    preset: Preset
    members: Mapping[str, float]
    objective: Objective | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done.

    Attributes:
        number: The report's number.
        report: The report.
        trained: Presets that are trained, exported and scored, in the order of the tables.
        weighed: Systems over their scores.
        columns: What of ours stands beside a column of the report's tables, by (table, column).
        shortened: What a rehearsal has otherwise, a line each; empty for a reproduction.
    """

    number: str
    report: Report
    trained: tuple[Preset, ...]
    weighed: tuple[Weighed, ...]
    columns: Mapping[tuple[int, str], str]
    shortened: tuple[str, ...] = ()


def plan(
    number: str,
    *,
    presets: Path | None = None,
    bundles: bool = False,
    rehearsal: Rehearsal | None = None,
) -> Plan:
    """Plan a report.

    Args:
        number: Its number, `001` or `1`.
        presets: Folder of files that take the place of presets of the same name.
        bundles: Ensembles become bundles of their own, in place of weighed scores.
        rehearsal: How short everything is to be; None for the presets as they are.

    Raises:
        ConfigError: There is no such report, or a preset is wrong.
    """
    report, number = find_report(number), number.zfill(3)
    given = {name: _preset(name, presets) for name in _asked(number, report)}
    shortened: list[str] = []
    if rehearsal is not None:
        short = {name: rehearsed(preset, rehearsal) for name, preset in given.items()}
        shortened = shortenings([(given[name], preset) for name, preset in short.items()])
        given = short
    ensembles = {
        name: preset
        for name, preset in given.items()
        if preset.members and isinstance(preset.scorer, FusionConfig) and not bundles
    }
    weighed = [
        Weighed(name, preset, {m.preset: m.weight for m in preset.members})
        for name, preset in ensembles.items()
    ]
    columns = {
        (table.number, column.name): column.preset
        for table in report.tables
        for column in table.systems
        if column.preset in given
    }
    if number == "000":
        # Its two systems are two ways to choose alpha; which of the four columns is not said.
        fused = given.pop("cbfusion")
        halves = dict.fromkeys(("cbfusion_ae", "cbfusion_beats"), 1.0)
        weighed = [
            Weighed("cbfusion_auc", fused, halves, "auc"),
            Weighed("cbfusion_pauc", fused, halves, "pauc"),
        ]
        columns = {(1, "System1"): "cbfusion_auc", (1, "System2"): "cbfusion_pauc"}
    trained = tuple(preset for name, preset in given.items() if name not in ensembles)
    known = {preset.name for preset in trained}
    for one in weighed:
        absent = sorted(set(one.members) - known)
        if absent:
            raise ConfigError(
                f"{one.name} weighs the scores of {absent[0]}, which is no preset of report "
                f"{number}",
                remedy="Make it a bundle of its own with --bundles.",
            )
    return Plan(number, report, trained, tuple(weighed), columns, tuple(shortened))


def _asked(number: str, report: Report) -> list[str]:
    """Presets that the report's tables and submissions are of, each once."""
    columns = [c.preset for table in report.tables for c in table.systems if c.preset is not None]
    if number == "000":
        columns += ["cbfusion_ae", "cbfusion_beats"]
    return list(dict.fromkeys([*columns, *report.submitted]))


def _preset(name: str, folder: Path | None) -> Preset:
    if folder is not None and (folder / f"{name}.yaml").is_file():
        found = load_preset(folder / f"{name}.yaml")
        if found.name != name:
            raise ConfigError(
                f"is named '{found.name}'",
                where=folder / f"{name}.yaml",
                remedy=f"Name it {name}, the preset whose place it takes.",
            )
        return found
    preset = load_preset(name)
    if folder is None or not preset.members:
        return preset
    # An ensemble's members are those of the folder as well.
    data = preset.model_dump(mode="json")
    data["members"] = [
        member.model_dump(mode="json")
        | {"recipe": _preset(member.preset, folder).model_dump(mode="json")}
        for member in preset.members
    ]
    return Preset.model_validate(assemble(data, where=name))
