"""From a request's bytes to its answer: bounded, checked, carried out once, always answered."""

from __future__ import annotations

import json
import logging
import queue
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import ValidationError

from agent.config.commands import CommandsConfig
from agent.core.clock import utc
from agent.core.cloud_event import Message, encode
from agent.core.errors import AuscultError, ConfigError
from agent.core.schema import explain
from agent.core.text import visible
from agent.publish.payloads import Response
from agent.request.audit import AuditTrail, entry_of
from agent.request.commands import COMMANDS, Handler, Request
from agent.request.roles import BROKER, ROLES, Access, NotAllowedError, Origin

log = logging.getLogger(__name__)

MAX_BYTES = 16_384
_WAITING = 32
_REMEMBERED = 256
_STOP_SECONDS = 2.0
_ERROR_LENGTH = 1000
_NAME_LENGTH = 64
_PRINTABLE = re.compile(r"[ -~]{1,64}")

Respond = Callable[[str, Message], None]


class _Item(NamedTuple):
    """A request that waits to be carried out."""

    command: str
    payload: bytes
    respond: Respond
    origin: Origin


class RequestError(AuscultError):
    """A command that cannot be understood."""


class Dispatcher:
    """Takes commands from the network and has them carried out, one after another, in a thread.

    Nothing but a whole, valid command for a known machine reaches a handler; everything else is
    answered with an error and changes nothing. A transaction is carried out once: a request that
    comes again (a repeated delivery, a sender who got no answer) is answered as before.

    Args:
        device: This device's name.
        machines: The machines it listens to.
        handlers: By command, who carries it out.
        respond: Takes the answers: command, message.
        access: Who may give which.
        audit: Is told of each; None for nobody.
    """

    def __init__(
        self,
        device: str,
        machines: Sequence[str],
        handlers: Mapping[str, Handler],
        respond: Respond,
        *,
        access: Access | None = None,
        audit: AuditTrail | None = None,
    ) -> None:
        unknown = sorted(set(handlers) - set(COMMANDS))
        assert not unknown, f"no schema for {unknown}"
        self._device = device
        self._machines = tuple(machines)
        self._handlers = dict(handlers)
        self._respond = respond
        self._access = access or Access(CommandsConfig())
        self._audit = audit
        self._queue: queue.Queue[_Item | None] = queue.Queue(_WAITING)
        self._closed = False
        self._thread: threading.Thread | None = None
        # By transaction, what was asked and the answer; the worker's alone.
        self._answers: OrderedDict[str, tuple[str, Message]] = OrderedDict()

    @property
    def commands(self) -> Sequence[str]:
        """Names of the commands that can be carried out."""
        return sorted(self._handlers)

    def start(self) -> None:
        """Begin to carry out commands."""
        self._thread = threading.Thread(target=self._run, name="requests", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Finish the command under way, within a couple of seconds; refuse those that wait."""
        if self._thread is None:
            return
        self._closed = True
        while (item := self._next()) is not None:
            self._refuse(item, "the agent is stopping; ask again later")
        self._queue.put(None)
        self._thread.join(_STOP_SECONDS)
        self._thread = None

    def take(
        self,
        command: str,
        payload: bytes,
        *,
        retained: bool = False,
        respond: Respond | None = None,
        origin: Origin = BROKER,
    ) -> None:
        """A request has arrived. Never raises, never waits: called from the network's thread.

        Args:
            command: The last level of its topic.
            payload: Its bytes.
            retained: The broker had kept it, so that it would come again at every connection.
            respond: Takes this one's answer, in place of who takes all others.
            origin: Where it came from.
        """
        item = _Item(command[:_NAME_LENGTH], payload, respond or self._respond, origin)
        problem = ""
        if len(payload) > MAX_BYTES:
            problem = f"the request has {len(payload)} bytes; at most {MAX_BYTES} are taken"
        elif retained:
            problem = "the request was published as retained; publish it without"
        else:
            problem = self._enqueue(item)
        if problem:
            self._refuse(item, problem)

    def _enqueue(self, item: _Item) -> str:
        if self._closed:
            return "the agent is stopping; ask again later"
        try:
            self._queue.put_nowait(item)
        except queue.Full:
            return f"{_WAITING} commands wait already; try again later"
        return ""

    def _next(self) -> _Item | None:
        try:
            return self._queue.get_nowait()
        except queue.Empty:
            return None

    def _refuse(self, item: _Item, problem: str) -> None:
        log.warning("command %.40r refused: %s", item.command, problem)
        self._note(item, "refused", error=problem)
        item.respond(item.command, self._answer(item.command, None, error=problem))

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            self._serve(item)

    def _serve(self, item: _Item) -> None:
        try:
            item.respond(item.command, self._handle(item))
        except Exception:  # the thread must outlive every command
            log.exception("command %.40r", item.command)

    def _note(
        self, item: _Item, outcome: str, request: Request | None = None, error: str = ""
    ) -> None:
        if self._audit is None:
            return
        role = ROLES.get(item.command)
        self._audit.write(
            entry_of(
                way=item.origin.way, client=item.origin.client, command=visible(item.command),
                role=role.value if role else "", outcome=outcome, error=visible(error),
                asked={} if request is None else request.model_dump(mode="json"),
            )
        )  # fmt: skip

    def _handle(self, item: _Item) -> Message:
        """Carry a request out, unless it has been before; the answer."""
        transaction: str | None = None
        command, request = item.command, None
        try:
            data = _decode(item.payload)
            transaction = _transaction(data)
            # Never in what is checked: a finding would quote it.
            token = data.pop("token", None) if isinstance(data, dict) else None
            request = self._checked(command, data)
            self._access.check(command, token, item.origin)
        except (RequestError, NotAllowedError, ConfigError) as fault:
            log.warning("command %.40r refused: %s", command, fault)
            self._note(item, "refused", request, str(fault))
            return self._answer(command, transaction, error=str(fault))
        asked = f"{command} {request.model_dump_json()}"
        if request.transaction in self._answers:
            before, answer = self._answers[request.transaction]
            if before == asked:
                return answer
            problem = f"transaction {request.transaction} was used for another command"
            return self._answer(command, request.transaction, error=problem)
        answer = self._carry_out(item, request)
        self._answers[request.transaction] = (asked, answer)
        while len(self._answers) > _REMEMBERED:
            self._answers.popitem(last=False)
        return answer

    def _checked(self, command: str, data: Any) -> Request:
        """The command as its schema has it.

        Raises:
            RequestError: There is no such command, or a field is wrong (which is named).
        """
        if command not in self._handlers:
            known = ", ".join(self.commands) or "none"
            raise RequestError(
                f"there is no command {command[:40]!r}", remedy=f"Commands are: {known}."
            )
        try:
            request = COMMANDS[command].model_validate(data)
        except ValidationError as fault:
            raise RequestError(explain(fault, whole="the request")) from fault
        if request.machine not in self._machines:
            raise RequestError(
                f"machine: there is no machine {request.machine[:80]!r} here",
                remedy=f"Machines are: {', '.join(self._machines)}.",
            )
        return request

    def _carry_out(self, item: _Item, request: Request) -> Message:
        command, by = item.command, f" by {request.operator}" if request.operator else ""
        try:
            result = self._handlers[command](request.model_dump(exclude={"token"}))
            answer = self._answer(command, request.transaction, result=result)
            encode(answer)
        except AuscultError as fault:
            log.warning("%s: command %s%s refused: %s", request.machine, command, by, fault)
            self._note(item, "refused", request, str(fault))
            return self._answer(command, request.transaction, error=str(fault))
        except Exception as fault:  # a handler's mistake must not end the agent
            log.exception("%s: command %s%s failed", request.machine, command, by)
            problem = f"the agent failed to carry it out ({type(fault).__name__}); see its log"
            self._note(item, "failed", request, problem)
            return self._answer(command, request.transaction, error=problem)
        log.info("%s: command %s%s carried out", request.machine, command, by)
        self._note(item, "done", request)
        return answer

    def _answer(
        self,
        command: str,
        transaction: str | None,
        *,
        error: str | None = None,
        result: Mapping[str, Any] | None = None,
    ) -> Message:
        return Response(
            device=self._device,
            time=utc(time.time()),
            command=command,
            transaction=transaction,
            status="ok" if error is None else "error",
            error=None if error is None else error[:_ERROR_LENGTH],
            result=dict(result or {}),
        ).model_dump(mode="json")


def _decode(payload: bytes) -> Any:
    try:
        return json.loads(payload.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as fault:
        raise RequestError(
            f"the request is not JSON: {fault}", remedy="Send one JSON object, UTF-8."
        ) from fault


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _transaction(data: Any) -> str | None:
    """Transaction of a request, however wrong the rest is: by it the sender knows the answer."""
    found = data.get("transaction") if isinstance(data, dict) else None
    return found if isinstance(found, str) and _PRINTABLE.fullmatch(found) else None
