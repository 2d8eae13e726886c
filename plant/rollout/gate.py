"""Is a machine well with its new bundle? By what its own device says."""

from __future__ import annotations

from agent.bundle.offer import IN_USE
from plant.rollout.config import GateConfig
from plant.rollout.fleet import Counted, MachineSeen, RecognitionTold
from plant.rollout.plan import KnownBefore, Target

_MEANT = (
    "; learn it from recordings of this machine where it hangs, or if it is meant all the same: "
    "`auscult plant offer ... --as-meant --reason WHY`"
)
# Nearer than this, in healthy spreads, is near, whatever the bundle before was.
_NEAR = 1.0
# Fewer windows may be of one recording's length, which one of two bundles happens to know well.
_FAIR_WINDOWS = 60


def look(
    target: Target,
    seen: MachineSeen | None,
    gate: GateConfig,
    now: float,
    *,
    as_meant: bool = False,
) -> Target:
    """How far a machine is now.

    Args:
        target: How far it was; offered or taken.
        seen: What its device says; None where it was never heard of.
        gate: What it must show.
        now: Seconds since the epoch.
        as_meant: An operator says that the bundle is meant: it need not be recognised.

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
            if target.last is not None and _judged_with(seen) == target.digest:
                # What has happened with it since it was taken up is its own doing.
                counted = target.last
            # A bank that has grown from this very bundle goes on: nothing was exchanged.
            before = "" if offer.reason == IN_USE else target.before
            told = {"state": "taken", "since": now, "last": counted, "before": before}
            return target.model_copy(update=told)
        return _away(counted_before(target, seen), gate, now)
    if as_meant:
        gate = gate.model_copy(update={"recognise": False})
    return _watched(target, seen, gate, now)


def counted_before(target: Target, seen: MachineSeen | None) -> Target:
    """With what the device had counted when it was last heard of by the bundle before."""
    if seen is None or seen.counted is None or _judged_with(seen) == target.digest:
        return target
    return target.model_copy(update={"last": _tuple(seen.counted)})


def known_before(seen: MachineSeen | None) -> KnownBefore | None:
    """How a machine is known by the bundle that it runs now; None where its device does not say."""
    if seen is None or not seen.digest:
        return None
    told = seen.recognition
    if told is not None and told.bundle != seen.digest:
        told = None
    return KnownBefore(
        blind=bool(seen.blind),
        recognised=told is None or told.state != "no",
    )


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
    told = seen.recognition if gate.recognise else None
    if told is not None and told.bundle != target.digest:
        told = None
    if (
        gate.recognise
        and seen.digest == target.digest
        and (why := _unknown(target, seen, told, gate))
    ):
        return _failed(target, why + _MEANT, now)
    waits = told is not None and told.state == "waiting"
    long = now - target.since >= gate.watch_seconds
    if windows >= gate.least_windows and long and seen.online and not waits:
        return target.model_copy(update={"state": "passed", "since": now})
    if now - target.since >= gate.watch_seconds + gate.take_seconds:
        reason = f"it has judged {windows} windows since, so nothing is known of it"
        return target.model_copy(update={"state": "away", "since": now, "reason": reason})
    return target


def _unknown(
    target: Target, seen: MachineSeen, told: RecognitionTold | None, gate: GateConfig
) -> str:
    """Why the bundle does not know this machine; empty while nothing says so.

    Args:
        target: How far it was.
        seen: What its device says, of this bundle.
        told: Whether it recognises the machine; None where it does not say.
        gate: What it must show.
    """
    before = target.known_before
    if seen.blind and not (before is not None and before.blind):
        return f"it would see no known fault: {seen.blind.rstrip('. ')}"
    if told is None:
        return ""
    distance, was = told.distance, told.before
    if told.state == "no" and told.heard >= gate.least_windows:
        # What was no better before is no reason to go back to it.
        worse = distance is None or was is None or distance > was
        if before is None or before.recognised or worse:
            return told.why
    if distance is None or was is None or told.windows < max(gate.least_windows, _FAIR_WINDOWS):
        return ""
    if distance < max(_NEAR, gate.most_farther * was):
        return ""
    return (
        f"what is heard lies {distance:g} of its spreads from what it learnt, and {was:g} from "
        "what the bundle before learnt"
    )


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


def _judged_with(seen: MachineSeen) -> str:
    """Digest of the bundle in use when counts were told; empty where the device does not say."""
    return "" if seen.recognition is None else seen.recognition.bundle


def _away(target: Target, gate: GateConfig, now: float) -> Target:
    if now - target.since < gate.take_seconds:
        return target
    reason = "it has not taken the bundle in time; the offer stays"
    return target.model_copy(update={"state": "away", "since": now, "reason": reason})


def _failed(target: Target, reason: str, now: float) -> Target:
    return target.model_copy(update={"state": "failed", "since": now, "reason": reason})


def _tuple(counted: Counted) -> tuple[int, int, int]:
    return counted.windows, counted.exceeded, counted.raised
