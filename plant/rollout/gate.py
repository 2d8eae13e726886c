"""Is a machine well with its new bundle? By what its own device says."""

from __future__ import annotations

from agent.bundle.offer import IN_USE
from plant.rollout.config import GateConfig
from plant.rollout.fleet import Counted, MachineSeen
from plant.rollout.plan import Target


def look(target: Target, seen: MachineSeen | None, gate: GateConfig, now: float) -> Target:
    """How far a machine is now.

    Args:
        target: How far it was; offered or taken.
        seen: What its device says; None where it was never heard of.
        gate: What it must show.
        now: Seconds since the epoch.

    Returns:
        The same, or further: taken, passed, failed (with the reason) or away; put back or not put
        back.
    """
    if target.state == "going back":
        return _back(target, seen, now)
    if seen is None:
        return _away(target, gate, now)
    offer = seen.offer
    ours = offer is not None and offer.sequence == target.sequence
    if target.state == "offered":
        if ours and offer is not None and offer.state == "refused":
            return _failed(target, f"refused: {offer.reason}", now)
        if ours and offer is not None and offer.state == "taken":
            counted = None if seen.counted is None else _tuple(seen.counted)
            # A bank that has grown from this very bundle goes on: nothing was exchanged.
            before = "" if offer.reason == IN_USE else target.before
            told = {"state": "taken", "since": now, "last": counted, "before": before}
            return target.model_copy(update=told)
        return _away(target, gate, now)
    return _watched(target, seen, gate, now)


def _watched(target: Target, seen: MachineSeen, gate: GateConfig, now: float) -> Target:
    """A machine that has taken the bundle."""
    if seen.digest and seen.digest == target.before and target.before != target.digest:
        return _failed(target, "the device itself went back: the bundle failed its trial", now)
    if not seen.digest and target.before:
        return _failed(target, "the machine is judged by no bundle any more", now)
    target = _counted(target, seen)
    windows, exceeded, raised = target.counts
    if raised > gate.most_alarms:
        return _failed(target, f"{raised} alarms within {now - target.since:.0f} s", now)
    if windows >= gate.least_windows and exceeded > gate.most_exceeded * windows:
        return _failed(target, f"{exceeded} of {windows} windows are above the threshold", now)
    if windows >= gate.least_windows and now - target.since >= gate.watch_seconds and seen.online:
        return target.model_copy(update={"state": "passed", "since": now})
    if now - target.since >= gate.watch_seconds + gate.take_seconds:
        reason = f"it has judged {windows} windows since, so nothing is known of it"
        return target.model_copy(update={"state": "away", "since": now, "reason": reason})
    return target


def _back(target: Target, seen: MachineSeen | None, now: float) -> Target:
    """A machine that was offered the bundle before: back when its device says so."""
    offer = None if seen is None else seen.offer
    if offer is None or offer.sequence < target.sequence:
        return target
    if offer.sequence > target.sequence:
        told = "; another offer came after that of the one before"
    elif offer.state == "refused":
        told = f"; the device does not take the one before: {offer.reason}"
    elif offer.state == "taken":
        return target.model_copy(update={"state": "put back", "since": now})
    else:
        return target
    reason = target.reason + told
    return target.model_copy(update={"state": "not put back", "since": now, "reason": reason})


def _counted(target: Target, seen: MachineSeen) -> Target:
    """With what the device has counted since the last look."""
    if seen.counted is None:
        return target
    if target.last is None:
        return target.model_copy(update={"last": _tuple(seen.counted)})
    more = seen.counted.since(Counted(*target.last))
    counts = Counted(*target.counts).plus(more)
    return target.model_copy(update={"last": _tuple(seen.counted), "counts": _tuple(counts)})


def _away(target: Target, gate: GateConfig, now: float) -> Target:
    if now - target.since < gate.take_seconds:
        return target
    reason = "it has not taken the bundle in time; the offer stays"
    return target.model_copy(update={"state": "away", "since": now, "reason": reason})


def _failed(target: Target, reason: str, now: float) -> Target:
    return target.model_copy(update={"state": "failed", "since": now, "reason": reason})


def _tuple(counted: Counted) -> tuple[int, int, int]:
    return counted.windows, counted.exceeded, counted.raised
