"""The page's application: the API, its description, the static files, and the guard before them."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from http import HTTPStatus
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from agent import __version__, charts
from agent.core.json_request import problem
from agent.core.text import visible
from agent.request.audit import entry_of
from agent.web.alarms import AlarmDesk
from agent.web.backend import Backend
from agent.web.banks import BankDesk
from agent.web.collected import collect_endpoints
from agent.web.common import FOLDER as COMMON
from agent.web.drifting import drift_endpoints
from agent.web.endpoint import Asked, Endpoint
from agent.web.guard import COOKIE, Guard, Sessions
from agent.web.learning import LearnDesk
from agent.web.listening import listen_endpoints
from agent.web.models import Login, Session, Told
from agent.web.now import now_endpoints
from agent.web.openapi import describe
from agent.web.overview import overview_endpoints
from agent.web.roles import SCOPE, PageRole
from agent.web.setup import SetupDesk
from agent.web.stream import Stream
from agent.web.uploads import UploadDesk

log = logging.getLogger(__name__)

# What a proxy may say that it has put before the paths; no attribute of a cookie fits in it.
_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]{1,100}){1,8}/?")
STATIC = Path(__file__).parent / "static"


def endpoints_of(
    backend: Backend, sessions: Sessions, stopping: Callable[[], bool] = lambda: False
) -> Sequence[Endpoint]:
    """Every operation of the API."""
    return (
        Endpoint(
            "GET", "/session", partial(_session, backend, sessions),
            "Whether this browser may come in, and what it may do", Session,
            asks=PageRole.ANYONE,
        ),
        Endpoint(
            "POST", "/login", partial(_login, backend, sessions),
            "Give the password: the answer sets the session's cookie", Session, body=Login,
            asks=PageRole.ANYONE,
        ),
        Endpoint(
            "POST", "/logout", partial(_logout, backend, sessions), "End the session", Session,
            asks=PageRole.ANYONE,
        ),
        *now_endpoints(backend),
        *overview_endpoints(backend),
        *drift_endpoints(backend),
        *listen_endpoints(backend, stopping),
        *AlarmDesk(backend).endpoints(),
        *collect_endpoints(backend),
        *BankDesk(backend).endpoints(),
        *SetupDesk(backend).endpoints(),
        *LearnDesk(backend).endpoints(),
        *UploadDesk(backend).endpoints(),
    )  # fmt: skip


def build_app(
    backend: Backend,
    passwords: Mapping[PageRole, str] | str | None,
    stopping: Callable[[], bool] = lambda: False,
) -> ASGIApp:
    """The application.

    Args:
        backend: The agent.
        passwords: The page's, of each role that has one; none asks for none.
        stopping: Whether the page is ending: streams then end too.
    """
    config = backend.config.web
    guest = PageRole.VIEWER if config.guests == "viewer" else PageRole.ANYONE
    sessions = Sessions(passwords, 3600.0 * config.session_hours, guest)
    endpoints = endpoints_of(backend, sessions, stopping)
    description = describe(endpoints, [Told])
    stream = Stream(backend, stopping)

    async def openapi(_: Request) -> Response:
        return JSONResponse(description)

    async def index(_: Request) -> Response:
        return FileResponse(STATIC / "index.html", headers={"cache-control": "no-cache"})

    async def nowhere(_: Request) -> Response:
        return problem(HTTPStatus.NOT_FOUND, "there is no such thing here; see /api/openapi.json")

    app = Starlette(
        routes=[
            Route("/api/openapi.json", openapi),
            Route("/api/stream", stream.serve),
            *(endpoint.route() for endpoint in endpoints),
            Route("/api/{rest:path}", nowhere, methods=["GET", "POST", "DELETE"]),
            Route("/", index),
            Mount("/static/charts", _Static(directory=charts.FOLDER, follow_symlink=False)),
            Mount("/static/common", _Static(directory=COMMON, follow_symlink=False)),
            Mount("/static", _Static(directory=STATIC, follow_symlink=False)),
        ]
    )
    return Guard(
        app,
        sessions=sessions,
        names=config.names,
        role_header=config.role_header,
        changed=partial(_changed, backend),
    )


def _changed(backend: Backend, client: str, method: str, path: str, status: int) -> None:
    """What was changed by another way than a command, which is told of already."""
    told = path.startswith(("/api/commands/", "/api/login", "/api/logout"))
    if told or path.endswith("/upload/slice"):  # of an upload are told its beginning and its use
        return
    error = "" if status < HTTPStatus.BAD_REQUEST else f"HTTP {status}"
    _note(backend, client, f"{method} {visible(path)[:200]}", error)


def _note(backend: Backend, client: str, command: str, error: str = "") -> None:
    """Put into the trail what was asked for on the page, and why it was refused."""
    outcome = "refused" if error else "done"
    backend.audit.write(
        entry_of(way="page", client=client, command=command, outcome=outcome, error=error, asked={})
    )


class _Static(StaticFiles):
    """Files that a browser asks for anew each time: a new agent may have another page."""

    def file_response(self, *args: object, **options: object) -> Response:
        response = super().file_response(*args, **options)  # type: ignore[arg-type]
        response.headers["cache-control"] = "no-cache"
        return response


def _standing(backend: Backend, sessions: Sessions, role: PageRole) -> Session:
    """How a browser stands."""
    return Session(
        device=backend.config.device_name,
        version=__version__,
        password=sessions.needed,
        open=role > PageRole.ANYONE,
        role=role.word,
    )


def _session(backend: Backend, sessions: Sessions, asked: Asked) -> Session:
    return _standing(backend, sessions, asked.request.scope[SCOPE])


def _login(backend: Backend, sessions: Sessions, asked: Asked) -> Response:
    try:
        token = sessions.open(asked.body.password, asked.client)
    except PermissionError as fault:
        log.warning("web: a login from %s is refused: %s", asked.client, fault)
        _note(backend, asked.client, "login", str(fault))
        return problem(HTTPStatus.TOO_MANY_REQUESTS, str(fault))
    if token is None:
        log.warning("web: a wrong password from %s", asked.client)
        _note(backend, asked.client, "login", "a wrong password")
        return problem(HTTPStatus.FORBIDDEN, "that is not the password")
    if sessions.needed:
        log.info("web: login from %s", asked.client)
        _note(backend, asked.client, "login")
    found = _standing(backend, sessions, sessions.role(token))
    response = JSONResponse(found.model_dump(mode="json"))
    response.set_cookie(
        COOKIE, token, max_age=round(sessions.seconds), path=_home(backend, asked), httponly=True,
        samesite="strict",
        secure=asked.request.headers.get("x-forwarded-proto", asked.request.url.scheme) == "https",
    )  # fmt: skip
    return response


def _home(backend: Backend, asked: Asked) -> str:
    """Below which path the browser knows the page: `/`, unless a proxy has put it elsewhere."""
    given = asked.request.headers.get("x-forwarded-prefix", "")
    if backend.config.web.behind_proxy and _PREFIX.fullmatch(given):
        return given.rstrip("/") + "/"
    return "/"


def _logout(backend: Backend, sessions: Sessions, asked: Asked) -> Response:
    sessions.close(asked.request.cookies.get(COOKIE))
    found = _standing(backend, sessions, sessions.role(None))
    response = JSONResponse(found.model_dump(mode="json"))
    response.delete_cookie(COOKIE, path=_home(backend, asked))
    return response
