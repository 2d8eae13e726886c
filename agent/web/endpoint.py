"""One operation of the JSON API: declared once, for the routes and for their description."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeAlias

from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from agent.core.errors import AuscultError
from agent.core.json_request import ApiError, problem, read_json
from agent.core.schema import explain
from agent.request.dispatch import MAX_BYTES
from agent.web.roles import SCOPE, PageRole

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, checked.

    Attributes:
        path: What the path says.
        query: What comes after it, of the endpoint's `query` model; None without one.
        body: The body, of the endpoint's `body` model; None without one.
        request: As it came.
    """

    path: dict[str, str]
    query: Any
    body: Any
    request: Request

    @property
    def client(self) -> str:
        """The browser's address; empty when not known."""
        return "" if self.request.client is None else self.request.client.host


Run: TypeAlias = Callable[[Asked], BaseModel | Response]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One operation.

    Attributes:
        method: HTTP's.
        path: Below `/api`, with `{names}`.
        run: Does it, in a thread.
        summary: What it does, in a sentence.
        answer: Model of the answer, or its media type.
        body: Model of the JSON that it takes; None for none.
        query: Model of what may follow `?`; None for nothing.
        asks: The least role that may; None for a viewer's where nothing changes, else an admin's.
    """

    method: str
    path: str
    run: Run
    summary: str
    answer: type[BaseModel] | str
    body: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    asks: PageRole | None = None

    @property
    def role(self) -> PageRole:
        """The least role that may."""
        if self.asks is not None:
            return self.asks
        return PageRole.VIEWER if self.method == "GET" else PageRole.ADMIN

    def route(self) -> Route:
        """The operation as a route of Starlette."""
        return Route(f"/api{self.path}", self._serve, methods=[self.method])

    async def _serve(self, request: Request) -> Response:
        mine: PageRole = request.scope.get(SCOPE, PageRole.ANYONE)
        if mine < self.role:
            return problem(
                HTTPStatus.FORBIDDEN,
                f"that takes the password of the {self.role.word}s; this browser came in as "
                f"{mine.word}. Log out, and in again with it",
            )
        try:
            query = None if self.query is None else self.query.model_validate(
                dict(request.query_params)
            )  # fmt: skip
            body = None
            if self.body is not None:
                body = self.body.model_validate(await read_json(request, MAX_BYTES))
            asked = Asked(dict(request.path_params), query, body, request)
            found = await run_in_threadpool(self.run, asked)
        except ApiError as fault:
            return problem(fault.status, str(fault))
        except ValidationError as fault:
            return problem(HTTPStatus.UNPROCESSABLE_ENTITY, explain(fault))
        except AuscultError as fault:
            return problem(HTTPStatus.CONFLICT, str(fault))
        except ClientDisconnect:
            return Response(status_code=HTTPStatus.BAD_REQUEST)
        except Exception:
            log.exception("web: %s %s", self.method, self.path)
            return problem(
                HTTPStatus.INTERNAL_SERVER_ERROR, "the agent failed to answer; see its log"
            )
        if isinstance(found, BaseModel):
            return JSONResponse(found.model_dump(mode="json"))
        return found
