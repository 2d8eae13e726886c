"""Bundles that arrive by the page: in slices, verified as any other, compared, used on a click.

What has arrived lies in `uploads/<machine>` of the state directory, for the agent's user alone, and
is gone on with after a broken line or a restart. Nothing of it is opened before all is there; then
it is verified and tried as what the agent takes up is, its signature where one is asked for
included. It takes the place of the machine's bundle only when somebody has seen it beside that.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import os
import shutil
import threading
import zlib
from collections.abc import Sequence
from functools import partial
from http import HTTPStatus
from pathlib import Path

from agent.bundle.manifest import MANIFEST
from agent.bundle.seal import new_bundle
from agent.core.errors import AuscultError
from agent.core.json_request import ApiError
from agent.core.storage import make_private, write_json
from agent.core.text import plural
from agent.deploy.trust import Opening, TrustedBundle
from agent.machine.settings import adapted, suits
from agent.web.backend import Backend
from agent.web.endpoint import Asked, Endpoint
from agent.web.now import known_machine
from agent.web.upload_models import SLICE_BYTES, Upload, UploadBegin, UploadSlice, UploadUse
from agent.web.uploaded import compared, heard_words

log = logging.getLogger(__name__)

_ORDER, _FILES = "upload.json", "bundle"
# Of the disk: what arrives, the copy that is verified, and what it replaces.
_COPIES, _SPARE = 3, 64 << 20
_HEARD_SECONDS = 60.0
_TEXT = 2000


class UploadDesk:
    """Takes bundles for machines, one a machine at a time.

    Args:
        backend: The agent.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._lock = threading.Lock()
        self._told: dict[str, Upload] = {}

    def endpoints(self) -> Sequence[Endpoint]:
        """Endpoints of an upload: begin, send a piece, look, use, and give up."""
        told, one = partial(Endpoint, answer=Upload), "/machines/{machine}/upload"
        return (
            told("GET", one, self._show, "How far the upload of a bundle is"),
            told("POST", one, self._begin, "Begin to upload a bundle, or go on", body=UploadBegin),
            told("POST", f"{one}/slice", self._slice, "A piece of a file of it, in order",
                 body=UploadSlice),
            told("POST", f"{one}/check", self._check,
                 "All is there: verify it, and compare it with the bundle in use"),
            told("POST", f"{one}/use", self._use,
                 "Put what was checked in the place of the machine's bundle", body=UploadUse),
            told("DELETE", one, self._discard, "Throw away what was uploaded"),
        )  # fmt: skip

    def _show(self, asked: Asked) -> Upload:
        return self._upload(known_machine(self._backend, asked))

    def _begin(self, asked: Asked) -> Upload:
        machine, body = known_machine(self._backend, asked), asked.body
        order = {"files": body.files, "manifest_crc32": body.manifest_crc32}
        total = sum(body.files.values())
        if MANIFEST not in body.files:
            raise ApiError(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                f"there is no {MANIFEST} among these files: choose the bundle's folder itself, "
                "as `auscult export` or `auscult learn` wrote it",
            )
        if total > self._limit():
            raise ApiError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"the bundle has {total / 1e6:.0f} MB, and {self._limit() / 1e6:.0f} are taken "
                "here (`web.upload_mb`)",
            )
        with self._lock:
            self._not_while_checking(machine)
            home = self._home(machine)
            if self._order(machine) != order:
                shutil.rmtree(home, ignore_errors=True)
                try:
                    make_private(home / _FILES)
                    free = shutil.disk_usage(home).free
                except OSError as fault:
                    raise ApiError(
                        HTTPStatus.INSUFFICIENT_STORAGE, f"nothing can be kept here: {fault}"
                    ) from fault
                if free < _COPIES * total + _SPARE:
                    shutil.rmtree(home, ignore_errors=True)
                    raise ApiError(
                        HTTPStatus.INSUFFICIENT_STORAGE,
                        f"the disk has {free / 1e6:.0f} MB free, too few for a bundle of "
                        f"{total / 1e6:.0f} MB and the copies that verifying it takes",
                    )
                write_json(home / _ORDER, order)
            self._told.pop(machine, None)
        return self._upload(machine)

    def _slice(self, asked: Asked) -> Upload:
        machine, body = known_machine(self._backend, asked), asked.body
        try:
            data = base64.b64decode(body.data, validate=True)
        except (binascii.Error, ValueError) as fault:
            raise ApiError(HTTPStatus.UNPROCESSABLE_ENTITY, "the piece is not base64") from fault
        if len(data) > SLICE_BYTES or zlib.crc32(data) != body.crc32:
            raise ApiError(
                HTTPStatus.UNPROCESSABLE_ENTITY, "the piece was altered on its way: send it again"
            )
        with self._lock:
            self._not_while_checking(machine)
            size = (self._order(machine) or {"files": {}})["files"].get(body.file)
            if size is None:
                raise ApiError(
                    HTTPStatus.CONFLICT, "no such file is being uploaded: begin the upload first"
                )
            path = self._home(machine) / _FILES / body.file
            there = path.stat().st_size if path.is_file() else 0
            if body.offset > there or body.offset + len(data) > size:
                raise ApiError(
                    HTTPStatus.CONFLICT,
                    f"{body.file}: {there} of {size} bytes are here; go on from there",
                )
            # A piece whose answer was lost is sent again.
            fresh = data[there - body.offset :]
            if fresh:
                try:
                    with path.open("ab") as file:
                        file.write(fresh)
                except OSError as fault:
                    raise ApiError(
                        HTTPStatus.INSUFFICIENT_STORAGE, f"{body.file}: {fault.strerror}"
                    ) from fault
        return self._upload(machine)

    def _check(self, asked: Asked) -> Upload:
        machine = known_machine(self._backend, asked)
        with self._lock:
            self._not_while_checking(machine)
            found = self._upload(machine)
            if not found.of or found.bytes < found.of:
                raise ApiError(
                    HTTPStatus.CONFLICT, f"{found.bytes} of {found.of} bytes are here: go on"
                )
            begun = self._told[machine] = found.model_copy(update={"state": "checking"})
        threading.Thread(target=self._verify, args=(machine,), name="upload", daemon=True).start()
        return begun

    def _verify(self, machine: str) -> None:
        """Open it as the agent would, and tell what it is."""
        found = self._upload(machine)
        try:
            told = self._verified(machine, found)
        except Exception as fault:  # whatever it is, the page waits for an answer
            if not isinstance(fault, AuscultError):
                log.exception("web: the bundle uploaded for %s", machine)
            log.warning("%s: the bundle that was uploaded is refused: %s", machine, fault)
            told = found.model_copy(update={"state": "refused", "text": str(fault)[:_TEXT]})
            shutil.rmtree(self._home(machine), ignore_errors=True)
        self._told[machine] = told

    def _verified(self, machine: str, found: Upload) -> Upload:
        config = self._backend.config
        own, folder = config.machine(machine), self._home(machine) / _FILES
        opening = Opening(
            config.inference, config.bundles.public_key, partial(suits, own),
            partial(adapted, own, config.state_path), config.bundles.trial_seconds,
            allow_older=config.bundles.allow_older, accept_learnt=config.bundles.accept_learnt,
        )  # fmt: skip
        trusted = TrustedBundle(folder, config.state_path, machine, opening)
        bundle = trusted.open_wanted()
        try:
            rows = compared(config.bundle_of(own), folder)
            heard = self._backend.recent(machine, _HEARD_SECONDS)
            words = "" if heard is None else heard_words(bundle, heard)
            manifest = bundle.manifest
        finally:
            bundle.close()
        notes = [*([f"doubt: {trusted.doubt}"] if trusted.doubt else []), *manifest.notes]
        return found.model_copy(
            update={
                "state": "checked", "digest": manifest.digest, "compared": tuple(rows),
                "text": words, "notes": tuple(note[:_TEXT] for note in notes[:12]),
            }
        )  # fmt: skip

    def _use(self, asked: Asked) -> Upload:
        machine, config = known_machine(self._backend, asked), self._backend.config
        with self._lock:
            found = self._told.get(machine, Upload(machine=machine))
            if found.state != "checked" or found.digest != asked.body.digest:
                raise ApiError(
                    HTTPStatus.CONFLICT, "that bundle is not here, or was not checked: check it"
                )
            place, home = config.bundle_at(machine), self._home(machine)
            with new_bundle(place) as draft:
                for path in (home / _FILES).iterdir():
                    shutil.copyfile(path, draft / path.name)
                    with (draft / path.name).open("rb") as file:
                        os.fsync(file.fileno())
            shutil.rmtree(home, ignore_errors=True)
            step = config.bundles.watch_seconds
            when = (
                f"It is taken up within {plural(round(max(1.0, step)), 'second')}, between two "
                "windows" if step else "It waits for the command `reload`"
            )  # fmt: skip
            if config.machine(machine).commission is not None:
                when += ", and listens in shadow first, as the configuration says"
            log.info("%s: bundle %s was uploaded on the page", machine, found.digest[:12])
            done = found.model_copy(update={"state": "used", "text": f"{when}.", "received": {}})
            self._told[machine] = done
        return done

    def _discard(self, asked: Asked) -> Upload:
        machine = known_machine(self._backend, asked)
        with self._lock:
            self._not_while_checking(machine)
            shutil.rmtree(self._home(machine), ignore_errors=True)
            self._told.pop(machine, None)
        return self._upload(machine)

    def _not_while_checking(self, machine: str) -> None:
        if self._told.get(machine, Upload(machine=machine)).state == "checking":
            raise ApiError(HTTPStatus.CONFLICT, "the bundle that is here is being checked; wait")

    def _home(self, machine: str) -> Path:
        return self._backend.config.state_path / "uploads" / machine

    def _limit(self) -> int:
        return round(self._backend.config.web.upload_mb * 1e6)

    def _order(self, machine: str) -> dict[str, dict[str, int]] | None:
        """What was begun; None without, or where it is damaged."""
        try:
            text = (self._home(machine) / _ORDER).read_text(encoding="utf-8")
            begun = UploadBegin.model_validate_json(text)
        except (OSError, ValueError):
            return None
        return json.loads(begun.model_dump_json())  # type: ignore[no-any-return]

    def _upload(self, machine: str) -> Upload:
        known = self._told.get(machine)
        if known is not None:
            return known
        order, limit = self._order(machine), self._limit()
        if order is None:
            return Upload(machine=machine, limit_bytes=limit)
        folder = self._home(machine) / _FILES
        received = {
            name: (folder / name).stat().st_size if (folder / name).is_file() else 0
            for name in order["files"]
        }
        return Upload(
            machine=machine, state="receiving", received=received, bytes=sum(received.values()),
            of=sum(order["files"].values()), limit_bytes=limit,
        )  # fmt: skip
