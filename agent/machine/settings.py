"""What a bundle means for a machine: its thresholds and its steps of time."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from agent.activity.cutter import Following
from agent.config.agent import MachineConfig
from agent.core.errors import BundleError, ConfigError
from agent.core.levels import LevelRange
from agent.decide.thresholds import Thresholds, find_thresholds
from agent.deploy.load import Bundle
from agent.level.ignore import level_free

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MachineSettings:
    """How a machine is judged with a bundle.

    Attributes:
        thresholds: Of its alarm and alert.
        hop_seconds: Step between windows; the closest where it varies.
        hop_samples: The same, samples at the encoder's rate.
        calm_hops: So many of them lie between windows while all is calm; 1 where it is fixed.
        overlap_seconds: How long a window waits for an idle one that overlaps it.
        drift_seconds: Step between the windows that the drift monitor takes.
        levels: Levels at which a window may be judged.
        following: How it is followed what the machine does; None where that is ignored.
    """

    thresholds: Thresholds
    hop_seconds: float
    hop_samples: int
    overlap_seconds: float
    drift_seconds: float
    levels: LevelRange
    following: Following | None = None
    calm_hops: int = 1


def settings_of(config: MachineConfig, bundle: Bundle) -> MachineSettings:
    """What a bundle means for a machine.

    Args:
        config: The machine.
        bundle: Opened.

    Raises:
        ConfigError: The bundle cannot give the thresholds that are asked for.
    """
    manifest = bundle.manifest
    steps = config.hop_of(manifest.hop_seconds, manifest.window_seconds)
    hop = steps.seconds
    thresholds = find_thresholds(config.decide, manifest, bundle.healthy, hop)
    for note in thresholds.notes:
        log.info("%s: %s", config.name, note)
    idle_told = bundle.gate is not None and config.decide.idle == "suppress"
    levels = config.validity.levels(manifest.trained_on.level_dbfs)
    following = None
    if config.decide.idle == "suppress":
        following = Following(
            bundle.still, levels, settle_seconds=config.decide.idle_settle_seconds
        )
    return MachineSettings(
        thresholds=thresholds,
        hop_seconds=hop,
        hop_samples=max(1, round(hop * manifest.encoder.sample_rate)),
        # Where half seconds are told apart, no window that is judged holds any of a stop.
        overlap_seconds=manifest.window_seconds if idle_told and bundle.still is None else 0.0,
        drift_seconds=(
            manifest.window_seconds if manifest.drift is None else manifest.drift.step_seconds
        ),
        levels=levels,
        following=following,
        calm_hops=round(steps.calm / hop),
    )


def adapted(config: MachineConfig, state: Path, bundle: Bundle) -> Bundle:
    """The bundle that judges a machine: without level, where its configuration ignores that.

    Args:
        config: The machine.
        state: The agent's state directory, which keeps what has to be learnt for it.
        bundle: Opened.

    Raises:
        BundleError: It cannot judge so.
    """
    if config.level == "judge":
        return bundle
    return level_free(bundle, state / "level-free" / config.name)


def suits(config: MachineConfig, bundle: Bundle) -> None:
    """See that a bundle can judge a machine as its configuration asks.

    Raises:
        BundleError: It cannot give the thresholds that are asked for.
    """
    try:
        find_thresholds(
            config.decide, bundle.manifest, bundle.healthy,
            config.hop_of(bundle.manifest.hop_seconds, bundle.manifest.window_seconds).seconds,
        )  # fmt: skip
    except ConfigError as fault:
        raise BundleError(fault.problem, where=bundle.path, remedy=fault.remedy) from fault
