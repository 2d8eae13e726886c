"""The microphone chosen on the device itself, for a machine whose configuration names no source.

It is kept in the state directory, `state/microphones/<machine>.json`: the configuration is the
user's own file, and a service cannot write to it. Where the configuration names a source, that
holds, and nothing can be chosen: there are never two answers.
"""

from __future__ import annotations

import logging
from pathlib import Path

from pydantic import ValidationError

from agent.config.capture import AnySource, MicrophoneSource
from agent.core.errors import ConfigError
from agent.core.schema import explain
from agent.core.storage import write_json

log = logging.getLogger(__name__)

_MOST_BYTES = 65_536


def _place(state: Path, machine: str) -> Path:
    return state / "state" / "microphones" / f"{machine}.json"


def chosen_microphone(state: Path, machine: str) -> MicrophoneSource | None:
    """What was chosen last; None when nothing was, or it cannot be used, which is logged.

    Args:
        state: The state directory.
        machine: The machine's name.
    """
    place = _place(state, machine)
    try:
        with place.open("rb") as file:
            return MicrophoneSource.model_validate_json(file.read(_MOST_BYTES))
    except FileNotFoundError:
        return None
    except ValidationError as fault:
        log.warning("%s: choose the microphone again: %s", place, explain(fault))
    except OSError as fault:
        log.warning("%s: choose the microphone again: %s", place, fault)
    return None


def choose_microphone(state: Path, machine: str, source: MicrophoneSource) -> None:
    """Remember a choice; whole or not at all, also when the power fails.

    Raises:
        ConfigError: It cannot be written.
    """
    place = _place(state, machine)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        write_json(place, source.model_dump(mode="json"))
    except OSError as fault:
        raise ConfigError(
            f"the choice cannot be kept: {fault.strerror}",
            where=place,
            remedy="Check the permissions of the state directory.",
        ) from fault


def source_of(configured: AnySource | None, state: Path, machine: str) -> AnySource | None:
    """Where a machine's sound comes from: as configured, else as chosen; None when neither is said.

    Args:
        configured: The machine's `source`.
        state: The state directory.
        machine: The machine's name.
    """
    return configured if configured is not None else chosen_microphone(state, machine)
