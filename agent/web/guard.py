"""Who may ask what: host names, requests from other sites, the password, and what browsers obey.

- A page of another site must not act through a logged-in browser: whatever changes something needs
  this page's own header, which no foreign form can send, and an origin that is this one.
- A foreign name that was made to resolve to this device (DNS rebinding) is not answered.
- The session's cookie is of this site alone (`SameSite=Strict`) and no script can read it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agent.core.same_origin import foreign_request, is_own_name, page_headers
from agent.web.connections import bucket_of, is_local
from agent.web.roles import SCOPE, PageRole, role_named

COOKIE = "auscult_session"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_OPEN = frozenset({"/api/session", "/api/login", "/api/openapi.json"})
_SESSIONS = 64
_FAILURES, _FAILURE_SECONDS, _CLIENTS = 8, 300.0, 1024
# Of all clients together: addresses are cheap.
_ALL_FAILURES = 64


class Sessions:
    """The browsers that have given the password.

    Args:
        passwords: Of each role that has one, or the admins' alone; none lets everybody in.
        seconds: How long one stays.
        guest: What somebody may do who has given none, where one is asked for.
    """

    def __init__(
        self,
        passwords: Mapping[PageRole, str] | str | None,
        seconds: float,
        guest: PageRole = PageRole.ANYONE,
    ) -> None:
        self.seconds = seconds
        if isinstance(passwords, str):
            passwords = {PageRole.ADMIN: passwords}
        self._passwords = {role: given.encode() for role, given in (passwords or {}).items()}
        self._guest = guest
        self._roles: dict[str, PageRole] = {}
        self._lock = threading.Lock()
        self._known: OrderedDict[str, float] = OrderedDict()
        self._failures: OrderedDict[str, list[float]] = OrderedDict()
        self._all_failures: deque[float] = deque(maxlen=_ALL_FAILURES)
        # Who has given the right one is not kept out by the guesses of others.
        self._friends: OrderedDict[str, None] = OrderedDict()

    @property
    def needed(self) -> bool:
        """Whether a password is asked for."""
        return bool(self._passwords)

    def open(self, password: str, client: str) -> str | None:
        """Log a browser in; its token, or None when the password is wrong.

        Args:
            password: As it was given.
            client: The browser's address; those of one IPv6 /64 count as one.

        Raises:
            PermissionError: Too many wrong ones came of late, from there or altogether.
        """
        now, local, client = time.monotonic(), is_local(client), bucket_of(client)
        with self._lock:
            wrong = [at for at in self._failures.pop(client, []) if now - at < _FAILURE_SECONDS]
            if wrong:
                self._failures[client] = wrong
            if len(wrong) >= _FAILURES:
                raise PermissionError("too many wrong passwords; try again in five minutes")
            while self._all_failures and now - self._all_failures[0] >= _FAILURE_SECONDS:
                self._all_failures.popleft()
            known = local or client in self._friends
            if len(self._all_failures) >= _ALL_FAILURES and not known:
                raise PermissionError(
                    "too many wrong passwords came from many places; try again in five minutes, "
                    "or from where you were let in before"
                )
            role = self._opened(password)
            if role is None:
                self._failures[client] = [*wrong, now]
                self._all_failures.append(now)
                while len(self._failures) > _CLIENTS:
                    self._failures.popitem(last=False)
                return None
            self._friends[client] = None
            self._friends.move_to_end(client)
            while len(self._friends) > _SESSIONS:
                self._friends.popitem(last=False)
            token = secrets.token_urlsafe(32)
            self._known[_digest(token)] = now + self.seconds
            self._roles[_digest(token)] = role
            while len(self._known) > _SESSIONS:
                self._roles.pop(self._known.popitem(last=False)[0], None)
            return token

    def role(self, token: str | None) -> PageRole:
        """What a browser may do."""
        if not self._passwords:
            return PageRole.ADMIN
        key = _digest(token or "")
        with self._lock:
            if token and self._known.get(key, 0.0) > time.monotonic():
                return self._roles.get(key, self._guest)
        return self._guest

    def _opened(self, password: str) -> PageRole | None:
        """The role that a password opens; each is looked at, so that none is told by the time."""
        if not self._passwords:
            return PageRole.ADMIN
        given, found = password.encode(), None
        for role, known in self._passwords.items():
            if hmac.compare_digest(given, known):
                found = role
        return found

    def close(self, token: str | None) -> None:
        """Log a browser out."""
        with self._lock:
            self._known.pop(_digest(token or ""), None)
            self._roles.pop(_digest(token or ""), None)


class Guard:
    """ASGI middleware before everything else.

    Args:
        app: What is guarded.
        sessions: Who is logged in.
        names: Host names it answers to, beside addresses and `localhost`.
        role_header: Header by which the proxy in front says what somebody may do; None without.
        changed: Told of each request that was to change something: client, method, path, status.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        sessions: Sessions,
        names: tuple[str, ...],
        role_header: str | None = None,
        changed: Callable[[str, str, str, int], None] = lambda *_: None,
    ) -> None:
        self._app = app
        self._sessions = sessions
        self._names = {name.lower() for name in names} | {"localhost"}
        self._changed = changed
        self._role_header = role_header

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or refuse a request."""
        if scope["type"] != "http":
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                if scope["method"] not in _SAFE:
                    client = (scope.get("client") or ("",))[0]
                    self._changed(client, scope["method"], scope["path"], message["status"])
                headers = MutableHeaders(scope=message)
                for name, value in page_headers(scope["path"]).items():
                    headers.setdefault(name, value)
            await send(message)

        scope[SCOPE] = self._role(scope)
        refusal = self._refusal(scope)
        if refusal is not None:
            status, why = refusal
            answer = JSONResponse({"error": why}, status)
            await answer(scope, receive, send_guarded)
            return
        await self._app(scope, receive, send_guarded)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not is_own_name(host, self._names):
            return HTTPStatus.MISDIRECTED_REQUEST, (
                f"this device is not {host[:80]!r}; add the name to `web.names`"
            )
        if scope["method"] not in _SAFE and (why := foreign_request(headers, host)):
            return HTTPStatus.FORBIDDEN, why
        path = scope["path"]
        guarded = path.startswith("/api/") and path not in _OPEN
        if guarded and scope[SCOPE] is PageRole.ANYONE:
            return HTTPStatus.UNAUTHORIZED, "log in first"
        return None

    def _role(self, scope: Scope) -> PageRole:
        """What the password gives, and no more than the proxy says."""
        role = self._sessions.role(HTTPConnection(scope).cookies.get(COOKIE))
        if self._role_header is None:
            return role
        # What the proxy does not name may look, as everybody may whom it lets through.
        said = role_named(Headers(scope=scope).get(self._role_header)) or PageRole.VIEWER
        return min(role, said)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
