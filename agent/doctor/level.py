"""What the doctor says of a machine's level: what counts, what is taken off, what cannot be."""

from __future__ import annotations

from collections.abc import Iterator

from agent.bundle.verify import read_manifest
from agent.config.agent import AgentConfig, MachineConfig
from agent.core.errors import AuscultError
from agent.deploy.versions import active_bundle, version_folders
from agent.doctor.finding import Finding, Grade
from agent.level.baseline import LevelFile, level_file, origin_of
from agent.level.columns import level_columns
from agent.level.ignore import LEVEL_UNKNOWN
from agent.level.words import microphone_words


def check_level(config: AgentConfig, machine: MachineConfig) -> Iterator[Finding]:
    """Findings about a machine's level; none where there is nothing to say.

    Args:
        config: The agent's.
        machine: The machine.
    """
    name, place = f"level of {machine.name}", config.bundle_of(machine)
    try:
        folders = version_folders(config.state_path, machine.name, place)
        manifest = read_manifest(active_bundle(place, folders))
    except AuscultError:
        return  # the bundle's own finding says so
    if machine.level == "ignore":
        if level_columns(manifest) is None:
            yield Finding(
                name, Grade.WARN, f"level: ignore is asked for, but {LEVEL_UNKNOWN}",
                "Train and export it anew with a default preset, or set `level: judge`",
            )  # fmt: skip
        else:
            yield Finding(name, Grade.OK, "ignored: how loud the machine is says nothing")
    file = LevelFile(level_file(config.state_path / "state", machine.name))
    file.load()
    held = file.holding(origin_of(manifest))
    if held is not None:
        why = f": {held.comment}" if held.comment else ""
        if held.bands is not None:
            text = microphone_words(held) + why
            remedy = "To take that back: the page, or the command `level_baseline_undo`"
            yield Finding(name, Grade.OK, text, remedy)
            return
        yield Finding(
            name, Grade.OK,
            f"{held.decibels:+.1f} dB are taken off what is heard, as {held.operator} said on "
            f"{held.time}{why}",
            "To take that back: the page, or the command `level_baseline_undo`",
        )  # fmt: skip
    elif [one for one in file.answers if one.undone is None]:
        yield Finding(
            name, Grade.OK,
            "what was taken off belonged to another bundle: this one has learnt the level as it is",
        )  # fmt: skip
