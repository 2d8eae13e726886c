"""Puts settings into the agent's configuration: the `inference` section, and nothing else of it."""

from __future__ import annotations

import difflib
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from agent.config.agent import load_config
from agent.config.encode import InferenceConfig
from agent.core.errors import ConfigError
from agent.core.storage import sync

_MARK = "# Measured by `auscult tune`"
_KEY = re.compile(r"""(?:inference|'inference'|"inference")\s*:""")
_BY_HAND = "Put the section in by hand; it was printed above."


def section(inference: InferenceConfig, remarks: Sequence[str]) -> list[str]:
    """The lines of the section.

    Args:
        inference: The settings.
        remarks: What to say of them, lines of text; the first follows the mark.
    """
    first, *others = remarks
    lines = [f"{_MARK}{first}", *(f"# {line}" for line in others), "inference:"]
    for name, value in inference.model_dump().items():
        if value == getattr(InferenceConfig(), name) and name == "provider_options":
            continue
        lines.append(f"  {name}: {_yaml(value)}")
    return lines


def replaced(text: str, lines: Sequence[str]) -> str:
    """A configuration with the section in the place of the one it had, or at its end.

    Args:
        text: The file.
        lines: The section, from `section`.
    """
    old = text.splitlines()
    start = next((n for n, line in enumerate(old) if _KEY.match(line)), None)
    if start is None:
        return "\n".join([*old, *([""] if old and old[-1].strip() else []), *lines]) + "\n"
    stop = start + 1
    # What is indented belongs to it; blank lines and comments behind it belong to what follows.
    for place in range(start + 1, len(old)):
        line = old[place]
        if line.strip() and not line.startswith((" ", "\t", "#", "}")):
            break
        if line.startswith((" ", "\t", "}")) and line.strip():
            stop = place + 1
    first = start
    while first and old[first - 1].startswith("#"):
        first -= 1
    mark = next((n for n in range(first, start) if old[n].startswith(_MARK)), start)
    return "\n".join([*old[:mark], *lines, *old[stop:]]) + "\n"


def difference(path: Path, text: str) -> str:
    """What would change in a file, as a unified diff; empty when nothing would."""
    old = path.read_text(encoding="utf-8").splitlines()
    return "\n".join(
        difflib.unified_diff(old, text.splitlines(), str(path), f"{path} (tuned)", lineterm="")
    )


def write_config(path: Path, text: str, inference: InferenceConfig) -> None:
    """Replace the configuration at once, or not at all.

    Owner and rights stay; the new text is read as the agent will before it takes the place.

    Args:
        path: The configuration.
        text: From `replaced`.
        inference: What it must say.

    Raises:
        ConfigError: It cannot be written, or would say something else besides.
    """
    place = path.resolve()  # what a link points to, not the link
    before = load_config(place)
    try:
        handle, name = tempfile.mkstemp(dir=place.parent, prefix=f".{place.name}.")
    except OSError as fault:
        raise _unwritable(path, fault) from fault
    draft = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        after = load_config(draft)
        if after != before.model_copy(update={"inference": inference}):
            raise ConfigError(
                "its `inference` section could not be told from the rest",
                where=path,
                remedy=_BY_HAND,
            )
        shutil.copystat(place, draft)
        if os.geteuid() == 0:
            owner = place.stat()
            os.chown(draft, owner.st_uid, owner.st_gid)
        draft.replace(place)
        sync(place.parent)
    except OSError as fault:
        raise _unwritable(path, fault) from fault
    finally:
        draft.unlink(missing_ok=True)


def _unwritable(path: Path, fault: OSError) -> ConfigError:
    return ConfigError(f"cannot be written: {fault.strerror}", where=path, remedy=_BY_HAND)


def _yaml(value: object) -> str:
    """A value in YAML, on one line."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(value)}]"
    if isinstance(value, dict):
        inner = (f"{name}: {_yaml(item)}" for name, item in value.items())
        return f"{{{', '.join(inner)}}}"
    return f'"{value}"' if isinstance(value, str) else str(value)
