"""The present and the past of the machines, and the commands: the same as over MQTT."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from http import HTTPStatus

from starlette.responses import JSONResponse, Response

from agent.core.json_request import ApiError
from agent.history.bucket import Bucket
from agent.publish.device_payloads import Info
from agent.publish.payloads import Response as CommandResponse
from agent.request.commands import COMMANDS
from agent.web.backend import Backend
from agent.web.endpoint import Asked, Endpoint
from agent.web.models import History, HistoryQuery, PageHealth, State
from agent.web.roles import role_for

_LEVELS = ("normal", "alert", "alarm")
_EVENTS = 100


def now_endpoints(backend: Backend) -> Sequence[Endpoint]:
    """Of the live page."""
    return (
        Endpoint(
            "GET", "/info", partial(_info, backend), "What the agent is made of (`info` of MQTT)",
            Info,
        ),
        Endpoint(
            "GET", "/health", partial(_health, backend), "How the agent and delivery are",
            PageHealth,
        ),
        Endpoint("GET", "/state", partial(_state, backend), "How every machine stands", State),
        Endpoint(
            "GET", "/machines/{machine}/history", partial(_history, backend),
            "Score, drift and state over an hour, day, month or year", History,
            query=HistoryQuery,
        ),
        *(
            Endpoint(
                "POST", f"/commands/{name}", partial(_command, backend, name),
                str(model.__doc__).strip(), CommandResponse, body=model, asks=role_for(name),
            )
            for name, model in COMMANDS.items()
        ),
    )  # fmt: skip


def known_machine(backend: Backend, asked: Asked) -> str:
    """The machine that a path names.

    Raises:
        ApiError: There is none of that name.
    """
    name = asked.path["machine"]
    if name not in backend.machines:
        raise ApiError(HTTPStatus.NOT_FOUND, "there is no such machine here")
    return name


def _info(backend: Backend, _: Asked) -> Response:
    return JSONResponse(backend.info())


def _health(backend: Backend, _: Asked) -> Response:
    return JSONResponse(backend.health())


def _state(backend: Backend, _: Asked) -> Response:
    number = backend.live.number  # first: what comes in between is told twice, not never
    latest = backend.live.latest()
    return JSONResponse(
        {
            "number": number,
            "machines": {name: dict(latest.get(name, {})) for name in backend.machines},
            "events": [
                {"number": told.number, "kind": told.kind, "machine": told.machine,
                 "message": told.message}
                for told in backend.live.events()[-_EVENTS:]
            ],
        }
    )  # fmt: skip


def _history(backend: Backend, asked: Asked) -> History:
    machine, query = known_machine(backend, asked), asked.query
    shown, points = backend.history.read(machine, query.range, query.end)
    end = int(points[-1][0] + shown.by) if points else 0
    end = max(end, int(query.end)) if query.end is not None else end
    buckets = [bucket for _, bucket in points]
    return History(
        machine=machine,
        begin=end - shown.seconds,
        end=end,
        step=shown.by,
        time=[start for start, _ in points],
        least=[bucket.score_min for bucket in buckets],
        mean=[_mean(bucket) for bucket in buckets],
        most=[bucket.score_max for bucket in buckets],
        threshold=[bucket.threshold for bucket in buckets],
        exceeded=[bucket.exceeded for bucket in buckets],
        drift=[bucket.drift for bucket in buckets],
        drift_threshold=[bucket.drift_threshold for bucket in buckets],
        level=[_LEVELS[bucket.level] for bucket in buckets],
        state=[_state_of(bucket) for bucket in buckets],
        invalid=[bucket.invalid for bucket in buckets],
        estimated=[bool(bucket.estimated) for bucket in buckets],
    )


def _mean(bucket: Bucket) -> float | None:
    return bucket.score_sum / bucket.scored if bucket.scored else None


def _state_of(bucket: Bucket) -> str:
    if not bucket.running and not bucket.idle:
        return "unknown"
    return "running" if bucket.running >= bucket.idle else "idle"


def _command(backend: Backend, name: str, asked: Asked) -> Response:
    answer = backend.command(name, asked.body.model_dump(exclude_unset=True), asked.client)
    if answer is None:
        raise ApiError(HTTPStatus.GATEWAY_TIMEOUT, "the command has not been answered in time")
    status = HTTPStatus.OK if answer["status"] == "ok" else HTTPStatus.CONFLICT
    return JSONResponse(answer, status)
