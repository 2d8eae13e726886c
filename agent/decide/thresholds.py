"""The thresholds a machine is judged by: configured, promised in days, or the bundle's own."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from agent.bundle.manifest import HEALTHY_SCORES, Manifest
from agent.calibrate.limits import HealthyScores
from agent.calibrate.rate import Counting, measure_correlation, window_rate
from agent.calibrate.rules import Limit, find_limit
from agent.calibrate.sight import passing_words, sight_at
from agent.config.decide import Amounts, DecideConfig, FalseAlarms
from agent.config.threshold import ThresholdRule
from agent.core.errors import ConfigError
from agent.core.scale import Scale, measure_spread, scale_of
from agent.score.sessions import one_session

# Seconds of sound are drawn in so many windows at most.
_FINEST = 60
# An early warning may be wrong so many times as often as the alarm.
_ALERTS_AN_ALARM = 4.0
# With fewer healthy windows an alert's quantile is guesswork.
_FEWEST_WINDOWS = 50


@dataclass(frozen=True, slots=True)
class Steady:
    """When weak sound that stays for minutes is an alert.

    Attributes:
        threshold: A window scoring above this speaks for it, raw; below the alert's.
        amounts: How much of such sound.
    """

    threshold: float
    amounts: Amounts


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What windows are compared with: raw scores.

    Attributes:
        alarm: A window scoring above this is anomalous.
        alert: The same for an alert; None without alerts.
        lasting: How much sound above the alert's makes an alarm of it; None for none.
        scale: What people see of scores: the alarm's threshold is 1.0 there.
        notes: What a person should know of how they were found.
        promise: What is promised, and what that costs, in words; empty where it isn't known.
        blind: What to do about a threshold beyond every known fault; empty while one is seen.
        one_day: Why nothing is promised for other days than the recordings' own, in words; empty
            where several are known, or when they were made is not.
        steady: When sound too weak for an alert is one because it stays; None for never.
    """

    alarm: float
    alert: float | None
    scale: Scale
    notes: tuple[str, ...] = ()
    promise: tuple[str, ...] = ()
    blind: str = ""
    lasting: Amounts | None = None
    one_day: str = ""
    steady: Steady | None = None

    @property
    def each(self) -> tuple[float, float | None, float | None]:
        """The raw thresholds of alarm, alert and steady sound; None without the latter."""
        return self.alarm, self.alert, None if self.steady is None else self.steady.threshold

    @property
    def lowest(self) -> float:
        """The raw score above which a window speaks for anything at all."""
        return min(one for one in self.each if one is not None)


def find_thresholds(
    config: DecideConfig, manifest: Manifest, healthy: HealthyScores | None, hop_seconds: float
) -> Thresholds:
    """Find both thresholds.

    Args:
        config: What the user asks for.
        manifest: The bundle's.
        healthy: Its healthy scores; None when it was exported without.
        hop_seconds: Step between windows on this device.

    Raises:
        ConfigError: A promise in days is asked for of a bundle without healthy scores.
    """
    notes: list[str] = []
    alarm = manifest.threshold.value if config.threshold is None else config.threshold
    if config.false_alarms is not None:
        found = _promised(config.false_alarms, config.amounts, manifest, healthy, hop_seconds)
        alarm = found.value
        notes.append(_words("alarm", config.false_alarms, found))
    alert, promised = _alert(config, manifest, healthy, hop_seconds, notes)
    lasting = None
    if config.alert is not None and alert is not None:
        lasting = config.alert.escalation(config.clear_seconds, promised=promised)
    steady = None
    if alert is not None and promised:
        steady = _steady(config, manifest, healthy, hop_seconds, min(alert, alarm), notes)
    scale = scale_of(alarm, None if healthy is None else measure_spread(healthy.scores))
    promise, blind = _cost(config, manifest, alarm)
    one_day = "" if healthy is None or config.threshold is not None else one_session(healthy.rows)
    if one_day:
        promise = (one_day, *promise)
    if promise and lasting is not None and alert is not None:
        still = (
            f"what stays above {min(alert, alarm):.4g} for {lasting.raise_after:g} of "
            f"{lasting.within:g} s is an alarm all the same"
        )
        promise = (*promise, still)
    if promise and steady is not None:
        amounts = steady.amounts
        slow = (
            f"what stays above {steady.threshold:.4g} for {amounts.raise_after:g} of "
            f"{amounts.within:g} s is an alert"
        )
        promise = (*promise, slow)
    return Thresholds(
        alarm,
        None if alert is None else min(alert, alarm),
        scale,
        (*notes, *promise),
        promise,
        blind,
        lasting,
        one_day,
        steady,
    )


def _as_promised(amounts: Amounts) -> bool:
    """Whether no less evidence raises than the promise was found for."""
    usual = DecideConfig().amounts
    return (amounts.raise_after, amounts.within, amounts.clear_after, amounts.in_windows) == (
        usual.raise_after, usual.within, usual.clear_after, usual.in_windows,
    )  # fmt: skip


def _cost(config: DecideConfig, manifest: Manifest, alarm: float) -> tuple[tuple[str, ...], str]:
    """What is promised and what passes below the threshold, in words; what to do when blind."""
    sight = manifest.sight
    if sight is None:
        return (), ""
    own = config.threshold is None and config.false_alarms is None
    promised = sight.kept if own else config.false_alarms
    seen = sight_at(alarm, sight)
    words = []
    if promised is not None and own and not _as_promised(config.amounts):
        words.append(
            f"the bundle's promise ({promised.words}) is for alarms of "
            f"{DecideConfig().amounts.words}, and decide asks for other evidence: give "
            "decide.false_alarms to have it kept"
        )
    elif promised is not None:
        words.append(f"promise: {promised.words} of running")
    words += passing_words(alarm, seen)
    if not seen.blind:
        return tuple(words), ""
    return ("BLIND: no known fault would raise an alarm", *words), (
        f"Its threshold lies beyond every fault known: {seen.text}. "
        + (sight.advice if own else "Ask for a laxer promise (decide.false_alarms) or threshold.")
    )


def counting_of(amounts: Amounts, hop_seconds: float, window_seconds: float) -> Counting:
    """How windows become alarms, for drawing them: seconds of sound as windows of their hop.

    Args:
        amounts: How much evidence raises and clears.
        hop_seconds: Step between windows on the device.
        window_seconds: Length of a window.
    """
    if amounts.in_windows:
        return Counting(
            hop_seconds, window_seconds,
            int(amounts.raise_after), int(amounts.within), int(amounts.clear_after),
        )  # fmt: skip
    # A finer hop adds windows that say what their neighbours say.
    hop = max(min(hop_seconds, window_seconds), amounts.within / _FINEST)
    raised, of, clear = (
        math.ceil(seconds / hop - 1e-6)
        for seconds in (amounts.raise_after, amounts.within, amounts.clear_after)
    )
    return Counting(hop, window_seconds, raised, max(raised, of), clear)


def _alert(
    config: DecideConfig,
    manifest: Manifest,
    healthy: HealthyScores | None,
    hop_seconds: float,
    notes: list[str],
) -> tuple[float | None, bool]:
    """The alert's threshold, and whether it was found for a promise."""
    asked = config.alert
    if asked is None or asked.threshold is not None:
        return (None if asked is None else asked.threshold), False
    promise, kept = asked.false_alarms, _kept(config, manifest, healthy)
    if promise is None and kept is not None:
        promise = kept.model_copy(update={"at_most": _ALERTS_AN_ALARM * kept.at_most})
    amounts = config.alert_amounts
    if promise is not None and amounts is not None:
        found = _promised(promise, amounts, manifest, healthy, hop_seconds)
        notes.append(_words("alert", promise, found))
        return found.value, True
    known = 0 if healthy is None else int(np.isfinite(healthy.scores).sum())
    if healthy is None or known < _FEWEST_WINDOWS:
        notes.append(
            f"no alerts are given: the bundle has {known} healthy scores, and a threshold for them "
            f"takes {_FEWEST_WINDOWS}"
        )
        return None, False
    rule = manifest.threshold.rule or ThresholdRule(false_alarm_rate=asked.windows_above)
    # k of mean + k sigma is the alarm's; an alert is asked for by its rate.
    changes = {"false_alarm_rate": asked.windows_above, "sigmas": None, "sure": False}
    return _limit(healthy, rule.model_copy(update=changes)).value, False


def _kept(
    config: DecideConfig, manifest: Manifest, healthy: HealthyScores | None
) -> FalseAlarms | None:
    """What the alarm promises; None where its threshold wasn't found for a promise."""
    kept = config.false_alarms
    if kept is None and config.threshold is None and healthy is not None and manifest.sight:
        kept = manifest.sight.kept
    return kept


def _steady(
    config: DecideConfig,
    manifest: Manifest,
    healthy: HealthyScores | None,
    hop_seconds: float,
    alert: float,
    notes: list[str],
) -> Steady | None:
    """When weak sound that stays is an alert; None where there is no promise to find it for."""
    amounts = None if config.alert is None else config.alert.steady(config.clear_seconds)
    promise = _kept(config, manifest, healthy)
    if amounts is None or promise is None:
        return None
    found = _promised(promise, amounts, manifest, healthy, hop_seconds, lasting=amounts.within)
    if found.value >= alert:
        return None  # the alert's own evidence comes sooner
    notes.append(_words("alert for what stays", promise, found))
    return Steady(found.value, amounts)


def _promised(
    promise: FalseAlarms,
    amounts: Amounts,
    manifest: Manifest,
    healthy: HealthyScores | None,
    hop_seconds: float,
    lasting: float = 0.0,
) -> Limit:
    if healthy is None or np.isfinite(healthy.scores).sum() < 2:
        raise ConfigError(
            f"false_alarms needs the healthy scores, and the bundle has no {HEALTHY_SCORES}",
            where="decide",
            remedy="Export the bundle again, or give decide.threshold instead.",
        )
    counting = counting_of(amounts, hop_seconds, manifest.window_seconds)
    correlation = measure_correlation(healthy.scores, healthy.rows, manifest.window_seconds)
    # Rarer than anything that was recorded: a fitted tail, whatever rule the bundle's own has.
    rate = window_rate(promise.per_second, counting, correlation, lasting)
    return _limit(healthy, ThresholdRule(false_alarm_rate=rate, sure=True))


def _limit(healthy: HealthyScores, rule: ThresholdRule) -> Limit:
    values, rows = healthy.known()
    return find_limit(values, [row.group for row in rows], [row.domain for row in rows], rule)


def _words(level: str, promise: FalseAlarms, found: Limit) -> str:
    text = (
        f"{level} above {found.value:.4g}, for at most {promise.at_most:g} false in "
        f"{promise.per_days:g} days: {found.rate:.2g} of the windows may exceed it ({found.how})"
    )
    return f"{text}; {found.caveat}" if found.caveat else text
