"""One machine's path from sound to decision, and the threads that walk it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from agent.bundle.load import Bundle
from agent.capture.source import Source
from agent.config import MachineConfig
from agent.decide.alarm import AlarmDecider
from agent.decide.keeper import AlarmKeeper
from agent.drift.follower import DriftFollower
from agent.drift.keeper import DriftKeeper
from agent.drift.memory import DriftFile
from agent.errors import AuscultError
from agent.frames import AlarmEvent, Decision
from agent.judge import Judged, WindowJudge
from agent.publish.audience import Audience
from agent.publish.publisher import Publisher
from agent.state import AlarmFile
from agent.tally import Tally
from agent.taps import Tap, Taps
from agent.terms import Terms, terms_of
from agent.window.condition import SensorCondition, SensorMonitor
from agent.window.queue import WindowQueue
from agent.window.rolling import RollingWindow

log = logging.getLogger(__name__)

# While no window comes, time passes in steps of this, seconds.
_TICK_SECONDS = 1.0


class Pipeline:
    """Captures, scores and decides for one machine, in two threads of its own.

    Args:
        config: The machine.
        bundle: Its opened bundle; several machines may share one.
        source: Where its sound comes from, at the encoder's rate.
        publishers: Told of every decision.
        on_end: Called once from a thread of the pipeline when it has ended, well or not.
        state: Folder that keeps the alarm from one run to the next; None for nowhere. Of a source
            that isn't live nothing is kept: its alarm would stand before the next run began.
        taps: Listen in.
    """

    def __init__(
        self,
        config: MachineConfig,
        bundle: Bundle,
        source: Source,
        publishers: Sequence[Publisher],
        on_end: Callable[[], None] = lambda: None,
        *,
        state: Path | None = None,
        taps: Sequence[Tap] = (),
    ) -> None:
        self.name = config.name
        self.tally = Tally()
        self.fault: Exception | None = None
        self._config = config
        self._judge = WindowJudge(config.name, bundle)
        self._terms: Terms | None = None
        self._source = source
        self._audience = Audience(config.name, publishers)
        self._on_end = on_end
        self._state = state
        self._taps = Taps(taps)
        self._stopping = False
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []
        self._queue: WindowQueue | None = None
        self._keeper: AlarmKeeper | None = None
        self._drift: DriftKeeper | None = None
        self._follower = DriftFollower(config.name)
        self._sensor = SensorMonitor(config.validity.condition)

    def start(self) -> None:
        """Take up the alarm where it was left, and begin to listen.

        Raises:
            AudioError: The source can never work as configured.
            ConfigError: The bundle cannot give the thresholds that are asked for.
        """
        self._terms = terms = terms_of(self._config, self._judge.bundle)
        self._source.start()
        state = self._state if self._source.live else None
        self._keeper = self._take_up_alarm(terms, state)
        self._keeper.resume()
        file = None if state is None else DriftFile(state / "drift" / f"{self.name}.json")
        self._drift = DriftKeeper(self._audience.drift, self._audience.tell_drift, file)
        self._drift.resume(self._judge.bundle.drift, terms.drift_seconds)
        self._queue = WindowQueue(self._config.queue_windows, drop=self._source.live)
        self._threads = [
            threading.Thread(target=target, name=f"{self.name}-{name}", daemon=True)
            for name, target in (("capture", self._capture), ("score", self._score))
        ]
        for thread in self._threads:
            thread.start()

    def _take_up_alarm(self, terms: Terms, state: Path | None) -> AlarmKeeper:
        """The alarm as an earlier run left it."""
        file = None if state is None else AlarmFile(state / f"{self.name}.json")
        memory = None if file is None else file.load()
        if memory is not None and memory.alarm_id:
            log.warning(
                "%s: %s %s stood when the agent ended, and stands",
                self.name, memory.level.value, memory.alarm_id,
            )  # fmt: skip
        decider = AlarmDecider(
            self._config.decide,
            terms.thresholds.alarm,
            alert_threshold=terms.thresholds.alert,
            hop_seconds=terms.hop_seconds,
            overlap_seconds=terms.overlap_seconds,
            memory=memory,
        )
        return AlarmKeeper(decider, self._tell, file)

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

    @property
    def waiting(self) -> int:
        """Windows captured that wait to be judged."""
        return 0 if self._queue is None else len(self._queue)

    @property
    def alarm(self) -> AlarmKeeper:
        """The machine's alarm, for the operator's commands; from `start` on, from any thread."""
        if self._keeper is None:
            raise AuscultError(f"{self.name} is not listened to yet", remedy="Try again shortly.")
        return self._keeper

    @property
    def drift(self) -> DriftKeeper:
        """The machine's drift, for the operator's commands; from `start` on, from any thread."""
        if self._drift is None:
            raise AuscultError(f"{self.name} is not listened to yet", remedy="Try again shortly.")
        return self._drift

    @property
    def sensor(self) -> SensorCondition:
        """The microphone's condition."""
        return self._sensor.condition

    def use_bundle(self, bundle: Bundle) -> Bundle:
        """Judge with another bundle from the next window on; the alarm stays as it is.

        Args:
            bundle: Opened; it takes windows like those of the present one.

        Returns:
            The bundle used so far, of no more use here.

        Raises:
            BundleError: Its windows are others; only a restart can change those.
            ConfigError: It cannot give the thresholds that are asked for.
        """
        terms = terms_of(self._config, bundle)

        def judge_anew() -> None:
            self._terms = terms
            if self._keeper is not None:
                found = terms.thresholds
                self._keeper.use_thresholds(found.alarm, found.alert, terms.overlap_seconds)

        previous = self._judge.use(bundle, judge_anew)
        if self._drift is not None:
            self._drift.use(bundle.drift, terms.drift_seconds)
        return previous

    def _capture(self) -> None:
        assert self._queue is not None
        assert self._terms is not None
        encoder, terms = self._judge.bundle.manifest.encoder, self._terms
        rolling = RollingWindow(
            encoder.window_samples, terms.hop_samples, encoder.sample_rate, levels=terms.levels
        )
        try:
            for block in self._source.blocks():
                terms = self._terms  # those of another bundle, perhaps
                rolling.hop_samples, rolling.levels = terms.hop_samples, terms.levels
                self._taps.hear(block)
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
                self.tally.stream_seconds = window.end_monotonic - origin
                self._take(self._judge.judge(window), began)
                self._audience.sensor(self._sensor.observe(window, self._source.faults()))
        except Exception as fault:  # noqa: BLE001 - a thread must not die unheard
            self._fail(fault)
        finally:
            # Should scoring have failed, capture must not wait for it.
            self._source.stop()
            self._queue.close(discard=True)
            self._taps.close()
            if self._drift is not None:
                self._drift.close()
            self._ended.set()
            self._on_end()

    def _take(self, judged: Judged, began: float) -> None:
        """Decide on a window, and tell of it."""
        decision = self.alarm.decide(
            judged.score,
            judged.state,
            lambda decision: self._taps.judged(decision, judged.bundle.rows),
            lambda decision: self._taps.explain(decision, judged),
        )
        self._count(decision, began)
        self._audience.publish(decision, first=self.tally.windows == 1)
        self._follower.take(self.drift, decision, judged.heard)

    def _pass_time(self) -> None:
        """No window comes: shelvings end all the same, and the microphone may have failed."""
        self.alarm.tick()
        now, wall = time.monotonic(), time.time()
        self._audience.sensor(self._sensor.waiting(now, wall, self._source.faults()))

    def _count(self, decision: Decision, began: float) -> None:
        now, tally = time.monotonic(), self.tally
        tally.count(decision)
        tally.dropped = 0 if self._queue is None else self._queue.dropped
        tally.elapsed_seconds = now - began
        tally.last_window = now

    def _tell(self, event: AlarmEvent) -> None:
        self.tally.count_event(event)
        self._audience.tell(event)

    def _fail(self, fault: Exception) -> None:
        if self._stopping:
            log.debug("%s: while stopping", self.name, exc_info=fault)
            return
        self.fault = self.fault or fault
        if isinstance(fault, AuscultError):
            log.error("%s: %s", self.name, fault)
        else:
            log.error("%s: unexpected fault", self.name, exc_info=fault)
