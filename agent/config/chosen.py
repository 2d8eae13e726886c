"""The microphone chosen on the device itself, for a machine whose configuration names no source.

It is kept in the state directory, `state/microphones/<machine>.json`: the configuration is the
user's own file, and a service cannot write to it. Where the configuration names a source, that
holds, and nothing can be chosen: there are never two answers.
"""

from __future__ import annotations

from pathlib import Path

from agent.config.capture import MicrophoneSource
from agent.core.state_file import StateFile


def _file(state: Path, machine: str) -> StateFile[MicrophoneSource]:
    return StateFile(
        state / "state" / "microphones" / f"{machine}.json",
        MicrophoneSource,
        what="the microphone chosen",
        otherwise="choose the microphone again",
    )


def chosen_microphone(state: Path, machine: str) -> MicrophoneSource | None:
    """What was chosen last; None when nothing was, or it cannot be used, which is logged.

    Args:
        state: The state directory.
        machine: The machine's name.
    """
    return _file(state, machine).load()


def choose_microphone(state: Path, machine: str, source: MicrophoneSource) -> None:
    """Remember a choice; whole or not at all, also when the power fails.

    Raises:
        AuscultError: It cannot be written.
    """
    _file(state, machine).write(source)
