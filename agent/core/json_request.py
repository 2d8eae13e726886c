"""JSON in a request and in an answer, as the device's page and the plant's take and give it."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse


class ApiError(Exception):
    """A request that cannot be answered.

    Args:
        status: HTTP's.
        text: Why, for a person.
    """

    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.status = status


async def read_json(request: Request, most_bytes: int) -> Any:
    """The body of a request, which says that it is JSON.

    Args:
        request: As it came.
        most_bytes: More are not read.

    Raises:
        ApiError: It is too long, says that it is something else, or is not JSON.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ApiError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send `content-type: application/json`")
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > most_bytes:
            raise ApiError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {most_bytes} bytes are taken"
            )
    try:
        return json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as fault:
        raise ApiError(HTTPStatus.BAD_REQUEST, f"the body is not JSON: {fault}") from fault


def problem(status: HTTPStatus, text: str) -> JSONResponse:
    """An answer that says why there is none."""
    return JSONResponse({"error": text[:2000]}, status)
