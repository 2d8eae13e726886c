"""Notifies people of what is told: durably, at a bounded pace, and of what nobody acknowledges."""

from __future__ import annotations

import importlib.util
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo

from agent.config.notify import NotifyConfig, addresses
from agent.core.errors import ConfigError
from agent.core.text import plural
from agent.notify.notice import Notice, answered, notice_of, together
from agent.notify.send import send
from agent.publish.mqtt_message import MqttMessage
from agent.publish.store import EventStore
from agent.publish.telling import Telling

log = logging.getLogger(__name__)

# What happens within so long is told in one message, seconds.
_GATHER_SECONDS = 3.0
_TURN_SECONDS = 30.0
_FIRST_WAIT, _LONGEST_WAIT = 30.0, 1800.0
# Older than this it is no news any more, seconds.
_STALE_SECONDS = 86_400.0
_MOST = 500
_STORE_BYTES = 5_000_000
_ESCALATION = "escalation"

Send = Callable[[Sequence[str], str, str], list[str]]


class NotificationPublisher:
    """A publisher that sends messages to people's addresses.

    What is to be told is on the disk first, and tried until each address took it, or a day has
    passed. More than `most_per_hour`, and what quiet hours hold back, is told together later.

    Args:
        config: To whom, of what, and when.
        device: This device's name.
        folder: Where it is kept until it is sent.
        send: Sends a message to addresses; by address, why it did not go.
        clock: Seconds since the epoch.
        monotonic: Seconds of a clock that is never set.
    """

    def __init__(
        self,
        config: NotifyConfig,
        device: str,
        folder: Path,
        send: Send = send,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._device = device
        self._send = send
        self._clock = clock
        self._monotonic = monotonic
        self._store = EventStore(folder, _STORE_BYTES)
        self._everybody: tuple[str, ...] = ()
        self._others: tuple[str, ...] = ()  # of an escalation
        self._missing: dict[str, frozenset[str]] = {}  # by notice, who has not taken it
        self._tokens = float(config.most_per_hour)
        self._counted = 0.0  # monotonic
        self._wait = 0.0
        self._not_before = 0.0  # monotonic
        self._trouble = ""
        self._lost = 0
        self._wake = threading.Event()
        self._ending = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Read the addresses and begin.

        Raises:
            ConfigError: They cannot be read, Apprise is not installed, or another agent uses the
                folder.
        """
        if importlib.util.find_spec("apprise") is None:
            raise ConfigError(
                "notify: Apprise is not installed",
                remedy="pip install 'auscult[notify]', or take the section out.",
            )
        self._everybody = read_addresses(self._config.urls_file)
        if self._config.escalation is not None:
            self._others = read_addresses(self._config.escalation.urls_file)
        self._store.start()
        self._counted = self._monotonic()
        self._thread = threading.Thread(target=self._run, name="notify", daemon=True)
        self._thread.start()

    def handle(self, telling: Telling) -> None:
        """Keep what is to be told; another thread tells it."""
        if alarm := answered(telling):
            self._store.delivered([_escalation_id(alarm)])
        notice = notice_of(telling)
        if notice is None:
            return
        if notice.occasion in self._config.occasions:
            self._keep(notice)
        escalation = self._config.escalation
        if escalation is not None and notice.occasion == "alarm":
            minutes = escalation.after_minutes
            self._keep(
                Notice(
                    _escalation_id(notice.alarm_id), notice.machine, _ESCALATION,
                    f"{notice.title}, not acknowledged for {minutes:g} minutes", notice.text,
                    notice.wall, notice.alarm_id, notice.zone, notice.wall + 60 * minutes,
                )
            )  # fmt: skip
        self._wake.set()

    def stop(self) -> None:
        """End; what was not sent is sent after the next start. Idempotent."""
        self._ending = True
        self._wake.set()
        if self._thread is not None:
            # A message under way may take longer: its process ends with it.
            self._thread.join(2.0)
            self._thread = None
            self._store.stop()

    def state(self) -> str:
        """What waits, and why."""
        parts = []
        if waiting := self._store.undelivered:
            parts.append(f"{plural(waiting, 'notification')} waiting")
        if self._trouble:
            parts.append(f"notifications do not go out: {self._trouble}")
        if self._lost:
            parts.append(f"{plural(self._lost, 'notification')} given up")
        return ", ".join(parts)

    def _keep(self, notice: Notice) -> None:
        self._store.add(MqttMessage("notify", notice.encode(), 1, retain=False, id=notice.id))

    def _run(self) -> None:
        while not self._ending:
            if self._wake.wait(_TURN_SECONDS) and not self._ending:
                self._wake.clear()
                time.sleep(_GATHER_SECONDS)
            try:
                self.turn()
            except Exception:
                log.exception("notifications: unexpected fault")

    def turn(self) -> None:
        """Send what is due, once."""
        now, tick = self._clock(), self._monotonic()
        self._tokens += (tick - self._counted) * self._config.most_per_hour / 3600
        self._tokens = min(self._tokens, float(self._config.most_per_hour))
        self._counted = tick
        waiting = self._fresh(self._waiting(), now)
        if tick >= self._not_before:
            due = [one for one in waiting if one.due <= now and not self._held(one, now)]
            for audience in dict.fromkeys(self._audience(one) for one in due):
                group = [one for one in due if self._audience(one) == audience]
                if self._tokens < 1 or self._ending:
                    break
                self._tokens -= 1
                self._tell(group, audience)
        self._store.settle()

    def _tell(self, group: list[Notice], audience: frozenset[str]) -> None:
        who = sorted(audience)
        title, text = together(group, self._device, self._config.page_url)
        failed = dict(zip(who, self._send(who, title, text), strict=True))
        missing = frozenset(one for one, why in failed.items() if why)
        for notice in group:
            self._missing[notice.id] = missing
        if not missing:
            self._done(one.id for one in group)
            self._trouble, self._wait, self._not_before = "", 0.0, 0.0
            return
        self._trouble = next(why for why in failed.values() if why)
        self._wait = min(max(2 * self._wait, _FIRST_WAIT), _LONGEST_WAIT)
        self._not_before = self._monotonic() + self._wait
        log.warning(
            "%s of %s did not go out (%s); tried again in %.0f s",
            plural(len(group), "notification"), plural(len(missing), "address", "addresses"),
            self._trouble, self._wait,
        )  # fmt: skip

    def _waiting(self) -> list[Notice]:
        found = []
        for stored in self._store.pending(0, _MOST):
            try:
                found.append(Notice.decode(stored.message.payload))
            except ValueError:  # noqa: PERF203 - the others are told
                self._done([stored.message.id])
        return found

    def _fresh(self, waiting: list[Notice], now: float) -> list[Notice]:
        """Those that are still news; the others are given up."""
        stale = [one for one in waiting if now - max(one.wall, one.due) > _STALE_SECONDS]
        if stale:
            self._lost += len(stale)
            self._done(one.id for one in stale)
            log.error("%s given up after a day", plural(len(stale), "notification"))
        return [one for one in waiting if one not in stale]

    def _held(self, notice: Notice, now: float) -> bool:
        """Whether quiet hours hold it back."""
        quiet = self._config.quiet_hours
        if quiet is None or notice.zone in quiet.except_zones:
            return False
        zone: tzinfo | None = None if quiet.zone is None else ZoneInfo(quiet.zone)
        return quiet.hold(datetime.fromtimestamp(now, zone).time())

    def _audience(self, notice: Notice) -> frozenset[str]:
        everybody = self._others if notice.occasion == _ESCALATION else self._everybody
        return self._missing.get(notice.id) or frozenset(everybody)

    def _done(self, ids: Iterable[str]) -> None:
        gone = list(ids)
        for one in gone:
            self._missing.pop(one, None)
        self._store.delivered(gone)


def read_addresses(path: Path) -> tuple[str, ...]:
    """The addresses in a file.

    Raises:
        ConfigError: It cannot be read, or there are none.
    """
    try:
        found = addresses(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as fault:
        why = getattr(fault, "strerror", None) or "it is no UTF-8 text"
        raise ConfigError(
            f"the addresses cannot be read: {why}",
            where=path,
            remedy="Write one address a line, readable by the agent.",
        ) from fault
    if not found:
        raise ConfigError(
            "no address is in it",
            where=path,
            remedy="Write one a line, such as ntfys://ntfy.example/pumps; see the guide on "
            "notifications.",
        )
    return tuple(dict.fromkeys(found))


def _escalation_id(alarm: str) -> str:
    return f"escalation-{alarm}"
