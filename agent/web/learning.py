"""Learning on the page: `auscult learn` in a process of its own that yields to listening.

The bundle is put where the machine's is taken up, by one rename; the running agent tries it and
takes it up between two windows, with commissioning where that is configured.
"""

from __future__ import annotations

import contextlib
import json
import logging
import subprocess
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from http import HTTPStatus
from typing import Any

from starlette.responses import Response

from agent.collect.reports import PAGE, report_folder
from agent.core.child import running
from agent.core.json_request import ApiError
from agent.deploy.device_key import ACCEPT_LEARNT
from agent.web.backend import Backend
from agent.web.endpoint import Asked, Endpoint
from agent.web.files import file_answer
from agent.web.learning_models import Learning, LearnOrder
from agent.web.now import known_machine
from agent.web.roles import PageRole

log = logging.getLogger(__name__)

_TEXT, _NOTES = 2000, 12
# A report has all that it needs inside, and gets at nothing of the page that it was opened from.
_ALONE = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; "
    "style-src 'unsafe-inline'; img-src data:; media-src data:"
)


class LearnDesk:
    """Learns one machine at a time from what was collected of it.

    Args:
        backend: The agent.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._lock = threading.Lock()
        self._known: dict[str, Learning] = {}
        self._child: subprocess.Popen[str] | None = None

    def endpoints(self) -> Sequence[Endpoint]:
        """Of learning."""
        told = partial(Endpoint, answer=Learning)
        return (
            told("GET", "/machines/{machine}/learning", self._show,
                 "How far learning from the collected sound is"),
            told("POST", "/machines/{machine}/learning", self._begin,
                 "Learn a bundle from the collected sound, on this device, and take it up",
                 body=LearnOrder),
            told("GET", "/machines/{machine}/report", self._report,
                 "The report of what was learnt last, as a page of its own", answer="text/html",
                 asks=PageRole.OPERATOR),
        )  # fmt: skip

    def _show(self, asked: Asked) -> Learning:
        machine = known_machine(self._backend, asked)
        return self._known.get(machine, Learning(machine=machine))

    def _report(self, asked: Asked) -> Response:
        machine = known_machine(self._backend, asked)
        page = report_folder(self._backend.config.state_path, machine) / PAGE
        answer = file_answer(page, "text/html; charset=utf-8")
        answer.headers["content-security-policy"] = _ALONE
        return answer

    def _begin(self, asked: Asked) -> Learning:
        machine, config = known_machine(self._backend, asked), self._backend.config
        own = config.machine(machine)
        if config.bundles.public_key is not None and not config.bundles.accept_learnt:
            raise ApiError(
                HTTPStatus.CONFLICT,
                f"this device takes only bundles that the site signed. {ACCEPT_LEARNT}",
            )
        with self._lock:
            if self._child is not None and self._child.poll() is None:
                raise ApiError(
                    HTTPStatus.CONFLICT, "a machine is being learnt already; wait for it"
                )
            begun = Learning(
                machine=machine, state="running", step="starting",
                commissioned=own.commission is not None,
            )  # fmt: skip
            child = self._child = subprocess.Popen(  # noqa: S603 - our own code
                running("agent.collect.learning", "learn_here"),
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            )  # fmt: skip
            self._known[machine] = begun
        task = {
            "state": str(config.state_path.absolute()),
            "machine": machine,
            "out": str(config.bundle_of(own).absolute()),
            "untypical": asked.body.untypical,
            # A page's report holds no sound where the device keeps none.
            "sound": config.evidence.sound != "none",
            "signed": config.bundles.public_key is not None,
        }
        threading.Thread(
            target=self._follow, args=(begun, child, task), name="learn", daemon=True
        ).start()
        log.info("%s: learning from what was collected was begun on the page", machine)
        return begun

    def _follow(
        self, begun: Learning, child: subprocess.Popen[str], task: Mapping[str, Any]
    ) -> None:
        """Hear how far the child is, until it ends; it ends when this process does."""
        assert child.stdin is not None
        assert child.stdout is not None
        last: dict[str, Any] = {}
        with contextlib.suppress(OSError):
            child.stdin.write(json.dumps(task) + "\n")
            child.stdin.flush()
            for line in child.stdout:
                last = json.loads(line)
                if "step" in last:
                    self._known[begun.machine] = begun.model_copy(update=last)
        code = child.wait()
        with contextlib.suppress(OSError):
            child.stdin.close()
        self._known[begun.machine] = _outcome(begun, last, code)


def _outcome(begun: Learning, last: Mapping[str, Any], code: int) -> Learning:
    """What is told at the end."""
    machine = begun.machine
    if "report" in last:
        report = last["report"]
        verdict = report["healthy"]["verdict"]["text"] if report["healthy"] else ""
        log.info("%s: learnt from what was collected: bundle %s", machine, report["digest"][:12])
        update = {
            "state": "done", "step": "", "text": verdict[:_TEXT],
            "notes": [line[:_TEXT] for line in last["told"][:_NOTES]],
        }  # fmt: skip
    else:
        text = str(last.get("failed") or f"it ended with code {code}, for want of memory perhaps")
        log.warning("%s: nothing was learnt: %s", machine, text)
        update = {"state": "failed", "step": "", "text": text[:_TEXT]}
    return begun.model_copy(update=update)
