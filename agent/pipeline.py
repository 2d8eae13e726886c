"""One machine's path from sound to decision, and the threads that walk it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from agent.bundle.load import Bundle
from agent.capture.source import Source
from agent.config import MachineConfig
from agent.decide.alarm import AlarmDecider
from agent.decide.keeper import AlarmKeeper
from agent.decide.thresholds import Thresholds, find_thresholds
from agent.drift.events import DriftEvent, DriftStatus
from agent.drift.keeper import DriftKeeper, Heard
from agent.drift.memory import DriftFile
from agent.errors import AuscultError, BundleError
from agent.frames import (
    AlarmEvent,
    Decision,
    Embedding,
    MachineState,
    Score,
    Validity,
    Window,
)
from agent.publish.publisher import Publisher
from agent.state import AlarmFile
from agent.tally import Tally
from agent.taps import Tap, Taps
from agent.window.condition import SensorCondition, SensorMonitor
from agent.window.queue import WindowQueue
from agent.window.rolling import RollingWindow

log = logging.getLogger(__name__)

# So many windows in a row that the encoder fails on are not the sound's fault.
_FAILURES_ALLOWED = 10
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
        self._bundle = bundle
        self._source = source
        self._publishers = publishers
        self._on_end = on_end
        self._state = state
        self._taps = Taps(taps)
        self._stopping = False
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []
        self._queue: WindowQueue | None = None
        self._keeper: AlarmKeeper | None = None
        self._drift: DriftKeeper | None = None
        self._drift_failed = False
        self._sensor = SensorMonitor(config.validity.condition)
        self._sensor_told: SensorCondition | None = None
        self._in_use = threading.Lock()  # held while the bundle judges a window

    def start(self) -> None:
        """Take up the alarm where it was left, and begin to listen.

        Raises:
            AudioError: The source can never work as configured.
            ConfigError: The bundle cannot give the thresholds that are asked for.
        """
        thresholds = self._thresholds(self._bundle)
        self._source.start()
        file = memory = None
        if self._state is not None and self._source.live:
            file = AlarmFile(self._state / f"{self.name}.json")
            memory = file.load()
        decider = AlarmDecider(
            self._config.decide,
            thresholds.alarm,
            alert_threshold=thresholds.alert,
            hop_seconds=self._hop(self._bundle),
            overlap_seconds=self._overlap(self._bundle),
            memory=memory,
        )
        self._keeper = AlarmKeeper(decider, self._tell, file)
        if memory is not None and memory.alarm_id:
            log.warning(
                "%s: %s %s stood when the agent ended, and stands",
                self.name, memory.level.value, memory.alarm_id,
            )  # fmt: skip
        self._keeper.resume()
        drift_file = None
        if self._state is not None and self._source.live:
            drift_file = DriftFile(self._state / "drift" / f"{self.name}.json")
        self._drift = DriftKeeper(self._publish_drift, self._tell_drift, drift_file)
        self._drift.resume(self._bundle.drift, self._drift_step(self._bundle))
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
        new, old = bundle.manifest.encoder, self._bundle.manifest.encoder
        if (new.sample_rate, new.window_samples) != (old.sample_rate, old.window_samples):
            raise BundleError(
                f"takes windows of {new.window_samples} samples at {new.sample_rate} Hz, where the "
                f"present bundle takes {old.window_samples} at {old.sample_rate} Hz",
                where=bundle.path,
                remedy="Restart the agent to change to it.",
            )
        thresholds = self._thresholds(bundle)
        with self._in_use:
            previous, self._bundle = self._bundle, bundle
            if self._keeper is not None:
                self._keeper.use_thresholds(
                    thresholds.alarm, thresholds.alert, self._overlap(bundle)
                )
        if self._drift is not None:
            self._drift.use(bundle.drift, self._drift_step(bundle))
        return previous

    def _thresholds(self, bundle: Bundle) -> Thresholds:
        found = find_thresholds(
            self._config.decide, bundle.manifest, bundle.healthy, self._hop(bundle)
        )
        for note in found.notes:
            log.info("%s: %s", self.name, note)
        return found

    def _hop(self, bundle: Bundle) -> float:
        return self._config.hop_seconds or bundle.manifest.hop_seconds

    def _overlap(self, bundle: Bundle) -> float:
        """How long a window waits for an idle one that overlaps it."""
        told = bundle.gate is not None and self._config.decide.idle == "suppress"
        return bundle.manifest.window_seconds if told else 0.0

    def _drift_step(self, bundle: Bundle) -> float:
        drift = bundle.manifest.drift
        return bundle.manifest.window_seconds if drift is None else drift.step_seconds

    def _hop_samples(self, bundle: Bundle) -> int:
        return max(1, round(self._hop(bundle) * bundle.manifest.encoder.sample_rate))

    def _capture(self) -> None:
        assert self._queue is not None
        bundle = self._bundle
        encoder = bundle.manifest.encoder
        rolling = RollingWindow(
            encoder.window_samples,
            self._hop_samples(bundle),
            encoder.sample_rate,
            levels=self._config.validity.levels(bundle.manifest.trained_on.level_dbfs),
        )
        try:
            for block in self._source.blocks():
                if self._bundle is not bundle:
                    bundle = self._bundle
                    rolling.hop_samples = self._hop_samples(bundle)
                    levels = bundle.manifest.trained_on.level_dbfs
                    rolling.levels = self._config.validity.levels(levels)
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
        began, origin, failures = time.monotonic(), None, 0
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
                heard = None
                try:
                    (score, state, heard), failures = self._judge(window), 0
                except (AuscultError, ValueError, RuntimeError, MemoryError) as fault:
                    failures += 1
                    if failures >= _FAILURES_ALLOWED:
                        raise
                    log.warning("%s: window %d not scored: %s", self.name, window.index, fault)
                    score = _unjudged(window, f"scoring failed: {fault}")
                    state = MachineState.UNKNOWN
                self.tally.stream_seconds = window.end_monotonic - origin
                decision = self.alarm.decide(score, state, self._listened)
                self._count(decision, began)
                self._publish(decision)
                self._follow_drift(decision, heard)
                self._publish_sensor(self._sensor.observe(window, self._source.faults()))
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

    def _pass_time(self) -> None:
        """No window comes: shelvings end all the same, and the microphone may have failed."""
        self.alarm.tick()
        now, wall = time.monotonic(), time.time()
        self._publish_sensor(self._sensor.waiting(now, wall, self._source.faults()))

    def _judge(self, window: Window) -> tuple[Score, MachineState, Heard | None]:
        if window.validity is not Validity.VALID:
            return Score(window, None), MachineState.UNKNOWN, None
        with self._in_use:
            bundle = self._bundle
            began = time.perf_counter()
            (vector,) = bundle.encoder.encode(window.samples[None])
            embedding = Embedding(window, vector, time.perf_counter() - began)
            (value,), (neighbour,) = bundle.scorer.score(embedding.vector[None])
            if not np.isfinite(value):
                # Nothing is above a NaN: taken for a score, it would be silence for ever.
                reason = "the encoder gave no finite number for it"
                return _unjudged(window, reason), MachineState.UNKNOWN, None
            idle = bundle.gate is not None and bool(bundle.gate.idle(embedding.vector[None])[0])
        score = Score(window, float(value), int(neighbour), embedding.inference_seconds)
        heard = Heard(window, vector, bundle.drift)
        return score, MachineState.IDLE if idle else MachineState.RUNNING, heard

    def _follow_drift(self, decision: Decision, heard: Heard | None) -> None:
        """Let the monitor take the window, when it speaks for how the machine runs."""
        worked_on = decision.status is not None and decision.status.muted_until_wall is not None
        if heard is None or worked_on or decision.state is not MachineState.RUNNING:
            return
        try:
            self.drift.observe(heard)
        except Exception:
            # Alarms must not depend on it.
            if not self._drift_failed:
                log.exception("%s: drift is not followed", self.name)
            self._drift_failed = True

    def _listened(self, decision: Decision) -> str:
        return self._taps.judged(decision, self._bundle.rows)

    def _count(self, decision: Decision, began: float) -> None:
        now, tally = time.monotonic(), self.tally
        tally.count(decision)
        tally.dropped = 0 if self._queue is None else self._queue.dropped
        tally.elapsed_seconds = now - began
        tally.last_window = now

    def _tell(self, event: AlarmEvent) -> None:
        self.tally.count_event(event)
        self._each(lambda publisher: publisher.tell(self.name, event))

    def _publish(self, decision: Decision) -> None:
        first = self.tally.windows == 1
        self._each(lambda publisher: publisher.publish(self.name, decision, first=first))

    def _publish_drift(self, status: DriftStatus) -> None:
        self._each(lambda publisher: publisher.drift(self.name, status))

    def _tell_drift(self, event: DriftEvent) -> None:
        self._each(lambda publisher: publisher.tell_drift(self.name, event))

    def _publish_sensor(self, condition: SensorCondition) -> None:
        if condition != self._sensor_told:
            self._sensor_told = condition
            self._each(lambda publisher: publisher.sensor(self.name, condition))

    def _each(self, act: Callable[[Publisher], None]) -> None:
        for publisher in self._publishers:
            try:
                act(publisher)
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
