"""One operation of the page's JSON API: who may, what it takes, what it gives."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any, TypeAlias

from pydantic import BaseModel, ValidationError
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from agent.core.errors import AuscultError, DeliveryError
from agent.core.json_request import ApiError, problem, read_json
from agent.core.schema import explain
from plant.store.database import away
from plant.store.users import User
from plant.watch.config import Role

log = logging.getLogger(__name__)

_MOST_BYTES = 16_384


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, checked.

    Attributes:
        path: What the path says.
        body: Of the endpoint's model: what came as JSON, or after `?`; None without a model.
        request: As it came.
    """

    path: dict[str, str]
    body: Any
    request: Request

    @property
    def user(self) -> User:
        """Who asks."""
        found = self.request.state.user
        assert isinstance(found, User)
        return found

    @property
    def client(self) -> str:
        """The browser's address; empty when not known."""
        return "" if self.request.client is None else self.request.client.host


Run: TypeAlias = Callable[[Asked], Any]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One operation.

    Attributes:
        method: HTTP's.
        path: Below `/api`, with `{names}`.
        run: Does it, in a thread; gives what becomes JSON, or a response.
        role: Who may; None for everybody, logged in or not.
        model: Of what it takes: JSON, or with GET what follows `?`.
    """

    method: str
    path: str
    run: Run
    role: Role | None = "viewer"
    model: type[BaseModel] | None = None

    def route(self) -> Route:
        """The operation as a route of Starlette."""
        return Route(f"/api{self.path}", self._serve, methods=[self.method])

    async def _serve(self, request: Request) -> Response:
        try:
            if self.role is not None and not request.state.user.may(self.role):
                raise ApiError(  # noqa: TRY301
                    HTTPStatus.FORBIDDEN,
                    f"only {'an admin' if self.role == 'admin' else f'an {self.role}'} may do that",
                )
            body = None
            if self.model is not None:
                given = dict(request.query_params)
                if self.method != "GET":
                    given = await read_json(request, _MOST_BYTES)
                body = self.model.model_validate(given)
            found = await run_in_threadpool(
                self.run, Asked(dict(request.path_params), body, request)
            )
        except ApiError as fault:
            return problem(fault.status, str(fault))
        except ValidationError as fault:
            return problem(HTTPStatus.UNPROCESSABLE_ENTITY, explain(fault, whole="the request"))
        except DeliveryError as fault:
            return problem(HTTPStatus.BAD_GATEWAY, str(fault))
        except AuscultError as fault:
            return problem(HTTPStatus.CONFLICT, str(fault))
        except ClientDisconnect:
            return Response(status_code=HTTPStatus.BAD_REQUEST)
        except SQLAlchemyError as fault:
            if not away(fault):
                log.exception("page: %s %s", self.method, self.path)
            return problem(
                HTTPStatus.SERVICE_UNAVAILABLE, "the database does not answer; try again"
            )
        except Exception:
            log.exception("page: %s %s", self.method, self.path)
            return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "the server failed; see its log")
        return found if isinstance(found, Response) else JSONResponse(plain(found))


def plain(value: Any) -> Any:
    """Rows as JSON can have them: times as ISO 8601 in UTC."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return value
