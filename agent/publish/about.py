"""What the agent tells of itself: `info` at each connection, `health` now and then."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

from agent import __version__
from agent.core.clock import WALL_CLOCK, utc
from agent.core.cloud_event import Message
from agent.core.recognition import Recognition
from agent.deploy.load import Bundle
from agent.level.machine import MachineLevel
from agent.level.words import microphone_words
from agent.monitor.observed import Machine, OutboxHealth
from agent.publish.device_payloads import (
    BundleInfo,
    Health,
    Info,
    LevelBaselineInfo,
    LevelHandling,
    MachineHealth,
    MonthOfAlarms,
)
from agent.publish.outbox import Outbox
from agent.publish.proof import DeliveryProof

_MOST_MONTHS = 12


class Listening(Machine, Protocol):
    """One machine's path from sound to decision, as far as its health is told."""

    @property
    def recognition(self) -> Recognition | None:
        """Whether its bundle recognises it; None without a bundle."""
        ...

    @property
    def months(self) -> Sequence[MonthOfAlarms]:
        """What became of its alarms, by month, the latest first."""
        ...


def bundle_info(
    bundle: Bundle, level: LevelHandling, promise: Sequence[str] = (), blind: str = ""
) -> BundleInfo:
    """What `info` tells of a bundle.

    Args:
        bundle: In use.
        level: What the machine's level counts for.
        promise: What its threshold promises, and what that costs, in words.
        blind: What to do where that sees no known fault; empty where it sees one.
    """
    manifest = bundle.manifest
    return BundleInfo(
        bundle=bundle.path.resolve().name,
        manifest_sha256=manifest.digest,
        created=manifest.created,
        auscult_version=manifest.auscult_version,
        trained_on=manifest.trained_on.machine,
        preset=manifest.trained_on.preset,
        encoder=manifest.encoder.kind,
        precision=manifest.encoder.precision,
        sample_rate=manifest.encoder.sample_rate,
        window_seconds=manifest.window_seconds,
        rows=len(bundle.rows),
        threshold=manifest.threshold.value,
        caveat=manifest.threshold.caveat,
        promise=list(promise),
        blind=blind,
        level=level,
    )


def level_of(mode: Literal["judge", "ignore"], level: MachineLevel | None) -> LevelHandling:
    """What `info` tells of a machine's level.

    Args:
        mode: As configured.
        level: How it stands; None before the machine is listened to.
    """
    held = None if level is None else level.held
    return LevelHandling(
        mode=mode,
        note="" if level is None else level.note,
        baseline=None
        if held is None
        else LevelBaselineInfo(
            decibels=held.decibels,
            microphone="" if held.bands is None else microphone_words(held),
            operator=held.operator,
            comment=held.comment,
            time=held.time,
        ),
    )


def info_message(
    device: str, bundles: Mapping[str, BundleInfo | None], commands: Sequence[str]
) -> Message:
    """What the agent is made of (`info`, retained).

    Args:
        device: This device's name.
        bundles: By machine, its bundle; None where there is none yet.
        commands: Commands it takes.
    """
    return Info(
        device=device,
        time=utc(time.time()),
        version=__version__,
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.release()} {platform.machine()}",
        machines=dict(bundles),
        commands=sorted(commands),
    ).model_dump(mode="json")


def health_message(
    device: str,
    machines: Sequence[Listening],
    outbox: Outbox,
    *,
    uptime: float,
    reconnects: int,
    refused: int,
    proof: DeliveryProof,
) -> Message:
    """How the agent is (`health`).

    Args:
        device: This device's name.
        machines: What is listened to.
        outbox: What is on its way.
        uptime: Since the start, seconds.
        reconnects: Connections to the broker after the first.
        refused: Messages the broker refused.
        proof: What is known of their arrival.
    """
    return Health(
        device=device,
        time=utc(time.time()),
        clock=WALL_CLOCK.quality,
        uptime_seconds=round(uptime, 1),
        reconnects=reconnects,
        outbox=outbox_health(outbox, refused, proof),
        machines={machine.name: machine_health(machine) for machine in machines},
    ).model_dump(mode="json")


def outbox_health(outbox: Outbox, refused: int, proof: DeliveryProof) -> OutboxHealth:
    """How delivery goes.

    Args:
        outbox: What is on its way.
        refused: Messages the broker refused.
        proof: What is known of their arrival.
    """
    store = outbox.store
    return OutboxHealth(
        undelivered=store.undelivered,
        acknowledged=store.acknowledged,
        unsaved=store.unsaved,
        disk_failures=store.file.failures,
        damaged_files=store.file.damaged,
        damaged_events=store.quarantined,
        vanished_events=store.vanished,
        dropped_telemetry=outbox.dropped_telemetry,
        refused=refused,
        proof=proof.by,
        denied_topics=sorted(proof.denied),
    )


def machine_health(machine: Listening) -> MachineHealth:
    """How the listening to one machine goes."""
    counters, last = machine.counters, machine.counters.last_window
    return MachineHealth(
        windows=counters.windows,
        judged=counters.judged,
        recognition=machine.recognition,
        invalid=dict(counters.invalid),
        exceeded=counters.exceeded,
        raised=counters.raised,
        dropped=counters.dropped,
        unjudged=counters.unjudged,
        missing=list(machine.missing),
        remarks=list(machine.remarks),
        months=list(machine.months[:_MOST_MONTHS]),
        validity=counters.validity,
        reason=counters.reason,
        faults=dict(machine.faults()),
        # The tally keeps monotonic time; people read a clock.
        last_window=None if last is None else utc(time.time() - (time.monotonic() - last)),
        inference_seconds=round(counters.inference_seconds, 3),
    )
