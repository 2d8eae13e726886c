"""Who may ask what: host names, requests from other sites, sessions, the proxy's word, roles.

- A page of another site must not act through a logged-in browser: whatever changes something needs
  this page's own header, which no foreign form can send, and an origin that is this one.
- A foreign name that was made to resolve to this server (DNS rebinding) is not answered.
- The session's cookie is of this site alone (`SameSite=Strict`) and no script can read it.
- A proxy's header counts from its own addresses alone.
"""

from __future__ import annotations

import ipaddress
import logging
import threading
import time
from collections import OrderedDict
from http import HTTPStatus

from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agent.core.same_origin import foreign_request, is_own_name, page_headers
from plant.store.database import first_line
from plant.store.users import User, Users
from plant.watch.config import PageConfig, ProxyConfig

log = logging.getLogger(__name__)

COOKIE = "auscult_plant"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
#: Paths of the API that need no user.
_OPEN = frozenset({"/api/session", "/api/login"})
_FAILURES, _FAILURE_SECONDS, _CLIENTS = 8, 300.0, 1024
# Guesses that are checked at once: each takes 64 MiB for a tenth of a second.
_AT_ONCE = 2


class Throttle:
    """Refuses logins from where too many wrong passwords came of late. Safe for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failures: OrderedDict[str, list[float]] = OrderedDict()
        self.busy = threading.BoundedSemaphore(_AT_ONCE)

    def refuses(self, client: str) -> bool:
        """Whether an address has to wait."""
        now = time.monotonic()
        with self._lock:
            wrong = [at for at in self._failures.get(client, []) if now - at < _FAILURE_SECONDS]
            self._failures[client] = wrong
            return len(wrong) >= _FAILURES

    def failed(self, client: str) -> None:
        """Note a wrong password."""
        with self._lock:
            self._failures.setdefault(client, []).append(time.monotonic())
            self._failures.move_to_end(client)
            while len(self._failures) > _CLIENTS:
                self._failures.popitem(last=False)


class Guard:
    """ASGI middleware before everything else; puts the user into `scope["state"]["user"]`.

    Args:
        app: What is guarded.
        users: Who may come in.
        config: Names, and the proxy.
    """

    def __init__(self, app: ASGIApp, users: Users, config: PageConfig) -> None:
        self._app, self._users, self._proxy = app, users, config.proxy
        self._names = {name.lower() for name in config.names} | {"localhost"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or refuse a request."""
        if scope["type"] != "http":
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in page_headers(scope["path"]).items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = await self._refusal(scope)
        if refusal is not None:
            status, why = refusal
            await JSONResponse({"error": why}, status)(scope, receive, send_guarded)
            return
        await self._app(scope, receive, send_guarded)

    async def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not is_own_name(host, self._names):
            return HTTPStatus.MISDIRECTED_REQUEST, (
                f"this server is not {host[:80]!r}; add the name to `web.names` in PLANT.yaml"
            )
        if scope["method"] not in _SAFE and (why := foreign_request(headers, host)):
            return HTTPStatus.FORBIDDEN, why
        path = scope["path"]
        if not path.startswith("/api/"):
            return None
        try:
            user = await run_in_threadpool(self._user, HTTPConnection(scope))
        except SQLAlchemyError as fault:
            log.warning("page: the database does not answer (%s)", first_line(fault))
            return HTTPStatus.SERVICE_UNAVAILABLE, "the database does not answer; try again"
        scope.setdefault("state", {})["user"] = user
        if user is None and path not in _OPEN:
            return HTTPStatus.UNAUTHORIZED, "log in first"
        return None

    def _user(self, connection: HTTPConnection) -> User | None:
        """Who asks, by the proxy's word or by their session."""
        proxy = self._proxy
        client = "" if connection.client is None else connection.client.host
        if proxy is not None and trusted(client, proxy):
            name = connection.headers.get(proxy.user_header, "").strip()
            if name:
                known = self._users.find(name)
                if known is not None or proxy.default_role is None:
                    return known
                return User(name[:100], proxy.default_role)
        token = connection.cookies.get(COOKIE)
        return self._users.session(token) if token else None


def trusted(client: str, proxy: ProxyConfig) -> bool:
    """Whether an address is the proxy's."""
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in ipaddress.ip_network(one) for one in proxy.addresses)
