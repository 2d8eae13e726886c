"""How `auscult collect` reaches the running agent: files in the state directory.

The agent has the microphone, so it must do the recording. The command leaves an order in
`collect/orders/`; the agent takes it, and answers in `collect/answers/` under the same name.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from agent.collect.session import Label
from agent.core.errors import AuscultError
from agent.core.schema import Strict, explain
from agent.core.storage import write_json

MAX_SECONDS = 86_400.0
_NAME = re.compile(r"[0-9a-f]{16}")
_LIMIT = 65_536
_OLD = 7 * 86_400.0


class CollectOrder(Strict):
    """What to record; `collect/orders/<id>.json`."""

    machine: Annotated[str, Field(min_length=1, max_length=200, description="Its name")]
    label: Annotated[Label, Field(description="What will be heard")]
    seconds: Annotated[
        float, Field(gt=0, le=MAX_SECONDS, allow_inf_nan=False, description="Sound, seconds")
    ]
    by: Annotated[str, Field(max_length=1000, description="Who asked")] = ""
    comment: Annotated[str, Field(max_length=1000, description="What else they said")] = ""


class CollectAnswer(Strict):
    """`collect/answers/<id>.json`."""

    status: Literal["recording", "done", "refused"]
    message: str = ""
    folder: str = ""


class Spool:
    """Orders and their answers.

    Args:
        root: `collect/` in the state directory.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._orders = root / "orders"
        self._answers = root / "answers"
        self._lock: int | None = None

    def serve(self) -> bool:
        """Claim to be the agent here; False when another is. Makes the folders.

        Raises:
            OSError: The state directory cannot be written to.
        """
        for folder in (self._orders, self._answers):
            folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.root / "agent.lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            return False
        self._lock = handle
        for entry in self._answers.iterdir():
            with contextlib.suppress(OSError):
                if time.time() - entry.stat().st_mtime > _OLD:
                    entry.unlink()
        return True

    def leave(self) -> None:
        """Be the agent no more."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def served(self) -> bool:
        """Whether an agent is running over this state directory."""
        try:
            handle = os.open(self.root / "agent.lock", os.O_RDONLY)
        except OSError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            return False
        finally:
            os.close(handle)

    def order(self, order: CollectOrder) -> str:
        """Leave an order; gives its name.

        Raises:
            AuscultError: It cannot be written.
        """
        name = secrets.token_hex(8)
        write_json(self._orders / f"{name}.json", order.model_dump(mode="json"))
        return name

    def orders(self) -> Iterator[tuple[str, CollectOrder | AuscultError]]:
        """Take the orders that wait: each once, a damaged one as what is wrong with it."""
        if not self._orders.is_dir():
            return
        for entry in sorted(self._orders.iterdir()):
            name = entry.stem
            if entry.suffix != ".json" or not _NAME.fullmatch(name):
                continue
            data: Any = _read(entry)
            with contextlib.suppress(OSError):
                entry.unlink()
            try:
                yield name, CollectOrder.model_validate(data)
            except ValidationError as fault:
                yield name, AuscultError(explain(fault), where=entry)

    def answer(self, name: str, answer: CollectAnswer) -> None:
        """Answer an order.

        Raises:
            AuscultError: It cannot be written.
        """
        write_json(self._answers / f"{name}.json", answer.model_dump(mode="json"))

    def answered(self, name: str) -> CollectAnswer | None:
        """The answer so far; None when there is none yet."""
        try:
            return CollectAnswer.model_validate(_read(self._answers / f"{name}.json"))
        except ValidationError:
            return None


def _read(path: Path) -> Any:
    try:
        if path.is_symlink() or path.stat().st_size > _LIMIT:
            return None
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
