"""The audit trail: every command that came, from where, and what became of it; bounded.

    <state>/audit/commands.jsonl     one JSON object a line, the latest last
    <state>/audit/commands.jsonl.1   before that, up to `.9`

Lines are only added. What was carried out is always written. Of what was refused, so many lines a
minute at most: a flood of nonsense must not push out what somebody did; how many were left out is
said in the next line.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from agent.core.clock import utc
from agent.core.schema import Strict

log = logging.getLogger(__name__)

MAX_BYTES, BACKUPS = 1_000_000, 9
_REFUSED_A_MINUTE = 30
_ERROR_LENGTH = 300


class AuditEntry(Strict):
    """One line."""

    time: Annotated[str, Field(description="When it was done with, ISO 8601 UTC")]
    way: Annotated[str, Field(description="`broker`, or `page`")]
    client: Annotated[str, Field(description="Address of the browser; empty from the broker")] = ""
    command: Annotated[str, Field(description="What was asked for")]
    role: Annotated[str, Field(description="operate, teach or manage; empty when unknown")] = ""
    machine: Annotated[str, Field(description="The machine meant")] = ""
    operator: Annotated[str, Field(description="Who asked, by their own word")] = ""
    transaction: Annotated[str, Field(description="The request's")] = ""
    fields: Annotated[dict[str, Any], Field(description="What else was asked; no token")] = {}
    outcome: Annotated[
        Literal["done", "refused", "failed"],
        Field(description="failed: the agent made a mistake, see its log"),
    ]
    error: Annotated[str, Field(description="Why not")] = ""
    left_out: Annotated[
        int, Field(ge=0, description="Refused ones before it that were not written, of a flood")
    ] = 0


class AuditTrail:
    """Writes the trail. Any thread; never raises: a full disk costs lines, and is logged.

    Args:
        folder: Where it lies; made when needed.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "commands.jsonl"
        self._lock = threading.Lock()
        self._failing = False
        self._left_out = 0
        self._allowed, self._at = float(_REFUSED_A_MINUTE), time.monotonic()

    def write(self, entry: AuditEntry) -> None:
        """Add a line."""
        with self._lock:
            if entry.outcome == "refused" and not self._spend():
                self._left_out += 1
                return
            line = entry.model_copy(
                update={"left_out": self._left_out, "error": entry.error[:_ERROR_LENGTH]}
            ).model_dump_json(exclude_defaults=True)
            try:
                self._append(line.encode() + b"\n")
            except OSError as fault:
                if not self._failing:
                    log.warning("%s: cannot be written: %s", self.path, fault.strerror)
                self._failing = True
            else:
                self._failing, self._left_out = False, 0

    def _spend(self) -> bool:
        now = time.monotonic()
        self._allowed = min(
            float(_REFUSED_A_MINUTE), self._allowed + (now - self._at) * _REFUSED_A_MINUTE / 60.0
        )
        self._at = now
        if self._allowed < 1.0:
            return False
        self._allowed -= 1.0
        return True

    def _append(self, line: bytes) -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            if self.path.lstat().st_size + len(line) > MAX_BYTES:
                self._rotate()
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        handle = os.open(self.path, flags, 0o600)
        try:
            os.write(handle, line)
        finally:
            os.close(handle)

    def _rotate(self) -> None:
        for number in range(BACKUPS, 0, -1):
            newer = self._backup(number - 1)
            if newer.exists():
                newer.replace(self._backup(number))

    def _backup(self, number: int) -> Path:
        return Path(f"{self.path}.{number}") if number else self.path

    def read(self) -> Iterator[AuditEntry]:
        """The trail's lines, the oldest first; one that was cut short is passed over."""
        for number in range(BACKUPS, -1, -1):
            try:
                lines = self._backup(number).read_bytes().splitlines()
            except OSError:
                continue
            yield from filter(None, map(_entry, lines))


def _entry(line: bytes) -> AuditEntry | None:
    try:
        return AuditEntry.model_validate_json(line)
    except ValidationError:
        return None


def entry_of(
    *, way: str, command: str, outcome: str, asked: Mapping[str, Any], **known: str
) -> AuditEntry:
    """A line about a request.

    Args:
        way: Where it came from.
        command: Its name.
        outcome: What became of it.
        asked: Its fields, checked.
        known: What else a line has.
    """
    rest = {name: value for name, value in asked.items() if value not in (None, "")}
    rest.pop("token", None)
    plain = {name: str(rest.pop(name, "")) for name in ("machine", "operator", "transaction")}
    return AuditEntry.model_validate(
        {
            "time": utc(time.time()),
            "way": way,
            "command": command,
            "outcome": outcome,
            **plain,
            "fields": rest,
            **known,
        }
    )
