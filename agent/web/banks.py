"""Banks on the page: versions, going back, and letting sound join; as `auscult bank` does it."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from http import HTTPStatus

from agent.bank.draft import draft_add
from agent.bank.grow import make_version
from agent.bank.pending import all_pending, mark_accepted, pending_sound
from agent.bank.place import Place, place_of_machine
from agent.bank.probation import known_alarms
from agent.bank.sound import Recording, embed_sound, find_sound
from agent.core.errors import AuscultError
from agent.core.json_request import ApiError
from agent.core.text import plural
from agent.web.backend import Backend
from agent.web.collect_models import Bank, BankAdd, BankJob, BankUse, BankVersion, PendingAlarm
from agent.web.endpoint import Asked, Endpoint
from agent.web.files import session_named
from agent.web.now import known_machine

log = logging.getLogger(__name__)

_NICENESS = 10


class BankDesk:
    """Changes banks, one at a time, in a thread that yields to scoring.

    The agent takes the version in use up by itself, tries it, and goes back if it fails.

    Args:
        backend: The agent.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._lock = threading.Lock()
        self._jobs: dict[str, BankJob] = {}
        self._thread: threading.Thread | None = None

    def endpoints(self) -> Sequence[Endpoint]:
        """Of banks."""
        told = partial(Endpoint, answer=Bank)
        return (
            told("GET", "/banks/{machine}", self._show, "Versions of a machine's bank"),
            told("POST", "/banks/{machine}/use", self._use, "Use a version", body=BankUse),
            told("POST", "/banks/{machine}/rollback", self._rollback,
                 "Go back to what the version in use was made of"),
            told("POST", "/banks/{machine}/add", self._add,
                 "Let sessions and answered alarms join, as a new version; `job` says how it goes",
                 body=BankAdd),
        )  # fmt: skip

    def _show(self, asked: Asked) -> Bank:
        return self._bank(known_machine(self._backend, asked))

    def _use(self, asked: Asked) -> Bank:
        machine = known_machine(self._backend, asked)
        with self._alone(), self._place(machine, current=False) as place:
            place.versions.use(asked.body.version)
            place.follow()
        log.info("%s: version %d was chosen on the page", machine, asked.body.version)
        return self._bank(machine)

    def _rollback(self, asked: Asked) -> Bank:
        machine = known_machine(self._backend, asked)
        with self._alone(), self._place(machine, current=False) as place:
            number = place.versions.rollback()
            place.follow()
        log.info("%s: gone back to version %d on the page", machine, number)
        return self._bank(machine)

    def _add(self, asked: Asked) -> Bank:
        machine, body = known_machine(self._backend, asked), asked.body
        if not body.sessions and not body.alarms:
            raise ApiError(HTTPStatus.UNPROCESSABLE_ENTITY, "name sessions or alarms to add")
        root = self._backend.config.state_path / "collected"
        folders = [session_named(root, machine, name).folder for name in body.sessions]
        with self._place(machine, current=False) as place:
            sound = [pending_sound(place.evidence, alarm) for alarm in body.alarms]
        sound += find_sound(folders)
        sessions, alarms = (
            plural(len(body.sessions), "session"),
            plural(len(body.alarms), "alarm"),
        )
        doing = f"adding {sessions} and {alarms}"
        with self._alone():
            self._jobs[machine] = BankJob(machine=machine, doing=doing, state="working", text="")
            self._thread = threading.Thread(
                target=self._work, args=(machine, doing, body, sound), name="web-bank", daemon=True
            )
            self._thread.start()
        return self._bank(machine)

    def _work(self, machine: str, doing: str, body: BankAdd, sound: list[Recording]) -> None:
        with contextlib.suppress(OSError, AttributeError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        try:
            text, state = self._grow(machine, body, sound), "done"
        except AuscultError as fault:
            text, state = str(fault), "refused"
        except Exception:
            log.exception("%s: bank", machine)
            text, state = "it failed; see the agent's log", "refused"
        log.info("%s: %s: %s: %s", machine, doing, state, text)
        self._jobs[machine] = BankJob.model_validate(
            {"machine": machine, "doing": doing, "state": state, "text": text}
        )

    def _grow(self, machine: str, body: BankAdd, sound: list[Recording]) -> str:
        with self._place(machine) as place:
            healthy = embed_sound([one for one in sound if one.label == "healthy"], place.bundle)
            quiet = embed_sound([one for one in sound if one.label != "healthy"], place.bundle)
            alarms, _ = known_alarms(place.evidence, place.bundle)
            report = make_version(
                place.bundle,
                place.versions,
                draft_add(place.bundle, healthy, quiet),
                alarms=alarms,
                forced=body.force,
                sign=place.sign,
            )
            place.use_grown(report.version)
            place.versions.tidy()
            for alarm in body.alarms:
                mark_accepted(place.evidence, alarm, report.version)
        left_out = dict.fromkeys(healthy.left_out() + quiet.left_out())
        return (
            f"version {report.version}: {plural(report.rows, 'row')} ({report.added} added), "
            f"raw threshold {report.before.value:.4g} -> {report.after.value:.4g}"
            + "".join(f"; {line}" for line in left_out)
            + "".join(f"; {note}" for note in report.notes)
        )

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Nobody else changes a bank meanwhile.

        Raises:
            ApiError: Somebody does.
        """
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                raise ApiError(HTTPStatus.CONFLICT, "a bank is being changed; wait for its end")
            yield

    def _place(self, machine: str, *, current: bool = True) -> Place:
        return place_of_machine(self._backend.config, machine, None, None, current=current)

    def _bank(self, machine: str) -> Bank:
        with self._place(machine, current=False) as place:
            try:
                waiting = all_pending(place.evidence)
            except AuscultError as fault:
                log.debug("%s", fault)
                waiting = []
            versions = place.versions.all()
            return Bank(
                machine=machine,
                bundle=str(place.versions.original),
                versions=[
                    BankVersion(
                        version=one.number,
                        created=None if one.manifest is None else one.manifest.created,
                        threshold=None if one.manifest is None else one.manifest.threshold.value,
                        change="cannot be read" if one.manifest is None
                        else one.manifest.growth.change if one.manifest.growth else "as exported",
                        chosen=one.current,
                    )
                    for one in versions
                ],
                pending=[
                    PendingAlarm(alarm_id=record.alarm_id, raised=record.raised, by=said.by,
                                 comment=said.comment)
                    for record, said in waiting
                ],
                job=self._jobs.get(machine),
                report=next(
                    (one.manifest.report for one in versions if one.manifest is not None), None
                ),
            )  # fmt: skip
