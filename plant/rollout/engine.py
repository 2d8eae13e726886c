"""Carries rollouts out, a step at a time: canaries first, then all; back again where it fails."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from agent.bundle.offer import BundleOffer
from plant.rollout.config import RolloutConfig
from plant.rollout.fleet import Fleet
from plant.rollout.gate import counted_before, known_before, look
from plant.rollout.plan import BACK, OVER, Plans, Rollout, Target
from plant.rollout.repository import Repository
from plant.rollout.signing import OfferSigner

log = logging.getLogger(__name__)

Publish = Callable[[str, str, bytes], None]
"""Publishes an offer, retained: device, machine, payload."""


@dataclass(frozen=True, slots=True)
class Means:
    """What an engine works with.

    Attributes:
        repository: Where bundles are.
        signer: Signs offers.
        fleet: What devices say.
        publish: Publishes offers.
    """

    repository: Repository
    signer: OfferSigner
    fleet: Fleet
    publish: Publish


class RolloutEngine:
    """Carries out the oldest rollout that is running. Each step is saved before it is told.

    Args:
        plans: The rollouts.
        config: What is waited for.
        means: What it works with.
    """

    def __init__(self, plans: Plans, config: RolloutConfig, means: Means) -> None:
        self._plans, self._config, self._means = plans, config, means

    def step(self, now: float) -> Rollout | None:
        """One step.

        Args:
            now: Seconds since the epoch.

        Returns:
            The rollout, after it; None while there is none to carry out.
        """
        self._follow_back(now)
        rollout = self._plans.current()
        if rollout is None:
            return None
        before = rollout
        targets = [self._looked(rollout, one, now) for one in rollout.targets]
        if why := self._why_back(rollout, targets):
            targets = [self._put_back(one, why, now) for one in targets]
            rollout = rollout.model_copy(update={"state": "put back", "why": why})
            log.error("rollout %s is put back: %s", rollout.id, why)
        else:
            if rollout.stage == "all":
                targets = [
                    self._put_back(one, one.reason, now) if one.state == "failed" else one
                    for one in targets
                ]
            canaries = [one for one in targets if one.canary]
            if rollout.stage == "canaries" and all(one.state in OVER for one in canaries):
                rollout = rollout.model_copy(update={"stage": "all"})
                log.info("rollout %s: its canaries are well, all others follow", rollout.id)
            targets = [self._offered(rollout, one, now) for one in targets]
            if all(one.state in OVER for one in targets) and rollout.stage == "all":
                rollout = rollout.model_copy(update={"state": "done"})
                log.info("rollout %s is done", rollout.id)
        rollout = rollout.model_copy(update={"targets": tuple(targets)})
        self._keep(before, rollout)
        return rollout

    def going_back(self, since: float) -> list[Target]:
        """Machines that were put back later than a time, and have not said that they are."""
        return [
            one
            for rollout in self._plans.all()
            for one in rollout.targets
            if one.state == "going back" and one.since > since
        ]

    def _follow_back(self, now: float) -> None:
        """Follow rollouts that are over: who is back, and what an operator wants put back."""
        for rollout in self._plans.all():
            if rollout.state == "running":
                continue
            targets = [
                self._looked(rollout, one, now) if one.state == "going back" else one
                for one in rollout.targets
            ]
            told: dict[str, object] = {}
            if rollout.state == "done" and (why := self._plans.stopped(rollout)):
                targets = [self._put_back(one, why, now) for one in targets]
                told = {"state": "put back", "why": why}
                log.error("rollout %s is put back: %s", rollout.id, why)
            self._keep(rollout, rollout.model_copy(update={"targets": tuple(targets), **told}))

    def _keep(self, before: Rollout, after: Rollout) -> None:
        """Save what has changed, and publish the offers that are new."""
        if after == before:
            return
        self._plans.save(after)
        for old, new in zip(before.targets, after.targets, strict=True):
            if new.offer != old.offer:
                self._means.publish(new.device, new.machine, new.offer.encode())

    def renew(self) -> None:
        """Publish every latest offer again: a broker may have lost what it retained."""
        latest: dict[tuple[str, str], Target] = {}
        for rollout in self._plans.all():
            for one in rollout.targets:
                if one.offer:
                    latest[one.device, one.machine] = one
        for one in latest.values():
            self._means.publish(one.device, one.machine, one.offer.encode())

    def _looked(self, rollout: Rollout, target: Target, now: float) -> Target:
        if target.state not in {"offered", "taken", "going back"}:
            return target
        seen = self._means.fleet.machine(target.device, target.machine)
        found = look(target, seen, self._config.gate, now, as_meant=rollout.as_meant)
        if found.state != target.state:
            said = f": {found.reason}" if found.reason else ""
            log.info("%s/%s: %s%s", target.device, target.machine, found.state, said)
        return found

    def _why_back(self, rollout: Rollout, targets: list[Target]) -> str:
        """Why all machines go back; empty while there is no reason to."""
        if asked := self._plans.stopped(rollout):
            return asked
        failed = [one for one in targets if one.state in BACK | {"failed"}]
        canaries = [one.state for one in targets if one.canary]
        if rollout.stage == "canaries" and set(canaries) == {"away"}:
            return f"no canary has shown how it fares with the bundle: {_first(targets).reason}"
        if not failed:
            return ""
        first = failed[0]
        if rollout.stage == "canaries":
            return f"{first.device}/{first.machine}, a canary: {first.reason}"
        if len(failed) > self._config.most_failed * len(targets):
            return (
                f"{len(failed)} of {len(targets)} machines failed, the first "
                f"{first.device}/{first.machine}: {first.reason}"
            )
        return ""

    def _offered(self, rollout: Rollout, target: Target, now: float) -> Target:
        """A machine that is due gets its offer."""
        if target.state != "pending" or not (target.canary or rollout.stage == "all"):
            return target
        seen = self._means.fleet.machine(target.device, target.machine)
        before = target.before if seen is None or not seen.digest else seen.digest
        reason = f"as meant: {rollout.reason}" if rollout.as_meant else rollout.reason
        offered = self._offer(
            target, target.digest, now, downgrade=rollout.downgrade, reason=reason
        )
        told = {"state": "offered", "since": now, "before": before}
        offered = offered.model_copy(update={**told, "known_before": known_before(seen)})
        return counted_before(offered, seen)

    def _put_back(self, target: Target, why: str, now: float) -> Target:
        """A machine that was offered the bundle is offered the one before."""
        if target.state in BACK | {"pending"}:
            return target
        back = self._means.repository.bundle(target.before) if target.before else None
        if back is None:
            told = "it had no bundle before" if not target.before else "its bundle is not kept here"
            return target.model_copy(
                update={"state": "not put back", "since": now, "reason": f"{why}; {told}"}
            )
        reason = f"put back: {why}"[:200]
        offered = self._offer(target, target.before, now, downgrade=True, reason=reason)
        return offered.model_copy(update={"state": "going back", "since": now, "reason": why})

    def _offer(
        self, target: Target, digest: str, now: float, *, downgrade: bool, reason: str
    ) -> Target:
        bundle = self._means.repository.bundle(digest)
        assert bundle is not None, "planned, or looked up before"
        seen = self._means.fleet.machine(target.device, target.machine)
        latest = 0 if seen is None or seen.offer is None else seen.offer.sequence
        sequence = max(int(now * 1000), latest + 1, target.sequence + 1)
        offer = BundleOffer(
            sequence=sequence,
            device=target.device,
            machine=target.machine,
            digest=digest,
            manifest=bundle.files["manifest.json"].sha256,
            signature=bundle.files["manifest.sig"].sha256,
            downgrade=downgrade,
            reason=reason[:200],
        )
        payload = self._means.signer.sign(offer).decode()
        return target.model_copy(update={"sequence": sequence, "offer": payload})


def _first(targets: list[Target]) -> Target:
    return next(one for one in targets if one.canary)
