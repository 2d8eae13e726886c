"""Server-sent events: every message as it is told, and what is heard, to whoever watches."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from http import HTTPStatus
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from agent.core.json_request import problem
from agent.publish.live import Told
from agent.web.backend import Backend
from agent.web.sound import BANDS, COLUMN_SECONDS, FLOOR_DB, STEPS_PER_DB, Column, columns_of

_STEP_SECONDS = 0.2
_HEALTH_SECONDS = 5.0
_PAST_SECONDS = 60.0  # as much as the page shows
_VIEWERS = 12
_MOST_AT_ONCE = 200


class Stream:
    """Serves `/api/stream`. Costs nothing without a viewer: there is no thread, and no timer.

    Args:
        backend: The agent.
        stopping: Whether the page is ending.
    """

    def __init__(self, backend: Backend, stopping: Callable[[], bool]) -> None:
        self._backend = backend
        self._stopping = stopping
        self.viewers = 0

    async def serve(self, request: Request) -> Response:
        """Begin to tell a browser."""
        if self.viewers >= _VIEWERS:
            return problem(
                HTTPStatus.SERVICE_UNAVAILABLE, f"{_VIEWERS} browsers are watching already"
            )
        sound = request.query_params.get("sound") or None
        if sound is not None and sound not in self._backend.sounds:
            return problem(HTTPStatus.NOT_FOUND, "there is no such machine here")
        given = request.headers.get("last-event-id") or request.query_params.get("after", "")
        number = int(given) if given.isdecimal() and len(given) < 16 else self._backend.live.number
        # Counted here, in one step with the look above: many may come at once.
        self.viewers += 1
        return _Watched(
            self._tell(number, sound),
            self._leave,
            media_type="text/event-stream",
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )

    def _leave(self) -> None:
        self.viewers -= 1

    async def _tell(self, number: int, sound: str | None) -> AsyncIterator[bytes]:
        feed = None if sound is None else self._backend.sounds[sound]
        column = 0 if feed is None else feed.number
        with contextlib.nullcontext() if feed is None else feed.watch():
            yield b"retry: 2000\n\n"
            if sound and (past := await run_in_threadpool(self._past, sound)):
                yield _event("sound", _heard(sound, past) | {"past": True})
            due = 0.0
            loop = asyncio.get_running_loop()
            while not self._stopping() and not self._backend.live.closed:
                out, number = self._news(number)
                if feed is not None and (columns := feed.after(column)):
                    column = columns[-1].number
                    out += _event("sound", _heard(sound or "", columns))
                if loop.time() >= due:
                    due = loop.time() + _HEALTH_SECONDS
                    out += _event("health", self._backend.health())
                if out:
                    yield out
                await asyncio.sleep(_STEP_SECONDS)

    def _past(self, machine: str) -> list[Column]:
        """The last minute of a machine's sound, as far as it is held."""
        clip = self._backend.recent(machine, _PAST_SECONDS)
        return [] if clip is None else columns_of(clip.samples, clip.rate, clip.wall)

    def _news(self, number: int) -> tuple[bytes, int]:
        """What was told since, and the number of the latest."""
        live = self._backend.live
        told = live.after(number)
        missed = number > live.number or (bool(told) and told[0].number != number + 1)
        if missed or len(told) > _MOST_AT_ONCE:
            # The agent was started anew, or the reader was away for long: it begins anew.
            return _event("reset", {"number": live.number}, live.number), live.number
        out = b"".join(_event("told", _plain(one), one.number) for one in told)
        return out, told[-1].number if told else number


class _Watched(StreamingResponse):
    """A stream that says when it is over, also when it never began."""

    def __init__(
        self, content: AsyncIterator[bytes], over: Callable[[], None], **options: Any
    ) -> None:
        super().__init__(content, **options)
        self._over = over

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._over()


def _plain(told: Told) -> dict[str, Any]:
    return {
        "number": told.number,
        "kind": told.kind,
        "machine": told.machine,
        "message": told.message,
    }


def _heard(machine: str, columns: Sequence[Column]) -> dict[str, Any]:
    return {
        "machine": machine,
        "seconds": COLUMN_SECONDS,
        "bands": BANDS,
        "floor_db": FLOOR_DB,
        "steps_per_db": STEPS_PER_DB,
        "rate": columns[-1].rate,
        "columns": [
            {
                "time": round(column.wall, 3),
                "rms": column.rms,
                "peak": column.peak,
                "bands": base64.b64encode(column.bands).decode(),
            }
            for column in columns
        ],
    }


def _event(name: str, data: Any, number: int | None = None) -> bytes:
    head = "" if number is None else f"id: {number}\n"
    return f"{head}event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()
