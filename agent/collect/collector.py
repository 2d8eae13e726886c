"""Collects on the running agent: by command, by order of `auscult collect`, and by schedule."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from agent.collect.recording import Recording, discard_empty
from agent.collect.schedule import Schedule, Schedules
from agent.collect.session import summary
from agent.collect.spool import CollectAnswer, CollectOrder, Spool
from agent.collect.tap import CollectTap
from agent.collect.upkeep import CollectedUpkeep
from agent.config.collect import CollectConfig
from agent.core.clock import WALL_CLOCK, ClockQuality
from agent.core.errors import AuscultError
from agent.core.level_change import Points
from agent.core.text import plural
from agent.request.commands import Handler

log = logging.getLogger(__name__)

_STEP_SECONDS = 0.5
_DAYS = 7  # of a schedule that does not say
_SCHEDULE_SECONDS = 20.0
# Sound that comes so much more slowly than time passes will not come any more.
_PATIENCE, _GRACE_SECONDS = 1.5, 60.0


class Collector:
    """Runs sessions for all machines, one at a time each.

    Args:
        state: The state directory.
        device: This device's name.
        machines: Those that can be collected from.
        config: Segment length and disk limit.
        clock: Tells how good the clock is.
        banks: By a machine's name, the bundles whose banks may hold its sessions.
        offset: By a machine's name, what is taken off its sound before it is judged, dB, and off
            its bands, (Hz, dB).
    """

    def __init__(
        self,
        state: Path,
        device: str,
        machines: Sequence[str],
        config: CollectConfig,
        clock: Callable[[], ClockQuality] = lambda: WALL_CLOCK.quality,
        *,
        banks: Callable[[str], Sequence[Path]] = lambda _: (),
        offset: Callable[[str], tuple[float, Points]] = lambda _: (0.0, ()),
    ) -> None:
        self._offset = offset
        self.observers: Mapping[str, CollectTap] = {name: CollectTap() for name in machines}
        self._root = state / "collected"
        self._device = device
        self._config = config
        self._clock = clock
        self._spool = Spool(state / "collect")
        self._schedules = Schedules(state / "collect" / "schedules.json")
        self.upkeep = CollectedUpkeep(self._root, config, banks, clock)
        self._lock = threading.Lock()
        self._deadlines: dict[str, float] = {}
        self._names: dict[str, str] = {}  # of the order answered, by machine
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._told = ""
        self._due = 0.0  # monotonic, the next look at the schedules
        self._serving = False  # orders and schedules are ours, no other agent's
        self._why_not = ""

    def start(self) -> None:
        """Begin. Never raises: an agent that cannot collect still listens."""
        self._serving = self._claim()
        self._thread = threading.Thread(target=self._run, name="collector", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End every session; what was heard is kept. Idempotent."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(2.0)
            self._thread = None
        for machine, tap in self.observers.items():
            recording, tap.recording = tap.recording, None
            if recording is not None:
                recording.stop("the agent was stopped")
                self._close(machine, recording)
        self._spool.leave()

    def begin(self, order: CollectOrder) -> Recording:
        """Begin a session.

        Raises:
            AuscultError: The machine is unknown or being collected from, or the disk is too full.
        """
        tap = self._known(order.machine)
        with self._lock:
            if tap.recording is not None:
                if not tap.recording.done:
                    raise AuscultError(
                        f"'{order.machine}' is being collected from already",
                        remedy="Ask again later.",
                    )
                # It ended just now: whoever asked for it is still to be told.
                self._close(order.machine, tap.recording)
            recording = Recording(
                self._root,
                self._device,
                order,
                self._config,
                self._clock,
                partial(self._offset, order.machine),
            )
            recording.open()
            recording.start()
            limit = _PATIENCE * order.seconds + _GRACE_SECONDS
            self._deadlines[order.machine] = time.monotonic() + limit
            tap.recording = recording
            doubt = tap.remark()
        log.info(
            "%s: collecting %.0f s of %s sound (%s)",
            order.machine, order.seconds, order.label, recording.session,
        )  # fmt: skip
        if doubt:
            log.warning("%s: %s", order.machine, doubt)
        return recording

    def handlers(self) -> Mapping[str, Handler]:
        """Commands carried out here."""
        return {"collect": self.handle, "collect_cancel": self.handle_cancel}

    def handle(self, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        """Carry out the `collect` command; its fields were checked.

        Returns:
            The session's name, and where it is recorded, below the state directory, with a
            `warning` where healthy sound is asked for while an alarm stands; or the name of the
            schedule, its time, and on how many days.

        Raises:
            AuscultError: As `begin`; or the schedule cannot be kept.
        """
        order = CollectOrder(
            machine=fields["machine"],
            label=fields["label"],
            seconds=float(fields["seconds"]),
            by=str(fields.get("operator", "")),
            comment=str(fields.get("comment", "")),
        )
        if at := fields.get("schedule"):
            self._known(order.machine)
            entry = self._schedules.add(at, fields.get("times") or _DAYS, order)
            log.info("%s: schedule %s: %s", order.machine, entry.name, _words(entry))
            return {"schedule": entry.name, "at": entry.at, "times": entry.times}
        recording = self.begin(order)
        place = recording.folder.relative_to(self._root.parent)
        answer = {"session": recording.session, "folder": place.as_posix()}
        doubt = self.observers[order.machine].remark()
        return {**answer, "warning": doubt} if doubt else answer

    def handle_cancel(self, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        """Carry out the `collect_cancel` command.

        Returns:
            The schedule taken back, or the session ended.

        Raises:
            AuscultError: There is no such schedule, or nothing is being recorded.
        """
        machine, by = str(fields["machine"]), str(fields.get("operator", ""))
        if name := fields.get("schedule"):
            self._schedules.cancel(name, machine=machine)
            log.info("%s: schedule %s was cancelled", machine, name)
            return {"schedule": name}
        recording = self._known(machine).recording
        if recording is None or recording.done:
            raise AuscultError(
                f"'{machine}' is not being collected from",
                remedy="Name the schedule to take one back.",
            )
        recording.stop(f"stopped by {by}" if by else "stopped")
        return {"session": recording.session}

    def _known(self, machine: str) -> CollectTap:
        tap = self.observers.get(machine)
        if tap is None:
            raise AuscultError(
                f"there is no machine '{machine}'",
                remedy=f"This agent listens to {', '.join(self.observers)}.",
            )
        return tap

    def _run(self) -> None:
        while not self._stop.wait(_STEP_SECONDS):
            self.step()

    def step(self) -> None:
        try:
            self._reap()
            due = time.monotonic() >= self._due
            if due:
                self._due = time.monotonic() + _SCHEDULE_SECONDS
                self._serving = self._serving or self._claim()
            if self._serving:
                self._serve_orders()
            self.upkeep.turn(self._busy())
            if due and self._serving:
                self._serve_schedules()
                self._told = ""
        except AuscultError as fault:
            self._tell_once(str(fault))
        except Exception:
            log.exception("collector")

    def _claim(self) -> bool:
        """Take orders and schedules from now on, unless another agent does; tells why not, once."""
        try:
            if self._spool.serve():
                return True
            why = "another agent uses it"
        except OSError as fault:
            why = fault.strerror or str(fault)
        if why != self._why_not:
            self._why_not = why
            log.warning(
                "%s: no orders are taken and no schedules kept to: %s", self._spool.root, why
            )
        return False

    def _busy(self) -> list[Path]:
        """Folders being written."""
        recordings = [tap.recording for tap in self.observers.values()]
        return [recording.folder for recording in recordings if recording is not None]

    def _tell_once(self, text: str) -> None:
        if text != self._told:
            log.warning("collect: %s", text)
            self._told = text

    def _serve_orders(self) -> None:
        for name, order in self._spool.orders():
            self._spool.answer(name, self._obey(name, order))

    def _obey(self, name: str, order: CollectOrder | AuscultError) -> CollectAnswer:
        try:
            if isinstance(order, AuscultError):
                raise order
            recording = self.begin(order)
        except AuscultError as fault:
            return CollectAnswer(status="refused", message=str(fault))
        self._names[order.machine] = name
        doubt = self.observers[order.machine].remark()
        return CollectAnswer(status="recording", message=doubt, folder=str(recording.folder))

    def _serve_schedules(self) -> None:
        for entry in self._schedules.due(datetime.now().astimezone()):
            self._keep_to(entry)

    def _keep_to(self, entry: Schedule) -> None:
        try:
            self.begin(
                entry.order.model_copy(update={"by": f"schedule {entry.name} at {entry.at}"})
            )
        except AuscultError as fault:
            log.warning("schedule %s: %s", entry.name, fault)

    def _reap(self) -> None:
        for machine, tap in self.observers.items():
            # Another may begin as soon as one is done.
            with self._lock:
                recording = tap.recording
                if recording is None:
                    continue
                if not recording.done and time.monotonic() > self._deadlines[machine]:
                    recording.stop("the microphone gave too little sound")
                if recording.done:
                    tap.recording = None
                    self._close(machine, recording)

    def _close(self, machine: str, recording: Recording) -> None:
        session = recording.result()
        text = summary(session)
        empty = discard_empty(recording)
        self.upkeep.hasten()
        log.log(
            logging.WARNING if empty or session.ended or session.notes else logging.INFO,
            "%s: collected %s sound: %s", machine, session.label, text,
        )  # fmt: skip
        name = self._names.pop(machine, None)
        if name is not None:
            answer = CollectAnswer(
                status="refused" if empty else "done",
                message=text,
                folder="" if empty else str(recording.folder),
            )
            try:
                self._spool.answer(name, answer)
            except AuscultError as fault:
                log.warning("collect: %s", fault)


def _words(entry: Schedule) -> str:
    order = entry.order
    return (
        f"{order.seconds:g} s of {order.label} sound at {entry.at} on {plural(entry.times, 'day')}"
    )
