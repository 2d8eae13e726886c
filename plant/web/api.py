"""The operations of the page: machines, alarms, trends, devices, commands, users."""

from __future__ import annotations

import logging
from datetime import timedelta
from http import HTTPStatus
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.responses import JSONResponse, Response

from agent import __version__
from agent.core.json_request import ApiError, problem
from plant.store.read import EventPlace, Reader, Wanted
from plant.store.users import User, UserError, Users
from plant.watch.config import PageConfig, Role
from plant.watch.desk import Desk
from plant.web.endpoint import Asked, Endpoint
from plant.web.guard import COOKIE, Throttle

log = logging.getLogger(__name__)


class _Asks(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Login(_Asks):
    """Who wants to come in."""

    name: Annotated[str, Field(max_length=100)]
    password: Annotated[str, Field(max_length=1024)]


class _Page(_Asks):
    """Part of a long list."""

    text: Annotated[str, Field(max_length=200)] = ""
    site: Annotated[str, Field(max_length=200)] = ""
    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    offset: Annotated[int, Field(ge=0, le=10_000_000)] = 0


class MachinesAsked(_Page):
    """Query of the list of machines."""

    device: Annotated[str, Field(max_length=200)] = ""
    state: Literal["any", "alarm", "sensor", "drift", "offline"] = "any"


class InboxAsked(_Page):
    """Query of the standing alarms: all of them, those that nobody has seen, or those shelved."""

    state: Literal["alarm", "unseen", "shelved"] = "alarm"


class ScoresAsked(_Asks):
    """Which stretch of time."""

    begin: AwareDatetime
    end: AwareDatetime


class EventsAsked(_Asks):
    """Which events: of all machines, or of one."""

    device: Annotated[str, Field(max_length=200)] = ""
    machine: Annotated[str, Field(max_length=200)] = ""
    before: AwareDatetime | None = None
    #: `next` of the page before: a time alone would leave out what happened in the same instant.
    after: Annotated[str, Field(max_length=1000)] = ""
    limit: Annotated[int, Field(ge=1, le=1000)] = 100


_Name = Annotated[str, Field(max_length=200)]
_PLACE = TypeAdapter(tuple[AwareDatetime, Annotated[int, Field(ge=-1, lt=2**62)], _Name, _Name])


class CommandAsked(_Asks):
    """A command to a device."""

    device: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^/+#\x00]+$")]
    machine: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00]+$")]
    command: Literal["ack", "shelve", "mute", "feedback"]
    alarm_id: Annotated[str, Field(max_length=100, pattern=r"^[^\x00]*$")] | None = None
    seconds: Annotated[float, Field(ge=0)] | None = None
    verdict: Literal["normal", "anomalous"] | None = None
    comment: Annotated[str, Field(max_length=1000, pattern=r"^[^\x00]*$")] = ""


class UserAsked(_Asks):
    """A user, as an admin wants them."""

    name: Annotated[str, Field(max_length=100)]
    role: Role
    password: Annotated[str, Field(max_length=1024)] | None = None


class Api:
    """Answers the page.

    Args:
        plant: The plant's name.
        reader: What is kept.
        desk: Commands to devices.
        users: Who may come in.
        config: How long a session lasts.
    """

    def __init__(
        self, plant: str, reader: Reader, desk: Desk, users: Users, config: PageConfig
    ) -> None:
        self._plant, self._reader, self._desk = plant, reader, desk
        self._users, self._config = users, config
        self._throttle = Throttle()

    def endpoints(self) -> list[Endpoint]:
        """Every operation."""
        return [
            Endpoint("GET", "/session", self._session, role=None),
            Endpoint("POST", "/login", self._login, role=None, model=Login),
            Endpoint("POST", "/logout", self._logout),
            Endpoint("GET", "/counts", lambda _: self._reader.counts()),
            Endpoint("GET", "/machines", self._machines, model=MachinesAsked),
            Endpoint("GET", "/machines/{device}/{machine}", self._machine),
            Endpoint("GET", "/scores/{device}/{machine}", self._scores, model=ScoresAsked),
            Endpoint("GET", "/inbox", self._inbox, model=InboxAsked),
            Endpoint("GET", "/events", self._events, model=EventsAsked),
            Endpoint("GET", "/devices", lambda _: {"devices": self._reader.devices()}),
            Endpoint("POST", "/commands", self._command, role="operator", model=CommandAsked),
            Endpoint("GET", "/commands", lambda _: {"commands": self._reader.commands()}),
            Endpoint("GET", "/refused", lambda _: {"refused": self._reader.refused()}, "admin"),
            Endpoint("GET", "/users", lambda _: {"users": self._users.all()}, "admin"),
            Endpoint("POST", "/users", self._put_user, role="admin", model=UserAsked),
            Endpoint("DELETE", "/users/{name}", self._remove_user, role="admin"),
        ]

    def _session(self, asked: Asked) -> dict[str, Any]:
        user: User | None = asked.request.state.user
        return {
            "plant": self._plant,
            "version": __version__,
            "user": None if user is None else user.name,
            "role": None if user is None else user.role,
            "answers": self._desk.answers,
            "sites": sorted(self._reader.sites),
        }

    def _login(self, asked: Asked) -> Response:
        name, client = asked.body.name, asked.client
        if self._throttle.refuses(client):
            return problem(
                HTTPStatus.TOO_MANY_REQUESTS, "too many wrong passwords; try again in five minutes"
            )
        if not self._throttle.busy.acquire(timeout=5):
            return problem(HTTPStatus.TOO_MANY_REQUESTS, "too many logins at once; try again")
        try:
            user = self._users.check(name, asked.body.password)
        finally:
            self._throttle.busy.release()
        if user is None:
            self._throttle.failed(client)
            log.warning("page: a wrong password for %r from %s", name, client)
            return problem(HTTPStatus.FORBIDDEN, "name and password do not go together")
        log.info("page: %s logs in from %s", name, client)
        token = self._users.open(name, self._config.session_hours)
        answer = JSONResponse({"user": user.name, "role": user.role})
        scheme = asked.request.headers.get("x-forwarded-proto", asked.request.url.scheme)
        answer.set_cookie(
            COOKIE, token, max_age=round(3600 * self._config.session_hours), httponly=True,
            samesite="strict", secure=scheme == "https",
        )  # fmt: skip
        return answer

    def _logout(self, asked: Asked) -> Response:
        self._users.close(asked.request.cookies.get(COOKIE, ""))
        answer = JSONResponse({})
        answer.delete_cookie(COOKIE)
        return answer

    def _machines(self, asked: Asked) -> dict[str, Any]:
        body: MachinesAsked = asked.body
        devices = None
        if body.site:
            devices = self._reader.of_site(body.site)
        if body.device:
            devices = [one for one in devices or [body.device] if one == body.device]
        rows, number = self._reader.machines(
            Wanted(body.text, devices, body.state, body.limit, body.offset)
        )
        return {"machines": rows, "number": number, "counts": self._reader.counts()}

    def _machine(self, asked: Asked) -> dict[str, Any]:
        device, machine = asked.path["device"], asked.path["machine"]
        found = self._reader.machine(device, machine)
        if found is None:
            raise ApiError(HTTPStatus.NOT_FOUND, "there is no such machine")
        return {
            "machine": found,
            "commands": self._reader.commands(device=device, machine=machine, limit=20),
            "events": self._reader.events(device=device, machine=machine, limit=50),
        }

    def _scores(self, asked: Asked) -> dict[str, Any]:
        begin, end = asked.body.begin, asked.body.end
        if not timedelta(0) < end - begin < timedelta(days=36_600):
            raise ApiError(HTTPStatus.UNPROCESSABLE_ENTITY, "end must be after begin")
        return {
            "scores": self._reader.scores(asked.path["device"], asked.path["machine"], begin, end)
        }

    def _inbox(self, asked: Asked) -> dict[str, Any]:
        body: InboxAsked = asked.body
        alarms, number = self._reader.inbox(
            Wanted(
                text=body.text, devices=self._reader.of_site(body.site) if body.site else None,
                state=body.state, limit=body.limit, offset=body.offset,
            )
        )  # fmt: skip
        return {"alarms": alarms, "number": number, "commands": self._reader.commands(limit=20)}

    def _events(self, asked: Asked) -> dict[str, Any]:
        body: EventsAsked = asked.body
        try:
            after = EventPlace(*_PLACE.validate_json(body.after)) if body.after else None
        except ValidationError as fault:
            raise ApiError(HTTPStatus.UNPROCESSABLE_ENTITY, "after: no `next` of a page") from fault
        events = self._reader.events(
            device=body.device, machine=body.machine, before=body.before, after=after,
            limit=body.limit,
        )  # fmt: skip
        following = None
        if len(events) == body.limit:
            last = events[-1]
            number = -1 if last["sequence"] is None else last["sequence"]
            place = (last["time"], number, last["device"], last["id"])
            following = _PLACE.dump_json(place).decode()
        return {"events": events, "next": following}

    def _command(self, asked: Asked) -> dict[str, Any]:
        body: CommandAsked = asked.body
        fields: dict[str, Any] = {"comment": body.comment}
        if body.command in {"ack", "feedback"}:
            fields["alarm_id"] = body.alarm_id
        if body.command in {"shelve", "mute"}:
            fields["seconds"] = body.seconds
        if body.command == "feedback":
            fields["verdict"] = body.verdict
        transaction = self._desk.give(
            body.device, body.machine, body.command, fields, asked.user.name
        )
        return {"transaction": transaction}

    def _put_user(self, asked: Asked) -> dict[str, Any]:
        body: UserAsked = asked.body
        self._keep_an_admin(body.name, body.role)
        new = self._users.put(body.name, body.role, body.password)
        done = "adds" if new else "changes"
        log.info("page: %s %s user %s: %s", asked.user.name, done, body.name, body.role)
        return {"new": new}

    def _remove_user(self, asked: Asked) -> dict[str, Any]:
        name = asked.path["name"]
        self._keep_an_admin(name, None)
        if not self._users.remove(name):
            raise ApiError(HTTPStatus.NOT_FOUND, "there is no such user")
        log.info("page: %s removes user %s", asked.user.name, name)
        return {}

    def _keep_an_admin(self, name: str, role: Role | None) -> None:
        """The last admin stays one: nobody else could make another on this page."""
        admins = [one["name"] for one in self._users.all() if one["role"] == "admin"]
        if admins == [name] and role != "admin":
            raise UserError("the last admin stays", where=name, remedy="Make another one first.")
