"""Would a grown bank still raise the alarms that were real?"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agent.bank.sound import alarm_sound, cut
from agent.core.errors import AuscultError
from agent.core.records import Matrix
from agent.deploy.load import Bundle
from agent.evidence.record import alarm_folders, read_feedback
from agent.score.gate import IdleGate
from agent.score.scorer import Scorer

log = logging.getLogger(__name__)

# An alarm is silenced when fewer than this share of its anomalous windows stay above the threshold.
_STILL = 0.5


@dataclass(frozen=True, slots=True)
class KnownAlarm:
    """An alarm that no person has called false.

    Attributes:
        alarm_id: The alarm.
        vectors: Embeddings of its anomalous windows, float32 `(n, dim)`, n >= 1.
    """

    alarm_id: str
    vectors: Matrix


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a known alarm.

    Attributes:
        alarm_id: The alarm.
        before: Of its windows, those above the threshold today.
        after: Of those, how many still would be.
    """

    alarm_id: str
    before: int
    after: int

    @property
    def silenced(self) -> bool:
        """Whether the alarm would hardly be raised again."""
        return self.before > 0 and (self.after == 0 or self.after < _STILL * self.before)


def known_alarms(root: Path, bundle: Bundle) -> tuple[list[KnownAlarm], list[str]]:
    """Embed the anomalous windows of every alarm in a machine's evidence.

    Args:
        root: The machine's folder of evidence; nothing is known when it does not exist.
        bundle: Its encoder, started.

    Returns:
        The alarms but those answered `normal`, and what could not be read, in words.
    """
    found, bad = [], []
    for folder in alarm_folders(root):
        try:
            feedback = read_feedback(folder)
            if feedback is not None and feedback.verdict == "normal":
                continue
            windows = [window for _, window in cut(alarm_sound(folder), bundle)]
        except AuscultError as fault:
            bad.append(str(fault))
            continue
        if windows:
            vectors = np.concatenate([bundle.encoder.encode(w[None]) for w in windows])
            good = vectors[np.isfinite(vectors).all(axis=1)]
            if len(good):
                found.append(KnownAlarm(folder.name, good))
    return found, bad


def try_alarms(
    alarms: Sequence[KnownAlarm],
    bundle: Bundle,
    scorer: Scorer,
    threshold: float,
    gate: IdleGate | None = None,
) -> list[Verdict]:
    """Score known alarms before and after.

    Args:
        alarms: What is known.
        bundle: The bank in use.
        scorer: The bank to be.
        threshold: Its threshold.
        gate: Its idle gate: what it calls idle raises no alarm.
    """
    verdicts = []
    for alarm in alarms:
        before, _ = bundle.scorer.score(alarm.vectors)
        # Raised by an older bundle, an alarm may be none to today's: it cannot be silenced.
        heard = before > bundle.manifest.threshold.value
        after, _ = scorer.score(alarm.vectors)
        still = after > threshold
        if gate is not None:
            still &= ~gate.idle(alarm.vectors)
        verdicts.append(Verdict(alarm.alarm_id, int(heard.sum()), int(still[heard].sum())))
    return verdicts
