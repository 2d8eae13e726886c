"""A machine's commissioning while the agent runs: what was heard, would be alarms, going live."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from agent.commission.memory import (
    CommissionMemory,
    Heard,
    WouldBe,
    commission_file,
    commission_state,
)
from agent.commission.place import BLOCK_SECONDS, place_threshold
from agent.config.commission import CommissionConfig
from agent.core.errors import AuscultError
from agent.core.records import Decision, EventKind, Level, MachineState
from agent.core.scale import Scale
from agent.core.text import plural
from agent.deploy.load import Bundle
from agent.evidence.record import alarm_folder, read_feedback
from agent.level.bands import FEWEST

log = logging.getLogger(__name__)

Answer = Literal["healthy", "fault", "open"]
_ANSWERS: dict[str, Answer] = {"normal": "healthy", "anomalous": "fault"}
_SAVE_SECONDS = 300.0
# What led to a would-be alarm is of it too, seconds.
_BEFORE_SECONDS = 60.0
# A bound for file and memory: three days at a window of 10 s.
_MOST_HEARD = 25_920
_MOST_ALARMS = 1000
_WAITS = (
    "another microphone may hang here than in training: answer the would-be alarms, and where they "
    "were healthy what it does is taken off"
)
# Ten minutes of running at windows of 10 s.
_MICROPHONE_WINDOWS = 60


@dataclass(frozen=True, slots=True)
class Said:
    """A would-be alarm and what people said of it."""

    alarm: WouldBe
    answer: Answer


class Commission:
    """One machine's. Any thread.

    Args:
        machine: The machine.
        config: How it is commissioned.
        state: The state directory.
        tell: Told when it begins to listen in shadow and when it goes live (`shadow`, `live`), in
            words.
    """

    def __init__(
        self,
        machine: str,
        config: CommissionConfig,
        state: Path,
        tell: Callable[[str, str], None],
    ) -> None:
        self.machine, self.config = machine, config
        self._path = commission_file(state, machine)
        self._file = commission_state(self._path)
        self._evidence = state / "evidence"
        self._tell = tell
        self._lock = threading.RLock()
        self._memory = self._file.load_or_new()
        self._saved = time.monotonic()
        self._last: float | None = None  # end of the latest window, on its run clock
        self._since = 0.0  # running sound since a score was kept, seconds
        self._window_seconds = 10.0
        self._waits = ""  # what keeps another microphone from being taken off, in words
        #: Why it may not be this machine's bundle; then it does not go live by itself.
        self.doubt = ""
        self._wanted: tuple[str, str] | None = None  # going live, or beginning anew, and by whom

    @property
    def listening(self) -> bool:
        """Whether it listens in shadow."""
        return self._memory.live_wall is None

    @property
    def heard_seconds(self) -> float:
        """Running sound that was judged in shadow."""
        return self._memory.heard_seconds

    def begin(self, bundle: Bundle) -> None:
        """Begin, unless it has begun already."""
        with self._lock:
            self._use(bundle)
            if self._memory.began_wall is not None:
                return
            self._update(began_wall=time.time())
            self._save()
        hours = self.config.running_hours
        self._tell("shadow", f"listens in shadow for {hours:g} hours of running; no alarm is told")

    def threshold(self, bundle: Bundle) -> float | None:
        """The threshold of the place, of a bundle that is live with one; None: the bundle's own."""
        memory = self._memory
        live = memory.live_wall is not None and memory.digest == bundle.manifest.digest
        return memory.threshold if live else None

    def take(self, decision: Decision, bundle: Bundle, scale: Scale) -> bool:
        """Take what would have been decided; whether it has gone live with that.

        Args:
            decision: What would have been told.
            bundle: What it was judged with.
            scale: What people see of its scores.
        """
        with self._lock:
            if not self.listening:
                return False
            self._use(bundle)
            self._hear(decision)
            for event in decision.events:
                if event.kind is EventKind.RAISED:
                    score = None if event.score is None else scale.of(event.score)
                    self._would(WouldBe(alarm_id=event.alarm_id, wall=event.wall, score=score))
            self._read_ask()
            if self._wanted is None and self._due():
                self._wanted = ("live", f"after {self.config.running_hours:g} hours of running")
            if time.monotonic() - self._saved > _SAVE_SECONDS:
                self._save()
            wanted, self._wanted = self._wanted, None
            if wanted is None:
                return False
            if wanted[0] == "again":
                # What is taken off the microphone goes on: it is no matter of the machine.
                found = self._memory.microphone
                self._memory = CommissionMemory(began_wall=time.time(), microphone=found)
                self._use(bundle)
                self._save()
                return False
            how = self._go_live(bundle, scale, wanted[1])
        self._tell("live", how)
        return True

    @property
    def asks_microphone(self) -> bool:
        """Whether it is still to be found out whether another microphone hangs here."""
        wanted = self.config.microphone == "equalise"
        return wanted and self.listening and not self._memory.microphone

    @property
    def microphone_windows(self) -> int:
        """How many windows tell that: as many as a short commissioning has, sixty at most."""
        with self._lock:
            windows = self.config.running_hours * 3600.0 / max(self._window_seconds, 1e-9)
        return int(min(max(windows / 4, FEWEST), _MICROPHONE_WINDOWS))

    def may_equalise(self) -> bool:
        """Whether the machine is known to be well: no would-be alarm, or answers that say so.

        What another microphone does and what a fault does cannot be told apart by sound alone.
        """
        well = not self.said() or self._called_well()
        self._waits = "" if well else _WAITS
        return well

    def microphone_learnt(self, how: str) -> None:
        """It is known; what was scored before says nothing of what comes.

        Args:
            how: What was found, in words.
        """
        with self._lock:
            self._waits = ""
            self._update(microphone=how, heard=())
            self._save()
        log.info("%s: commissioning: %s", self.machine, how)

    def ask(self, action: Literal["live", "again"], by: str) -> None:
        """Go live, or begin anew, with the next window; `again` of one that is live too.

        Raises:
            AuscultError: It is live already.
        """
        with self._lock:
            if action == "live" and not self.listening:
                raise AuscultError(f"{self.machine} is live already")
            if action == "again" and not self.listening:
                raise AuscultError(
                    f"{self.machine} is live: to commission it anew takes a restart",
                    remedy="`auscult commission --again`, then restart the agent.",
                )
            self._wanted = (action, by)

    def said(self) -> list[Said]:
        """What would have been alarms, the oldest first, with what people said of them."""
        return answered(self._evidence, self.machine, self._memory)

    def words(self) -> str:
        """How it stands, for people; empty once it is live."""
        if not self.listening:
            return ""
        text = describe(self.said(), self._memory, self.config)
        blocked = f"it does not go live by itself: {self.doubt}" if self._doubted() else ""
        return "; ".join(one for one in (text, self._waits, blocked) if one)

    def close(self) -> None:
        """Save what was heard."""
        with self._lock:
            if self.listening and self._memory.began_wall is not None:
                self._save()

    def _due(self) -> bool:
        hours = self._memory.heard_seconds / 3600.0
        due = self.config.go_live == "auto" and hours >= self.config.running_hours
        return due and not self._doubted()

    def _doubted(self) -> bool:
        """Whether it may be another machine's bundle; what people say of alarms goes before."""
        return bool(self.doubt) and not self._called_well()

    def _called_well(self) -> bool:
        answers = {one.answer for one in self.said()}
        return "healthy" in answers and "fault" not in answers

    def _use(self, bundle: Bundle) -> None:
        """Scores of another bundle, or of a grown bank, are no measure of this one's."""
        self._window_seconds = bundle.manifest.window_seconds
        if self.listening and self._memory.digest != bundle.manifest.digest:
            self._update(digest=bundle.manifest.digest, heard=())

    def _hear(self, decision: Decision) -> None:
        window, value = decision.score.window, decision.score.value
        muted = decision.status is not None and decision.status.muted_until_wall is not None
        if value is None or decision.held or decision.state is not MachineState.RUNNING or muted:
            return
        end = window.end_monotonic if window.run_clock is None else window.run_clock
        fresh = window.seconds if self._last is None else min(max(end - self._last, 0.0), 60.0)
        self._last = end
        total = self._memory.heard_seconds + fresh
        self._since += fresh
        changes: dict[str, object] = {"heard_seconds": total}
        if self._since >= window.seconds - 1e-6 and len(self._memory.heard) < _MOST_HEARD:
            self._since = 0.0
            alarm = decision.alarm_id if decision.level is Level.ALARM else ""
            heard = Heard(block=int(total // BLOCK_SECONDS), score=value, alarm_id=alarm)
            changes["heard"] = (*self._memory.heard, heard)
        self._update(**changes)

    def _would(self, alarm: WouldBe) -> None:
        count = max(1, round(_BEFORE_SECONDS / 10.0))
        heard = self._memory.heard
        led = tuple(
            one if one.alarm_id else one.model_copy(update={"alarm_id": alarm.alarm_id})
            for one in heard[-count:]
        )
        self._update(
            heard=(*heard[:-count], *led), alarms=(*self._memory.alarms, alarm)[-_MOST_ALARMS:]
        )
        self._save()
        log.info("%s: would be an alarm (commissioning): %s", self.machine, alarm.alarm_id)

    def _read_ask(self) -> None:
        """What `auscult commission` asks of a running agent."""
        place = ask_file(self._path)
        try:
            action, _, by = place.read_text().strip().partition(" ")
            place.unlink()
        except OSError:
            return
        if action in {"live", "again"}:
            self._wanted = (action, by or "auscult commission")

    def _go_live(self, bundle: Bundle, scale: Scale, why: str) -> str:
        said = self.said()
        threshold, how = None, "with the bundle's own threshold"
        if self.config.threshold == "place":
            healthy = {one.alarm.alarm_id for one in said if one.answer == "healthy"}
            found = place_threshold(self._memory.heard, healthy, bundle.manifest, scale)
            threshold, how = found.value, found.how
        counts = Counter(one.answer for one in said)
        text = (
            f"goes live ({why}): {how}; {plural(len(said), 'would-be alarm')}, "
            f"{counts['healthy']} called healthy, {counts['fault']} a fault, {counts['open']} "
            "not answered"
        )
        self._update(live_wall=time.time(), threshold=threshold, how=text, heard=())
        self._save()
        log.info("%s: %s", self.machine, text)
        return text

    def _update(self, **changes: object) -> None:
        self._memory = self._memory.model_copy(update=changes)

    def _save(self) -> None:
        self._saved = time.monotonic()
        self._file.save(self._memory)


def ask_file(path: Path) -> Path:
    """Where a running agent is asked for something, beside what it keeps."""
    return path.with_suffix(".ask")


def answered(evidence: Path, machine: str, memory: CommissionMemory) -> list[Said]:
    """Would-be alarms with what people said of them.

    Args:
        evidence: `evidence/` in the state directory.
        machine: The machine.
        memory: Its commissioning.
    """
    found = []
    for alarm in memory.alarms:
        answer: Answer = "open"
        try:
            feedback = read_feedback(alarm_folder(evidence, machine, alarm.alarm_id))
        except AuscultError:
            feedback = None
        if feedback is not None:
            answer = _ANSWERS[feedback.verdict]
        found.append(Said(alarm, answer))
    return found


def describe(said: list[Said], memory: CommissionMemory, config: CommissionConfig) -> str:
    """How commissioning stands."""
    counts = Counter(one.answer for one in said)
    hours = memory.heard_seconds / 3600.0
    text = (
        f"commissioning: {hours:.1f} of {config.running_hours:g} hours of running heard, "
        f"{plural(len(said), 'would-be alarm')}"
    )
    if said:
        text += (
            f" ({counts['healthy']} called healthy, {counts['fault']} a fault, "
            f"{counts['open']} not answered)"
        )
    if hours >= config.running_hours:
        text += "; it may go live"
    if memory.microphone:
        text += f"; {memory.microphone}"
    return text
