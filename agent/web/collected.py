"""Collected sound on the page: what there is, listening, deleting, and taking it elsewhere."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from http import HTTPStatus
from pathlib import Path

from starlette.responses import Response

from agent.capture.recorder import FOLDERS
from agent.collect.retention import sessions_in_banks, survey_sessions
from agent.collect.schedule import Schedules
from agent.collect.session import SESSION, Session, read_session
from agent.core.errors import AuscultError
from agent.core.json_request import ApiError
from agent.deploy.versions import version_folders
from agent.web.backend import Backend
from agent.web.collect_models import Collected, CollectedSession, Removed
from agent.web.endpoint import Asked, Endpoint
from agent.web.files import file_answer, session_named, zip_answer
from agent.web.now import known_machine

log = logging.getLogger(__name__)

# The training folder's names of what was collected (docs/guide/evaluation.md, the plain layout).


def collect_endpoints(backend: Backend) -> Sequence[Endpoint]:
    """Of the collecting page."""
    one = "/collected/{machine}/{session}"
    return (
        Endpoint("GET", "/collected/{machine}", partial(_list, backend),
             "What was collected from a machine, and what will be", Collected),
        Endpoint("GET", "/collected/{machine}/training.zip", partial(_training, backend),
             "All of it as the folder that `auscult train` takes", "application/zip"),
        Endpoint("GET", f"{one}/{{file}}", partial(_sound, backend),
             "A file of a session, also in ranges", "audio/flac"),
        Endpoint("DELETE", one, partial(_delete, backend),
             "Delete a session that is not being recorded", Removed),
    )  # fmt: skip


def _root(backend: Backend) -> Path:
    return backend.config.state_path / "collected"


def _recorded(backend: Backend, machine: str) -> Session | None:
    """The session being recorded, as far as it got."""
    tap = backend.collector.observers.get(machine)
    recording = None if tap is None else tap.recording
    if recording is None or recording.done:
        return None
    return recording.result(complete=False)


def _list(backend: Backend, asked: Asked) -> Collected:
    machine, root = known_machine(backend, asked), _root(backend)
    original = backend.config.bundle_at(machine)
    banks = [original, *version_folders(backend.config.state_path, machine, original)]
    joined, now = sessions_in_banks(banks), _recorded(backend, machine)
    found = []
    if now is not None:
        found.append(CollectedSession(session=now, bytes=0, recording=True, in_bank=False))
    for stored in reversed(survey_sessions(root)):
        if stored.machine != machine or (now is not None and stored.folder.name == now.session):
            continue
        try:
            session = read_session(stored.folder)
        except AuscultError as fault:
            log.debug("%s", fault)
            continue
        found.append(
            CollectedSession(
                session=session, bytes=stored.size, recording=False,
                in_bank=session.session in joined,
            )
        )  # fmt: skip
    schedules = Schedules(backend.config.state_path / "collect" / "schedules.json").all()
    place = root if root.is_dir() else backend.config.state_path
    return Collected(
        sessions=found,
        schedules=[one for one in schedules if one.order.machine == machine and one.times],
        free_bytes=shutil.disk_usage(place).free if place.is_dir() else 0,
    )


def _sound(backend: Backend, asked: Asked) -> Response:
    machine = known_machine(backend, asked)
    folder = session_named(_root(backend), machine, asked.path["session"]).folder
    if asked.path["file"] not in {segment.file for segment in read_session(folder).segments}:
        raise ApiError(HTTPStatus.NOT_FOUND, "that session has no such file")
    return file_answer(folder / asked.path["file"], "audio/flac")


def _training(backend: Backend, asked: Asked) -> Response:
    machine = known_machine(backend, asked)
    sessions = [one for one in survey_sessions(_root(backend)) if one.machine == machine]
    if not sessions:
        raise ApiError(HTTPStatus.NOT_FOUND, "nothing has been collected from that machine yet")
    members = _members(machine, [one.folder for one in sessions])
    return zip_answer(members, f"{machine}-training.zip")


def _members(machine: str, folders: Sequence[Path]) -> Iterator[tuple[str, Path | bytes]]:
    for folder in folders:
        try:
            session = read_session(folder)
        except AuscultError:
            continue
        for segment in session.segments:
            place = f"{machine}/{FOLDERS[session.label]}/{session.session}-{segment.file}"
            yield place, folder / segment.file
        yield f"{machine}/sessions/{session.session}.json", folder / SESSION


def _delete(backend: Backend, asked: Asked) -> Removed:
    machine = known_machine(backend, asked)
    now = _recorded(backend, machine)
    if now is not None and now.session == asked.path["session"]:
        raise ApiError(HTTPStatus.CONFLICT, "it is being recorded; stop it first")
    stored = session_named(_root(backend), machine, asked.path["session"])
    try:
        shutil.rmtree(stored.folder)
    except OSError as fault:
        raise ApiError(HTTPStatus.CONFLICT, f"it cannot be deleted: {fault.strerror}") from fault
    log.info("%s: collected session %s was deleted from the page", machine, stored.folder.name)
    return Removed(session=stored.folder.name)
