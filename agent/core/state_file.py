"""One small state as a JSON file: read again after a restart, moved aside when it is damaged."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from agent.core.errors import AuscultError
from agent.core.schema import explain
from agent.core.storage import make_parents, write_atomic

log = logging.getLogger(__name__)

State = TypeVar("State", bound=BaseModel)


class StateFile(Generic[State]):
    """A state on disk, whole or not at all. Not thread-safe: each has one owner.

    Args:
        path: The file; its folder is made when needed. None for nowhere: nothing is kept.
        model: What it holds.
        what: It in words, for the log: `the alarm's state`.
        otherwise: What happens without it, for the log: `the alarm begins at normal`.
    """

    def __init__(self, path: Path | None, model: type[State], *, what: str, otherwise: str) -> None:
        self.path = path
        self._model, self._what, self._otherwise = model, what, otherwise
        self._failing = False

    def load(self) -> State | None:
        """What an earlier run left; None when there is nothing, or nothing that can be used.

        A file that cannot be understood is moved aside, for people to look at. Fields that only a
        newer auscult knows are passed over: a step back keeps the rest.
        """
        if self.path is None:
            return None
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as fault:
            log.warning("%s: cannot be read (%s): %s", self.path, fault, self._otherwise)
            return None
        try:
            return self._model.model_validate_json(data)
        except ValidationError as fault:
            found = self._without_unknown(data, fault)
            if found is None:
                self.set_aside(explain(fault))
            return found

    def load_or_new(self) -> State:
        """What an earlier run left; else the state that everything begins with."""
        return self.load() or self._model()

    def _without_unknown(self, data: bytes, fault: ValidationError) -> State | None:
        """The state without fields that are unknown here; None when they are not all its fault."""
        unknown = [error["loc"] for error in fault.errors()]
        if any(error["type"] != "extra_forbidden" for error in fault.errors()):
            return None
        tree = json.loads(data)
        for *places, last in unknown:
            node: Any = tree
            for place in places:
                # Of a union, pydantic names the branch as well.
                if isinstance(place, int) or place in node:
                    node = node[place]
            node.pop(last, None)
        try:
            found = self._model.model_validate_json(json.dumps(tree))
        except ValidationError:
            return None
        names = ", ".join(sorted({str(place[-1]) for place in unknown}))
        log.info("%s: fields of a newer auscult are passed over: %s", self.path, names)
        return found

    def set_aside(self, problem: str) -> None:
        """Keep the file under another name, and say so.

        Args:
            problem: Why it cannot be used.
        """
        if self.path is None:
            return
        aside = self.path.with_name(self.path.name + ".damaged")
        log.warning(
            "%s: cannot be used (%s): %s, the file is kept as %s",
            self.path, problem, self._otherwise, aside.name,
        )  # fmt: skip
        try:
            self.path.replace(aside)
        except OSError as fault:
            log.warning("%s: cannot be moved aside: %s", self.path, fault)

    def write(self, state: State) -> None:
        """Write it.

        Raises:
            AuscultError: It cannot be written.
        """
        if self.path is None:
            return
        make_parents(self.path)
        write_atomic(self.path, state.model_dump_json(indent=1).encode() + b"\n")

    def save(self, state: State) -> bool:
        """Write it; a fault of the disk is logged once, until it is over. Whether it is on disk."""
        try:
            self.write(state)
        except AuscultError as fault:
            if not self._failing:
                log.warning("%s is not saved, and will be tried again: %s", self._what, fault)
            self._failing = True
            return False
        if self._failing:
            log.info("%s: saved again", self.path)
        self._failing = False
        return True
