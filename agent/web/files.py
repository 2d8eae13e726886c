"""What is kept on this device, looked up by its name: no name from outside becomes a path."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from pathlib import Path

from starlette.responses import FileResponse, Response, StreamingResponse

from agent.collect.retention import Stored, survey_sessions
from agent.core.json_request import ApiError

_CHUNK = 1 << 18


def folder_named(root: Path, name: str) -> Path:
    """The folder of that name in another; links are not followed.

    Raises:
        ApiError: There is none.
    """
    try:
        found = next((one for one in root.iterdir() if one.name == name), None)
    except OSError:
        found = None
    if found is None or found.is_symlink() or not found.is_dir():
        raise ApiError(HTTPStatus.NOT_FOUND, "nothing of that name is kept here")
    return found


def session_named(root: Path, machine: str, name: str) -> Stored:
    """A machine's collected session.

    Args:
        root: `collected/` in the state directory.
        machine: The machine.
        name: The session's.

    Raises:
        ApiError: There is none.
    """
    for stored in survey_sessions(root):
        if stored.machine == machine and stored.folder.name == name:
            return stored
    raise ApiError(HTTPStatus.NOT_FOUND, "there is no such session here")


def file_answer(path: Path, media_type: str) -> Response:
    """A file, whole or in the ranges that are asked for.

    Raises:
        ApiError: It is not there.
    """
    if path.is_symlink() or not path.is_file():
        raise ApiError(HTTPStatus.NOT_FOUND, "that file is not kept here")
    return FileResponse(path, media_type=media_type)


def zip_answer(members: Iterable[tuple[str, Path | bytes]], filename: str) -> Response:
    """Files as one zip, made while it is sent: neither memory nor disk holds all of it.

    Args:
        members: Names in the zip, and files or bytes; files that are gone are left out.
        filename: Under which a browser keeps it.
    """
    return StreamingResponse(
        _zipped(members),
        media_type="application/zip",
        headers={"content-disposition": f'attachment; filename="{filename}"'},
    )


class _Pipe(io.RawIOBase):
    """Where a zip is written to, and read from at once."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        part = bytes(data)  # type: ignore[call-overload]
        self._parts.append(part)
        return len(part)

    def take(self) -> bytes:
        taken, self._parts = b"".join(self._parts), []
        return taken


def _zipped(members: Iterable[tuple[str, Path | bytes]]) -> Iterator[bytes]:
    pipe = _Pipe()
    # Sound is compressed already.
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members:
            if isinstance(content, bytes):
                archive.writestr(name, content)
                continue
            try:
                source = content.open("rb")
            except OSError:
                continue
            # Written before the clock was set, it is older than a zip can tell.
            about = zipfile.ZipInfo.from_file(content, name, strict_timestamps=False)
            with source, archive.open(about, "w") as target:
                while chunk := source.read(_CHUNK):
                    target.write(chunk)
                    yield pipe.take()
            yield pipe.take()
    yield pipe.take()
