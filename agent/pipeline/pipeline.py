"""One machine's path from sound to decision, and the threads that walk it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from agent.activity.levels import band_middles
from agent.activity.plant import PlantSignal
from agent.activity.watch import JudgedWatch, watch_file
from agent.capture.source import Source
from agent.chain.watch import ChainWatch, chain_file
from agent.commission.listening import ShadowAlarm, warning_config, warning_thresholds
from agent.commission.microphone import MicrophoneLearner
from agent.commission.shadow import Commission
from agent.config.agent import MachineConfig
from agent.config.maintenance import Schedule
from agent.core.errors import AuscultError
from agent.core.level_change import Points
from agent.core.reasons import Circumstance, Explanation, UnusualBand
from agent.core.recognition import Recognition
from agent.core.records import AlarmEvent, Decision, EventKind, MachineState, Validity, Window
from agent.decide.alarm import AlarmDecider
from agent.decide.service import AlarmService
from agent.decide.state import AlarmFile
from agent.decide.thresholds import Thresholds
from agent.deploy.load import Bundle
from agent.drift.follower import DriftFollower
from agent.drift.service import DriftService
from agent.evidence.answers import Answers
from agent.foreign.ear import ForeignEar
from agent.level.baseline import LevelBaseline, LevelFile, level_file
from agent.level.equaliser import offsets_at
from agent.level.machine import MachineLevel
from agent.level.words import microphone_words
from agent.machine.days import SoundDays
from agent.machine.observers import PipelineObserver
from agent.machine.scoring import ScoredWindow, WindowScorer
from agent.machine.settings import MachineSettings, settings_of
from agent.pace.pace import HopPace
from agent.pipeline.listener import Cut, Listener
from agent.publish.broadcaster import Broadcaster
from agent.publish.device_payloads import MonthOfAlarms
from agent.recognition.watch import RecognitionWatch, recognition_file
from agent.window.condition import ConditionFile, condition_file
from agent.window.stagger import first_seconds

log = logging.getLogger(__name__)

_SAY_SO = (
    "; where another microphone hangs there and the machine is well, say so: “Another microphone” "
    "on the page, or `level_baseline` with `microphone`"
)
# Of its level, and of its channels.
_OF_MICROPHONE = frozenset(
    {Validity.OUT_OF_RANGE, Validity.TOO_QUIET, Validity.SILENT, Validity.CLIPPED}
)


class Pipeline(Listener):
    """Captures, scores and decides for one machine, in two threads of its own.

    Args:
        config: The machine.
        bundle: Its opened bundle; several machines may share one.
        source: Where its sound comes from, at the encoder's rate.
        told: Tells of every decision.
        on_end: Called once from a thread of the pipeline when it has ended, well or not.
        state: Folder that keeps the alarm from one run to the next; None for nowhere. Of a source
            that isn't live nothing is kept: its alarm would stand before the next run began.
        taps: Listen in.
        plant: What the plant says of it; None when it says nothing.
        commission: Its commissioning; None for none.
        number: Among the device's machines, whose windows shall not all end at the same moment.
    """

    def __init__(
        self,
        config: MachineConfig,
        bundle: Bundle,
        source: Source,
        told: Broadcaster,
        on_end: Callable[[], None] = lambda: None,
        *,
        state: Path | None = None,
        observers: Sequence[PipelineObserver] = (),
        plant: PlantSignal | None = None,
        commission: Commission | None = None,
        number: int = 0,
    ) -> None:
        super().__init__(config, source, told, on_end, observers)
        self._judge = WindowScorer(config.name, bundle)
        self._judge.foreign = ForeignEar(config.name, config.foreign)
        self._terms: MachineSettings | None = None
        self._plant = plant
        self._number = number
        self.commission = commission
        self._shadow: ShadowAlarm | None = None  # while it is commissioned
        self._microphone: MicrophoneLearner | None = None  # likewise
        self._frame_hertz = band_middles(bundle.manifest.encoder.sample_rate)
        self._watch = JudgedWatch(self.name)
        self._recognition = RecognitionWatch(self.name)
        self._chain = ChainWatch(self.name)
        self._state = state
        self._keeper: AlarmService | None = None
        self._drift: DriftService | None = None
        self._follower = DriftFollower(config.name)
        #: How its spectrum changes over days.
        self.days = SoundDays(None)
        evidence = None if state is None else state.parent / "evidence" / config.name
        self._answers = Answers(evidence)
        answers = LevelFile(None if state is None else level_file(state, config.name))
        #: What is taken off its sound, and why.
        self.level = MachineLevel(config.name, answers, config.level)

    def start(self) -> None:
        """Take up the alarm where it was left, and begin to listen.

        Raises:
            AudioError: The source can never work as configured.
            ConfigError: The bundle cannot give the thresholds that are asked for.
        """
        assert self._source is not None
        bundle = self._judge.bundle
        if self._judge.foreign is not None:
            self._judge.foreign.start()
        self._terms = terms = self._terms_of(bundle)
        self._judge.level = self.level.begin(bundle, *terms.thresholds.each)
        self._judge.hearing = self.level.hearing
        self._source.start()
        state = self._state if self.live else None
        self._edges = None if state is None else state / "edges" / f"{self.name}.json"
        self._judge.levels = terms.levels
        self._judge.asked_from = terms.thresholds.lowest
        told = None if state is None else watch_file(state.parent, self.name)
        self._watch = JudgedWatch(self.name, told)
        told = None if state is None else recognition_file(state.parent, self.name)
        self._recognition = RecognitionWatch(self.name, told)
        self._recognition.use(bundle)
        said = None if state is None else condition_file(state.parent, self.name)
        self._condition = ConditionFile(said)
        self._chain = ChainWatch(self.name, None if state is None else chain_file(state, self.name))
        if self.commission is not None and self.commission.listening:
            self._shadow = ShadowAlarm(self._config.decide, terms, self._config.ignore)
            self._microphone = MicrophoneLearner(self.commission, self.level)
            self.commission.begin(bundle)
        self._keeper = self._take_up_alarm(terms, state)
        self._keeper.resume()
        drift = None if state is None else state / "drift" / f"{self.name}.json"
        self.days = SoundDays(None if state is None else state / "days" / f"{self.name}.json")
        self._drift = DriftService(self._told.tell, drift, self.days)
        self._drift.resume(self._judge.bundle.drift, terms.drift_seconds)
        if terms.calm_hops > 1:
            encoder = bundle.manifest.encoder
            self._pace = HopPace(
                encoder.sample_rate, encoder.window_samples, terms.hop_samples, terms.calm_hops,
                lockstep=not self.live,
            )  # fmt: skip
            # What a threshold is found by should be heard evenly.
            self._pace.closely = self._shadow is not None
        self._listen()

    def _take_up_alarm(self, terms: MachineSettings, state: Path | None) -> AlarmService:
        """The alarm as an earlier run left it."""
        file = None if state is None else AlarmFile(state / f"{self.name}.json")
        memory = None if file is None else file.load()
        if memory is not None and memory.alarm_id:
            log.warning(
                "%s: %s %s stood when the agent ended, and stands",
                self.name, memory.level.value, memory.alarm_id,
            )  # fmt: skip
        config, found = self._config.decide, self._thresholds(terms)
        if self._shadow is not None and self.commission is not None:
            config = warning_config(config, self.commission.config)
        decider = AlarmDecider(
            config,
            found.alarm,
            alert_threshold=found.alert,
            lasting=found.lasting,
            steady=found.steady,
            scale=found.scale,
            hop_seconds=terms.hop_seconds,
            overlap_seconds=terms.overlap_seconds,
            memory=memory,
            schedule=Schedule(self._config.maintenance),
            ignore=self._config.ignore,
        )
        return AlarmService(decider, self._tell, file)

    def _thresholds(self, terms: MachineSettings) -> Thresholds:
        """Those of the alarm that the world sees."""
        if self._shadow is not None and self.commission is not None:
            return warning_thresholds(terms, self.commission.config)
        return terms.thresholds

    def _terms_of(self, bundle: Bundle) -> MachineSettings:
        """What a bundle means here, by the threshold that was found at commissioning if any."""
        config, decide = self._config, self._config.decide
        found = None if self.commission is None else self.commission.threshold(bundle)
        if found is not None and decide.threshold is None and decide.false_alarms is None:
            decide = decide.model_copy(update={"threshold": found})
            config = config.model_copy(update={"decide": decide})
        return settings_of(config, bundle)

    @property
    def alarm(self) -> AlarmService:
        """The machine's alarm, for the operator's commands; from `start` on, from any thread."""
        if self._keeper is None:
            raise AuscultError(f"{self.name} is not listened to yet", remedy="Try again shortly.")
        return self._keeper

    @property
    def drift(self) -> DriftService:
        """The machine's drift, for the operator's commands; from `start` on, from any thread."""
        if self._drift is None:
            raise AuscultError(f"{self.name} is not listened to yet", remedy="Try again shortly.")
        return self._drift

    @property
    def offset_db(self) -> float:
        """What is taken off its sound before it is judged, dB."""
        return self.level.offset_db

    @property
    def bands_db(self) -> Points:
        """What is taken off its bands beside that, (Hz, dB)."""
        return self.level.hearing.points

    def take_level(
        self,
        operator: str,
        comment: str = "",
        decibels: float | None = None,
        *,
        bands: bool = False,
    ) -> LevelBaseline:
        """An operator: the microphone was moved, or is another one (`bands`). Told as an event.

        See `MachineLevel.take` and `take_microphone`.
        """
        alarm = self.alarm
        if bands:
            found = self.level.take_microphone(operator, comment)
            assert found is not None
            answer, comment = found, _noted(comment, microphone_words(found))
        else:
            answer = self.level.take(operator, comment, decibels)
        self._hear_anew()
        alarm.level_answered(
            EventKind.LEVEL_BASELINE, answer.decibels, operator=operator, note=comment
        )
        return answer

    def undo_level(self, operator: str, comment: str = "") -> LevelBaseline:
        """Take the latest answer back. See `MachineLevel.undo`; told as an event."""
        alarm = self.alarm
        answer = self.level.undo(operator)
        self._hear_anew()
        alarm.level_answered(
            EventKind.LEVEL_UNDONE, self.level.offset_db, operator=operator, note=comment
        )
        return answer

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
        terms = self._terms_of(bundle)

        def judge_anew() -> None:
            before = None if self._terms is None else self._terms.levels
            self._recognition.use(bundle, before)
            self._terms = terms
            self._judge.levels = terms.levels
            self._judge.asked_from = terms.thresholds.lowest
            self._judge.level = self.level.use(bundle, *terms.thresholds.each)
            self._judge.hearing = self.level.hearing
            if self._shadow is not None:
                self._shadow.use(terms)
            if self._keeper is not None:
                self._keeper.use_thresholds(self._thresholds(terms), terms.overlap_seconds)

        previous = self._judge.use(bundle, judge_anew)
        if self._drift is not None:
            self._drift.use(bundle.drift, terms.drift_seconds)
        return previous

    def _cut(self) -> Cut:
        assert self._terms is not None
        encoder, terms = self._judge.bundle.manifest.encoder, self._terms
        following = terms.following
        if following is not None and self._plant is not None:
            following = replace(following, running=self._plant.running)
        if following is not None:
            hearing = self.level.hearing
            following = replace(
                following, offset_db=hearing.offset_db,
                bands_db=offsets_at(hearing.points, self._frame_hertz) if hearing.points else (),
            )  # fmt: skip
        # Of a recording the windows stay where they are in it.
        later = first_seconds(self._number, terms.hop_seconds) if self.live else 0.0
        return Cut(
            encoder.sample_rate, encoder.window_samples, terms.hop_samples, following,
            round(later * encoder.sample_rate),
        )  # fmt: skip

    @property
    def promise(self) -> tuple[tuple[str, ...], str]:
        """What its threshold promises and what that costs, in words; what to do when it is blind.

        Empty before it is listened to.
        """
        terms = self._terms
        return ((), "") if terms is None else (terms.thresholds.promise, terms.thresholds.blind)

    @property
    def months(self) -> Sequence[MonthOfAlarms]:
        """What became of its alarms, by month, the latest first."""
        return self._answers.months

    @property
    def remarks(self) -> tuple[str, ...]:
        """What keeps it from being judged."""
        plant = "" if self._plant is None else self._plant.trouble()
        commission = "" if self.commission is None else self.commission.words()
        chain = "; ".join(self._chain.differences)
        chain = f"heard otherwise than in training: {chain}{_SAY_SO}" if chain else ""
        held = self.level.held
        taken = "" if held is None or held.bands is None else microphone_words(held)
        found = (commission, self._recognition.why, self._watch.why, plant, chain, taken)
        return tuple(one for one in found if one)

    @property
    def recognition(self) -> Recognition | None:
        """Whether its bundle recognises it; None before it is listened to."""
        return self._recognition.found

    @property
    def doubt(self) -> str:
        """Why its microphone is doubted by what it heard before; empty when it isn't."""
        return self._chain.doubt

    def _take(self, window: Window, began: float) -> Window:
        """Judge a window, decide on it, and tell of it."""
        judged = self._judge.judge(window)
        decision = self._decide(judged)
        self.counters.count(decision)
        self._watch.take(decision)
        self._recognition.take(decision, judged, self.level.held)
        if self.commission is not None:
            self.commission.doubt = self._recognition.why
        if self._pace is not None:
            self._pace.take(decision)
        self._timed(began)
        self._told.tell(decision)
        # What was called for is no fair sample of how the machine runs.
        fair = not decision.held and not window.called
        self._follower.take(self.drift, decision, judged.heard if fair else None)
        found = judged.score.window
        worked_on = decision.status is not None and decision.status.muted_until_wall is not None
        if judged.vector is not None and decision.state is MachineState.RUNNING and not worked_on:
            manifest = judged.bundle.manifest
            self._chain.take(found, judged.bundle.spectrum, manifest.conditions)
            if fair:
                self.days.take(found, judged.bundle.spectrum)
            if judged.level_dbfs is not None:
                loud = judged.level_dbfs
                begin, end = found.monotonic, found.end_monotonic
                self.level.hear(judged.vector, loud, begin, end, found.samples)
                self._learn_microphone(end)
        # Its level and channels are judged after its idleness; what the encoder makes of it is
        # not its fault.
        if found.validity in _OF_MICROPHONE:
            return found
        return replace(window, channel_faults=found.channel_faults)

    def _decide(self, judged: ScoredWindow) -> Decision:
        """What the world is told of a window; while it is commissioned, of nothing but warnings."""

        def witness(decision: Decision) -> str:
            return self._taps.judged(decision, judged.bundle.rows)

        def explain(decision: Decision) -> Explanation | None:
            return self._taps.explain(decision, judged)

        def bands(_: Decision) -> Sequence[UnusualBand]:
            return self._taps.stands_out(judged)

        def context(decision: Decision) -> Sequence[Circumstance]:
            around = self._taps.circumstances(decision, judged)
            doubt = (Circumstance("microphone", f"the microphone: {self.doubt}"),)
            return (*around, *doubt) if self.doubt else around

        shadow, commission, terms = self._shadow, self.commission, self._terms
        if shadow is None or commission is None or terms is None:
            return self.alarm.decide(judged.score, judged.state, witness, explain, bands, context)
        shadow.work(going_on=self.alarm.status.muted_until_wall is not None)
        would = shadow.decide(judged, witness, explain)
        decision = self.alarm.decide(judged.score, judged.state, bands=bands, context=context)
        decision = shadow.published(decision, would)
        # A window that was judged just before another bundle was taken up says nothing of it.
        known = judged.bundle is self._judge.bundle
        if known and commission.take(would, judged.bundle, terms.thresholds.scale):
            self._go_live()
        return decision

    def _hear_anew(self) -> None:
        """Hear as what was said of the microphone asks, from the next window on."""
        self._judge.hearing = self.level.hearing
        self._chain.again()
        self.days.again()

    def _learn_microphone(self, now: float) -> None:
        """While it is commissioned, once: does another microphone hang here than in training?"""
        found = None if self._microphone is None else self._microphone.learn(now)
        if found is not None:
            self._hear_anew()
            self.alarm.level_answered(
                EventKind.LEVEL_BASELINE, found.decibels,
                operator=found.operator, note=microphone_words(found),
            )  # fmt: skip

    def _go_live(self) -> None:
        """The machine's alarms are told from the next window on; a warning that stands, stands."""
        self._shadow = self._microphone = None
        if self._pace is not None:
            self._pace.closely = False
        bundle = self._judge.bundle
        self._terms = terms = self._terms_of(bundle)
        self._judge.asked_from = terms.thresholds.lowest
        self._judge.level = self.level.use(bundle, *terms.thresholds.each)
        self._judge.hearing = self.level.hearing
        self._keeper = self._take_up_alarm(terms, self._state if self.live else None)

    def _pass_time(self) -> None:
        """No window comes: shelvings end all the same, and the microphone may have failed."""
        self.alarm.tick()
        super()._pass_time()

    def _close(self) -> None:
        if self._drift is not None:
            self._drift.close()
            self.days.close()
        self._chain.close()
        if self.commission is not None:
            self.commission.close()

    def _tell(self, event: AlarmEvent) -> None:
        if self._shadow is not None:
            event = self._shadow.told(event)
        self.counters.count_event(event)
        self._told.tell(event)


def _noted(comment: str, text: str) -> str:
    return f"{comment}; {text}" if comment else text
