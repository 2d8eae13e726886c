"""The threshold by the sound of the place where the microphone hangs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from agent.bundle.manifest import Manifest
from agent.calibrate.rules import find_limit
from agent.commission.memory import Heard
from agent.config.threshold import ThresholdRule
from agent.core.scale import Scale

# Ten minutes of running are one recording: sound closer together is alike.
BLOCK_SECONDS = 600.0
# With less than this, the bundle's own threshold is the surer one.
_FEWEST_BLOCKS, _FEWEST_SCORES = 20, 300


@dataclass(frozen=True, slots=True)
class Found:
    """A threshold.

    Attributes:
        value: Raw; None for the bundle's own.
        how: How it was found, or why it wasn't.
    """

    value: float | None
    how: str


def place_threshold(
    heard: Sequence[Heard], healthy: Collection[str], manifest: Manifest, scale: Scale
) -> Found:
    """Find it by the bundle's own rule from what was heard here.

    Args:
        heard: Scores in the order they were heard.
        healthy: Would-be alarms that somebody called healthy; what was heard in others is left out.
        manifest: Of the bundle that scored them.
        scale: What people see of scores; where its zone D begins.
    """
    kept = [one for one in heard if not one.alarm_id or one.alarm_id in healthy]
    blocks = {one.block for one in kept}
    if len(blocks) < _FEWEST_BLOCKS or len(kept) < _FEWEST_SCORES:
        minutes = len(kept) * manifest.window_seconds / 60
        least = _FEWEST_BLOCKS * BLOCK_SECONDS / 60
        return Found(
            None,
            f"the bundle's own threshold stays: {minutes:.1f} minutes of running were heard, and "
            f"one of the place takes {least:.0f}",
        )
    rule = manifest.threshold.rule or ThresholdRule(
        false_alarm_rate=manifest.threshold.false_alarm_rate
    )
    limit = find_limit(
        np.array([one.score for one in kept]),
        [str(one.block) for one in kept],
        ["unknown"] * len(kept),
        rule,
    )
    if limit.value >= scale.severe:
        return Found(
            None,
            f"the bundle's own threshold stays: that of the place, {limit.value:.4g}, is as high "
            f"as what training calls severe ({scale.severe:.4g}), and would be deaf; something "
            "here sounds otherwise than in the recordings, or is broken",
        )
    return Found(
        limit.value,
        f"threshold {limit.value:.4g} from {len(kept)} scores of the place, where the bundle's own "
        f"is {scale.threshold:.4g} ({limit.how})",
    )
