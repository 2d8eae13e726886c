"""What changes, as server-sent events: one watcher asks the database, all browsers are told."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta, timezone
from http import HTTPStatus
from typing import Any

from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from agent.core.json_request import problem
from plant.store.read import Reader
from plant.web.endpoint import plain

log = logging.getLogger(__name__)

_STEP_SECONDS = 0.25
# A transaction that began earlier may become visible later: changes are asked for again for so
# long, and told once.
_OVERLAP = timedelta(seconds=3)
_COUNT_SECONDS = 5.0
_HEARTBEAT_SECONDS = 15.0
# More changes than these at once are told in several steps.
_MOST_CHANGES = 2000
_MOST_WAITING = 200
_MOST_BROWSERS = 200


class Stream:
    """Tells browsers of changed machines.

    Args:
        reader: What is kept.
        stopping: Whether the page is ending: streams then end too.
    """

    def __init__(self, reader: Reader, stopping: Callable[[], bool]) -> None:
        self._reader, self._stopping = reader, stopping
        self._queues: set[asyncio.Queue[bytes]] = set()
        self._task: asyncio.Task[None] | None = None

    async def serve(self, request: Request) -> Response:
        """One browser's stream."""
        del request
        if len(self._queues) >= _MOST_BROWSERS:
            return problem(HTTPStatus.SERVICE_UNAVAILABLE, "too many browsers look on; try later")
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._watch())
        return StreamingResponse(
            self._told(), media_type="text/event-stream", headers={"x-accel-buffering": "no"}
        )

    async def _told(self) -> AsyncIterator[bytes]:
        queue: asyncio.Queue[bytes] = asyncio.Queue(_MOST_WAITING)
        self._queues.add(queue)
        try:
            yield b"retry: 2000\n\n"
            while not self._stopping():
                yield await _next(queue)
        finally:
            self._queues.discard(queue)

    async def _watch(self) -> None:
        """Ask for changes while somebody looks on."""
        since = datetime.now(timezone.utc)
        known: dict[int, datetime] = {}
        counted, away = 0.0, False
        while not self._stopping():
            await asyncio.sleep(_STEP_SECONDS)
            if not self._queues:
                return
            try:
                new = await run_in_threadpool(
                    self._reader.changed, since - _OVERLAP, known, _MOST_CHANGES
                )
                known.update({row["id"]: row["changed"] for row in new})
                if new:
                    self._tell("machines", new)
                    # Those left out come at the next step: they are not known yet.
                    since = max(since, new[-1]["changed"])
                if new and time.monotonic() - counted > _COUNT_SECONDS:
                    counted = time.monotonic()
                    self._tell("counts", await run_in_threadpool(self._reader.counts))
                away = False
            except (SQLAlchemyError, OSError):
                if not away:
                    log.warning("page: the database does not answer")
                away = True
            known = {number: at for number, at in known.items() if at >= since - 2 * _OVERLAP}

    def _tell(self, kind: str, message: Any) -> None:
        data = f"event: {kind}\ndata: {json.dumps(plain(message))}\n\n".encode()
        for queue in self._queues:
            if queue.full():
                # A browser that cannot follow asks for all of it again.
                while not queue.empty():
                    queue.get_nowait()
                queue.put_nowait(b"event: behind\ndata: {}\n\n")
            else:
                queue.put_nowait(data)


async def _next(queue: asyncio.Queue[bytes]) -> bytes:
    """What is told next; a comment when nothing is for a while, so that proxies stay open."""
    try:
        return await asyncio.wait_for(queue.get(), _HEARTBEAT_SECONDS)
    except asyncio.TimeoutError:
        return b": still here\n\n"
