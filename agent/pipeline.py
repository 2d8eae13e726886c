"""One machine's path from sound to decision, and the threads that walk it."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from agent.bundle.load import Bundle
from agent.capture.source import Source
from agent.config import MachineConfig
from agent.decide.alarm import AlarmDecider
from agent.errors import AuscultError
from agent.frames import Decision, Embedding, Level, Score, Validity, Window
from agent.publish.publisher import Publisher
from agent.window.rolling import RollingWindow

log = logging.getLogger(__name__)

# So many windows in a row that the encoder fails on are not the sound's fault.
_FAILURES_ALLOWED = 10
# Alarms remembered for the summary: a bound, for an agent that runs for years.
_ALARMS_KEPT = 1000


@dataclass(frozen=True, slots=True)
class AlarmChange:
    """An alarm raised or cleared.

    Attributes:
        raised: Raised, else cleared.
        stream_seconds: End of the window that did it, from the beginning of the stream.
        window: Its index.
        origin: File or device it was heard from.
        alarm_id: The alarm.
    """

    raised: bool
    stream_seconds: float
    window: int
    origin: str
    alarm_id: str


@dataclass(slots=True)
class Tally:
    """What became of a machine's windows so far. Written by the scoring thread alone.

    Attributes:
        windows: Windows that reached a decision.
        exceeded: Those that scored above the threshold.
        invalid: Those that could not be judged, by validity.
        dropped: Windows dropped unjudged because scoring could not keep up.
        alarms: The latest alarms raised and cleared.
        raised: Alarms raised.
        stream_seconds: Length of the stream judged.
        elapsed_seconds: Time it took.
        inference_seconds: Time the encoder took of that.
        last_window: Monotonic time of the latest decision, None before the first.
    """

    windows: int = 0
    exceeded: int = 0
    invalid: Counter[str] = field(default_factory=Counter)
    dropped: int = 0
    alarms: deque[AlarmChange] = field(default_factory=lambda: deque(maxlen=_ALARMS_KEPT))
    raised: int = 0
    stream_seconds: float = 0.0
    elapsed_seconds: float = 0.0
    inference_seconds: float = 0.0
    last_window: float | None = None


class WindowQueue:
    """Windows between capture and scoring: bounded, in order.

    Args:
        size: Windows held.
        drop: When full, drop the oldest (live sound goes on regardless); else make `put` wait.
    """

    def __init__(self, size: int, *, drop: bool) -> None:
        self._size = size
        self._drop = drop
        self._items: deque[Window] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self.dropped = 0

    def put(self, window: Window) -> bool:
        """Add a window; False when the queue is closed."""
        with self._changed:
            while len(self._items) >= self._size and not self._closed:
                if self._drop:
                    self._items.popleft()
                    self.dropped += 1
                else:
                    self._changed.wait()
            if self._closed:
                return False
            self._items.append(window)
            self._changed.notify_all()
            return True

    def get(self) -> Window | None:
        """The oldest window; None when the queue is closed and empty."""
        with self._changed:
            while not self._items and not self._closed:
                self._changed.wait()
            if not self._items:
                return None
            window = self._items.popleft()
            self._changed.notify_all()
            return window

    def close(self, *, discard: bool = False) -> None:
        """Take no more; what is held is still given, unless discarded."""
        with self._changed:
            self._closed = True
            if discard:
                self._items.clear()
            self._changed.notify_all()


class Pipeline:
    """Captures, scores and decides for one machine, in two threads of its own.

    Args:
        config: The machine.
        bundle: Its opened bundle; several machines may share one.
        source: Where its sound comes from, at the encoder's rate.
        publishers: Told of every decision.
        on_end: Called once from a thread of the pipeline when it has ended, well or not.
    """

    def __init__(
        self,
        config: MachineConfig,
        bundle: Bundle,
        source: Source,
        publishers: Sequence[Publisher],
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = config.name
        self.tally = Tally()
        self.fault: Exception | None = None
        self._config = config
        self._bundle = bundle
        self._source = source
        self._publishers = publishers
        self._on_end = on_end
        self._stopping = False
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []
        self._queue: WindowQueue | None = None

    def start(self) -> None:
        """Begin to listen.

        Raises:
            AudioError: The source can never work as configured.
        """
        self._source.start()
        self._queue = WindowQueue(self._config.queue_windows, drop=self._source.live)
        self._threads = [
            threading.Thread(target=target, name=f"{self.name}-{name}", daemon=True)
            for name, target in (("capture", self._capture), ("score", self._score))
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ask both threads to end; windows that wait are not scored any more."""
        self._stopping = True
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
        return self._source.live

    @property
    def ended(self) -> bool:
        """Whether all of its sound has been decided on, or it failed."""
        return self._ended.is_set()

    def faults(self) -> Mapping[str, int]:
        """Troubles of the source, and windows dropped."""
        dropped = 0 if self._queue is None else self._queue.dropped
        return {**self._source.faults(), **({"dropped_windows": dropped} if dropped else {})}

    def _capture(self) -> None:
        assert self._queue is not None
        encoder = self._bundle.manifest.encoder
        hop = self._config.hop_seconds or self._bundle.manifest.hop_seconds
        rolling = RollingWindow(
            encoder.window_samples,
            max(1, round(hop * encoder.sample_rate)),
            encoder.sample_rate,
            levels=self._config.validity.levels(self._bundle.manifest.trained_on.level_dbfs),
        )
        try:
            for block in self._source.blocks():
                for window in rolling.push(block):
                    if not self._queue.put(window):
                        return
        except Exception as fault:  # noqa: BLE001 - a thread must not die unheard
            self._fail(fault)
        finally:
            # What waits is still scored, then the scoring thread ends too.
            self._queue.close()

    def _score(self) -> None:
        assert self._queue is not None
        decider = AlarmDecider(self._config.decide, self._bundle.manifest.threshold.value)
        began, origin, failures = time.monotonic(), None, 0
        try:
            while (window := self._queue.get()) is not None:
                origin = window.monotonic if origin is None else origin
                try:
                    score, failures = self._judge(window), 0
                except (AuscultError, ValueError, RuntimeError, MemoryError) as fault:
                    failures += 1
                    if failures >= _FAILURES_ALLOWED:
                        raise
                    log.warning("%s: window %d not scored: %s", self.name, window.index, fault)
                    score = _unjudged(window, f"scoring failed: {fault}")
                decision = decider.decide(score)
                self._count(decision, began, origin)
                self._publish(decision)
        except Exception as fault:  # noqa: BLE001 - a thread must not die unheard
            self._fail(fault)
        finally:
            # Should scoring have failed, capture must not wait for it.
            self._source.stop()
            self._queue.close(discard=True)
            self._ended.set()
            self._on_end()

    def _judge(self, window: Window) -> Score:
        if window.validity is not Validity.VALID:
            return Score(window, None)
        began = time.perf_counter()
        (vector,) = self._bundle.encoder.encode(window.samples[None])
        embedding = Embedding(window, vector, time.perf_counter() - began)
        (value,), (neighbour,) = self._bundle.scorer.score(embedding.vector[None])
        if not np.isfinite(value):
            # Nothing is above a NaN: taken for a score, it would be silence for ever.
            return _unjudged(window, "the encoder gave no finite number for it")
        return Score(window, float(value), int(neighbour), embedding.inference_seconds)

    def _count(self, decision: Decision, began: float, origin: float) -> None:
        score, window, tally = decision.score, decision.score.window, self.tally
        now = time.monotonic()
        tally.windows += 1
        tally.exceeded += decision.exceeded
        tally.dropped = 0 if self._queue is None else self._queue.dropped
        tally.stream_seconds = window.end_monotonic - origin
        tally.elapsed_seconds = now - began
        tally.inference_seconds += score.inference_seconds
        tally.last_window = now
        if window.validity is not Validity.VALID:
            tally.invalid[window.validity.value] += 1
        if decision.changed:
            raised = decision.level is Level.ALARM
            tally.raised += raised
            tally.alarms.append(
                AlarmChange(
                    raised, tally.stream_seconds, window.index, window.origin, decision.alarm_id
                )
            )

    def _publish(self, decision: Decision) -> None:
        first = self.tally.windows == 1
        for publisher in self._publishers:
            try:
                publisher.publish(self.name, decision, first=first)
            except Exception:  # noqa: PERF203 - one way of telling must not silence the others
                log.exception("%s: %s failed", self.name, type(publisher).__name__)

    def _fail(self, fault: Exception) -> None:
        if self._stopping:
            log.debug("%s: while stopping", self.name, exc_info=fault)
            return
        self.fault = self.fault or fault
        if isinstance(fault, AuscultError):
            log.error("%s: %s", self.name, fault)
        else:
            log.error("%s: unexpected fault", self.name, exc_info=fault)


def _unjudged(window: Window, reason: str) -> Score:
    return Score(replace(window, validity=Validity.NOT_FINITE, reason=reason), None)
