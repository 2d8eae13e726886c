"""A machine that has no bundle yet: it is heard and recorded from, and honestly not judged."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from agent.capture.source import Source
from agent.config.agent import MachineConfig
from agent.core.errors import AuscultError
from agent.core.records import Window
from agent.decide.service import AlarmService
from agent.deploy.load import Bundle
from agent.drift.service import DriftService
from agent.machine.observers import PipelineObserver
from agent.pipeline.listener import Cut, Listener
from agent.publish.broadcaster import Broadcaster
from agent.window.condition import ConditionStatus, SensorCondition

# Windows only say whether the sound is fit to learn from: short, so that it is seen at once.
WINDOW_SECONDS, HOP_SECONDS = 2.0, 1.0


class ListenOnly(Listener):
    """Listens to a machine until there is a bundle to judge it with.

    Each window is heard, found fit to learn from or not, and counted as unjudged: no score, no
    alarm state and no drift is ever told of it, since nobody could know them.

    Args:
        config: The machine.
        source: Where its sound comes from, at `rate`; None while no microphone is chosen.
        rate: Samples a second, as it is recorded.
        told: Tells how its microphone is.
        on_end: Called once from a thread of its own when it has ended, well or not.
        taps: Listen in.
        bundle: There is one; what is missing is the microphone.
        refusal: Why there is none although one is configured; empty when that is not so.
    """

    def __init__(
        self,
        config: MachineConfig,
        source: Source | None,
        rate: int,
        told: Broadcaster,
        on_end: Callable[[], None] = lambda: None,
        *,
        observers: Sequence[PipelineObserver] = (),
        bundle: bool = False,
        refusal: str = "",
    ) -> None:
        super().__init__(config, source, told, on_end, observers)
        self.missing = (
            *(("microphone",) if source is None else ()),
            *(() if bundle else ("bundle",)),
        )
        self._begun = 0.0
        self._refusal = refusal
        self._shape = Cut(rate, round(WINDOW_SECONDS * rate), round(HOP_SECONDS * rate))

    @property
    def remarks(self) -> tuple[str, ...]:
        """Why it is not judged, where that is a fault."""
        return (f"its bundle cannot be used: {self._refusal}",) if self._refusal else ()

    def start(self) -> None:
        """Begin to listen.

        Raises:
            AudioError: The source can never work as configured.
        """
        self._begun = time.time()
        if self._source is not None:
            self._source.start()
        else:
            self._told.tell(self.sensor)
        self._listen()

    @property
    def sensor(self) -> SensorCondition:
        """The microphone's condition."""
        if self._source is None:
            reason = "no microphone is chosen yet"
            return SensorCondition(ConditionStatus.CHECK_FUNCTION, reason, self._begun)
        return super().sensor

    @property
    def alarm(self) -> AlarmService:
        """There is none; raises."""
        raise self._unjudged()

    @property
    def drift(self) -> DriftService:
        """There is none; raises."""
        raise self._unjudged()

    def _unjudged(self) -> AuscultError:
        return AuscultError(
            f"{self.name} has no {' and no '.join(self.missing)} yet, so no alarm and no drift",
            remedy="The page, `auscult doctor` and docs/guide/web.md say what is to be done.",
        )

    def use_bundle(self, bundle: Bundle) -> Bundle:
        """Another bundle was put beside a machine that lacks a microphone: it is used later."""
        return bundle

    def _cut(self) -> Cut:
        return self._shape

    def _take(self, window: Window, began: float) -> Window:
        self.counters.count_unjudged(window)
        self._timed(began)
        return window
