"""Live sound of a microphone, for those who may: off unless configured, never against privacy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from http import HTTPStatus

from starlette.responses import Response, StreamingResponse

from agent.core.json_request import ApiError
from agent.web.backend import Backend
from agent.web.endpoint import Asked, Endpoint
from agent.web.now import known_machine
from agent.web.roles import PageRole
from agent.web.sound import SoundFeed

_LONGEST_SECONDS = 600.0  # then somebody has to ask anew
_STEP_SECONDS = 0.1


def listen_endpoints(backend: Backend, stopping: Callable[[], bool]) -> Sequence[Endpoint]:
    """Of listening.

    Args:
        backend: The agent.
        stopping: Whether the page is ending: streams then end too.
    """
    return (
        # Not a GET: it bears this page's header, and is in the audit.
        Endpoint("POST", "/machines/{machine}/listen", partial(_listen, backend, stopping),
                 "What its microphone hears from now on: 16-bit samples, little endian, one "
                 "channel, `x-sample-rate` a second, ten minutes at most", "audio/L16",
                 asks=PageRole.OPERATOR),
    )  # fmt: skip


def refusal(backend: Backend) -> str:
    """Why nobody may listen here; empty when one may."""
    evidence = backend.config.evidence
    if not backend.config.web.listen:
        return "listening live is off: `web.listen: true` lets whoever is let in do so"
    if evidence.sound == "none":
        return "no sound leaves this device: `evidence.sound` is none"
    if evidence.speech != "keep":
        return (
            "speech is taken out of what is kept here (`evidence.speech`), so nobody listens live"
        )
    return ""


def _listen(backend: Backend, stopping: Callable[[], bool], asked: Asked) -> Response:
    machine = known_machine(backend, asked)
    if why := refusal(backend):
        raise ApiError(HTTPStatus.FORBIDDEN, why)
    feed = backend.sounds[machine]
    if not feed.rate:
        raise ApiError(HTTPStatus.CONFLICT, "nothing is heard at present")
    headers = {"x-sample-rate": str(feed.rate), "x-accel-buffering": "no"}
    return StreamingResponse(_told(feed, stopping), media_type="audio/L16", headers=headers)


async def _told(feed: SoundFeed, stopping: Callable[[], bool]) -> AsyncIterator[bytes]:
    loop, rate = asyncio.get_running_loop(), feed.rate
    end = loop.time() + _LONGEST_SECONDS
    try:
        with feed.listen() as ear:
            while not stopping() and loop.time() < end and feed.rate == rate:
                parts = []
                while ear:
                    parts.append(ear.popleft())
                if parts:
                    yield b"".join(parts)
                await asyncio.sleep(_STEP_SECONDS)
    except BlockingIOError:
        return  # as many as may listen do
