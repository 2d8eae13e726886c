"""While a machine is commissioned it has two alarms: one that would be, and one that warns."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

from agent.config.commission import CommissionConfig
from agent.config.decide import AlertConfig, DecideConfig
from agent.core.foreign import ForeignKind
from agent.core.reasons import Explanation
from agent.core.records import AlarmEvent, Decision
from agent.decide.alarm import AlarmDecider
from agent.decide.service import AlarmService
from agent.decide.thresholds import Thresholds
from agent.machine.scoring import ScoredWindow
from agent.machine.settings import MachineSettings

# Nothing scores as high: the alarm that the world sees is never raised, only its alert.
_NEVER = 1e300


def warning_config(decide: DecideConfig, commission: CommissionConfig) -> DecideConfig:
    """How the alarm decides that the world sees in the meantime: warnings of what is strong.

    Args:
        decide: The machine's.
        commission: Its commissioning.
    """
    lasting = commission.strong_seconds
    return DecideConfig(
        clear_seconds=decide.clear_seconds,
        hysteresis=decide.hysteresis,
        shelve_max_seconds=decide.shelve_max_seconds,
        idle=decide.idle,
        idle_settle_seconds=decide.idle_settle_seconds,
        alert=AlertConfig(threshold=0.0, raise_seconds=lasting, of_seconds=1.25 * lasting),
    )


def warning_thresholds(terms: MachineSettings, commission: CommissionConfig) -> Thresholds:
    """Thresholds of that: of its alarm, which none reaches, and of its warning."""
    scale = terms.thresholds.scale
    strong = scale.median + commission.strong * (scale.threshold - scale.median)
    return replace(terms.thresholds, alarm=_NEVER, alert=strong, lasting=None, steady=None)


class ShadowAlarm:
    """Decides as the machine's alarm will, and tells nobody.

    Args:
        config: The machine's.
        terms: What its bundle means for it.
        ignore: Sounds from elsewhere that hold a window back.
    """

    def __init__(
        self,
        config: DecideConfig,
        terms: MachineSettings,
        ignore: Collection[ForeignKind] = (),
    ) -> None:
        self._terms = terms
        self._worked_on, self._longest = False, config.shelve_max_seconds
        decider = AlarmDecider(
            # What stands until somebody acknowledges it could not be acknowledged here.
            config.model_copy(update={"latch": False, "realarm_seconds": None}),
            terms.thresholds.alarm,
            alert_threshold=terms.thresholds.alert,
            lasting=terms.thresholds.lasting,
            steady=terms.thresholds.steady,
            hop_seconds=terms.hop_seconds,
            overlap_seconds=terms.overlap_seconds,
            scale=terms.thresholds.scale,
            ignore=ignore,
        )
        self._keeper = AlarmService(decider, lambda _: None)

    def use(self, terms: MachineSettings) -> None:
        """Judge by others from now on."""
        self._terms = terms
        self._keeper.use_thresholds(terms.thresholds, terms.overlap_seconds)

    def decide(
        self,
        judged: ScoredWindow,
        witness: Callable[[Decision], str],
        explain: Callable[[Decision], Explanation | None],
    ) -> Decision:
        """What would be decided on a window; see `AlarmService.decide`."""
        return self._keeper.decide(judged.score, judged.state, witness, explain)

    def work(self, *, going_on: bool) -> None:
        """People work on the machine, or have done with it: what is heard then would be nothing."""
        if going_on != self._worked_on:
            self._worked_on = going_on
            self._keeper.mute(self._longest if going_on else 0.0)

    def published(self, decision: Decision, would: Decision) -> Decision:
        """What the world is told of a window.

        Args:
            decision: Of the alarm that only warns.
            would: Of this one.
        """
        return replace(
            decision,
            threshold=would.threshold,
            exceeded=would.exceeded,
            alert_threshold=would.alert_threshold,
            scale=would.scale,
            events=tuple(self.told(event) for event in decision.events),
        )

    def told(self, event: AlarmEvent) -> AlarmEvent:
        """A warning's event with the threshold that people know."""
        return replace(
            event, threshold=self._terms.thresholds.alarm, scale=self._terms.thresholds.scale
        )
