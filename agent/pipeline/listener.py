"""Listening to one machine: sound is captured, cut into windows, and each is dealt with in turn."""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from agent.activity.cutter import Following, RunningWindows
from agent.activity.edges import Edges
from agent.capture.source import Source
from agent.config.agent import MachineConfig
from agent.core.counters import Counters
from agent.core.errors import AuscultError
from agent.core.lasting import lasting
from agent.core.recognition import Recognition
from agent.core.records import Window
from agent.machine.observers import PipelineObserver, PipelineObservers
from agent.pace.pace import HopPace
from agent.publish.broadcaster import Broadcaster
from agent.publish.device_payloads import MonthOfAlarms
from agent.window.condition import (
    ConditionFile,
    ConditionStatus,
    SensorCondition,
    SensorMonitor,
)
from agent.window.losses import LossLog
from agent.window.queue import WindowQueue
from agent.window.rolling import RollingWindow

log = logging.getLogger(__name__)

# While no window comes, time passes in steps of this, seconds.
_TICK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Cut:
    """How sound is cut into windows.

    Attributes:
        rate: Samples a second.
        window_samples: Length of a window.
        hop_samples: From one's beginning to the next one's.
        following: How it is followed what the machine does; None for not at all.
        first_samples: So much later than the sound the first one begins.
    """

    rate: int
    window_samples: int
    hop_samples: int
    following: Following | None = None
    first_samples: int = 0


class Listener(ABC):
    """Captures in one thread, and deals with the windows in another.

    Args:
        config: The machine.
        source: Where its sound comes from; None while nobody has said: then there is nothing to
            hear, and no thread is begun.
        told: Tells of it.
        on_end: Called once from a thread of its own when it has ended, well or not.
        taps: Listen in.
    """

    #: What it lacks to judge the machine: `bundle`, `microphone`.
    missing: tuple[str, ...] = ()

    @property
    def doubt(self) -> str:
        """Why its microphone is doubted by what it heard before; empty when it isn't."""
        return ""

    @property
    def remarks(self) -> tuple[str, ...]:
        """What people should know of how it is listened to."""
        return ()

    @property
    def recognition(self) -> Recognition | None:
        """Whether its bundle recognises it; None without a bundle."""
        return None

    @property
    def months(self) -> Sequence[MonthOfAlarms]:
        """What became of its alarms, by month, the latest first."""
        return ()

    def __init__(
        self,
        config: MachineConfig,
        source: Source | None,
        told: Broadcaster,
        on_end: Callable[[], None] = lambda: None,
        observers: Sequence[PipelineObserver] = (),
    ) -> None:
        self.name = config.name
        self.counters = Counters()
        self.fault: Exception | None = None
        self._config = config
        self._source = source
        self._told = told
        self._on_end = on_end
        self._taps = PipelineObservers(observers)
        self._stopping = False
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []
        self._queue: WindowQueue | None = None
        self._sensor = SensorMonitor(config.validity.condition)
        self._condition = ConditionFile()
        self._losses = LossLog(config.name)
        self._edges: Path | None = None  # where starts and stops are remembered
        self._pace: HopPace | None = None  # where the hop follows what is heard

    def _listen(self) -> None:
        """Begin the threads; the source is started, and `_cut` and `_take` are ready."""
        if self._source is None:
            return
        self._queue = WindowQueue(self._config.queue_windows, drop=self._source.live)
        self._threads = [
            threading.Thread(target=target, name=f"{self.name}-{name}", daemon=True)
            for name, target in (("capture", self._capture), ("score", self._score))
        ]
        for thread in self._threads:
            thread.start()

    @abstractmethod
    def start(self) -> None:
        """Begin to listen.

        Raises:
            AuscultError: It can never work as configured.
        """

    @abstractmethod
    def _cut(self) -> Cut:
        """How sound is cut from now on; rate and length never change."""

    @abstractmethod
    def _take(self, window: Window, began: float) -> Window:
        """Deal with a window.

        Args:
            window: The next, valid or not.
            began: Monotonic time at which the stream began to be dealt with, seconds.

        Returns:
            The window as it speaks for the microphone.
        """

    def _pass_time(self) -> None:
        """No window comes: the microphone may have failed."""
        now, wall = time.monotonic(), time.time()
        self._losses.look(faults := self.faults())
        self._tell_condition(self._sensor.waiting(now, wall, faults))

    def _close(self) -> None:  # noqa: B027 - most need nothing
        """No window comes any more."""

    def stop(self) -> None:
        """Ask both threads to end; windows that wait are not dealt with any more."""
        self._stopping = True
        if self._source is not None:
            self._source.stop()
        if self._queue is not None:
            self._queue.close(discard=True)

    def join(self, seconds: float) -> bool:
        """Wait for the end; False when a thread is still busy after that time."""
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not self.running

    @property
    def running(self) -> bool:
        """Whether it still captures or scores."""
        return any(thread.is_alive() for thread in self._threads)

    @property
    def live(self) -> bool:
        """Whether its sound goes on whether or not anybody keeps up."""
        return self._source is None or self._source.live

    @property
    def expected(self) -> bool:
        """Whether windows are to come: not while nobody has said where its sound comes from."""
        return self._source is not None

    @property
    def ended(self) -> bool:
        """Whether all of its sound has been dealt with, or it failed."""
        return self._ended.is_set()

    def faults(self) -> Mapping[str, int]:
        """Troubles of the source, and windows dropped."""
        dropped = 0 if self._queue is None else self._queue.dropped
        found = {} if self._source is None else self._source.faults()
        return {**found, **({"dropped_windows": dropped} if dropped else {})}

    @property
    def attempts(self) -> int:
        """How often opening the source failed so far."""
        return 0 if self._source is None else self._source.attempts

    @property
    def waiting(self) -> int:
        """Windows captured that wait to be dealt with."""
        return 0 if self._queue is None else len(self._queue)

    @property
    def sensor(self) -> SensorCondition:
        """The microphone's condition."""
        return self._sensor.condition

    def _capture(self) -> None:
        assert self._queue is not None
        assert self._source is not None
        cut = self._cut()
        pace = self._pace
        rolling = RollingWindow(
            cut.window_samples, cut.hop_samples, cut.rate, None if pace is None else pace.due,
            first=cut.first_samples,
        )  # fmt: skip
        seconds = cut.window_samples / cut.rate
        levels = None if pace is None else pace.levels
        windows = RunningWindows(rolling, Edges(seconds, self._edges), cut.following, levels)
        try:
            for given in self._source.blocks():
                # One copy, for all that keep it: the source may reuse its buffer.
                block = replace(given, samples=lasting(given.samples))
                cut = self._cut()  # those of another bundle, perhaps
                rolling.hop_samples = cut.hop_samples
                windows.follow(cut.following)
                self._taps.hear(block)
                if pace is not None:
                    pace.hear(block)
                for window in windows.push(block):
                    if not self._queue.put(window):
                        return
                    if pace is not None:
                        pace.settle()
        except Exception as fault:  # noqa: BLE001 - a thread must not die unheard
            self._fail(fault)
        finally:
            # What waits is still scored, then the scoring thread ends too.
            self._queue.close()

    def _score(self) -> None:
        assert self._queue is not None
        assert self._source is not None
        began, origin = time.monotonic(), None
        patience = _TICK_SECONDS if self.live else None
        try:
            while True:
                window = self._queue.get(patience)
                if window is None:
                    if self._queue.over:
                        break
                    self._pass_time()
                    continue
                origin = window.monotonic if origin is None else origin
                # A window of a running machine ends a little earlier than the latest sound.
                heard = window.end_monotonic - origin
                self.counters.stream_seconds = max(heard, self.counters.stream_seconds)
                seen = self._take(window, began)
                self._losses.look(faults := self.faults())
                self._tell_condition(self._sensor.observe(seen, faults, self.doubt))
        except Exception as fault:  # noqa: BLE001 - a thread must not die unheard
            self._fail(fault)
        finally:
            # Should scoring have failed, capture must not wait for it.
            if self._pace is not None:
                self._pace.close()
            self._source.stop()
            self._queue.close(discard=True)
            self._taps.close()
            self._close()
            self._ended.set()
            self._on_end()

    def _tell_condition(self, condition: SensorCondition) -> None:
        self._told.tell(condition)
        self._condition.tell(condition)

    def _timed(self, began: float) -> None:
        """Count what a window took."""
        now, counters = time.monotonic(), self.counters
        counters.dropped = 0 if self._queue is None else self._queue.dropped
        counters.elapsed_seconds = now - began
        counters.last_window = now

    def _fail(self, fault: Exception) -> None:
        if self._stopping:
            log.debug("%s: while stopping", self.name, exc_info=fault)
            return
        if isinstance(fault, AuscultError):
            log.error("%s: %s", self.name, fault)
        else:
            log.error("%s: unexpected fault", self.name, exc_info=fault)
        if self.fault is None:
            self.fault = fault
            why = f"it is not listened to: {fault}"
            condition = SensorCondition(ConditionStatus.FAILURE, why, time.time())
            self._tell_condition(condition)

    def give_up(self, fault: Exception) -> None:
        """Tell that the machine could not be started, and count it as ended."""
        self._fail(fault)
        self._ended.set()
