"""The page's application: API, stream, metrics, static files, and the guard before them."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from agent.core.json_request import problem
from agent.web.common import FOLDER as COMMON
from plant.store.database import Database
from plant.store.read import Reader
from plant.store.users import Users
from plant.watch.desk import Desk
from plant.watch.file import ServeFile
from plant.web.api import Api
from plant.web.export import export_endpoints
from plant.web.guard import Guard
from plant.web.stream import Stream

STATIC = Path(__file__).parent / "static"


def build_app(
    config: ServeFile,
    database: Database,
    stopping: Callable[[], bool] = lambda: False,
    metrics: Callable[[], bytes] = lambda: b"",
) -> ASGIApp:
    """The application.

    Args:
        config: PLANT.yaml.
        database: Migrated.
        stopping: Whether the page is ending: streams then end too.
        metrics: What Prometheus is told.
    """
    reader = Reader(database, config.watch.sites)
    users = Users(database)
    desk = Desk(config.broker, config.watch, database)
    endpoints = [
        *Api(config.plant, reader, desk, users, config.web).endpoints(),
        *export_endpoints(reader),
    ]
    stream = Stream(reader, stopping)

    async def index(_: Request) -> Response:
        return FileResponse(STATIC / "index.html", headers={"cache-control": "no-cache"})

    async def told(_: Request) -> Response:
        return Response(metrics(), media_type="text/plain; version=0.0.4")

    async def nowhere(_: Request) -> Response:
        return problem(HTTPStatus.NOT_FOUND, "there is no such thing here")

    app = Starlette(
        routes=[
            Route("/api/stream", stream.serve),
            *(endpoint.route() for endpoint in endpoints),
            Route("/api/{rest:path}", nowhere, methods=["GET", "POST", "DELETE"]),
            Route("/metrics", told),
            Route("/", index),
            Mount("/static/common", _Static(directory=COMMON, follow_symlink=False)),
            Mount("/static", _Static(directory=STATIC, follow_symlink=False)),
        ]
    )
    return Guard(app, users, config.web)


class _Static(StaticFiles):
    """Files that a browser asks for anew each time: a new version may have another page."""

    def file_response(self, *args: object, **options: object) -> Response:
        response = super().file_response(*args, **options)  # type: ignore[arg-type]
        response.headers["cache-control"] = "no-cache"
        return response
