"""What is told of a machine's bundle: that it was exchanged, put back, or refused."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class BundleEventKind(str, Enum):
    """What happened."""

    SWAPPED = "swapped"  # the machine is judged with another bundle from now on
    ROLLED_BACK = "rolled_back"  # that one failed its trial: the one before it judges again
    SHADOW = "shadow"  # it is commissioned: it listens, and raises no alarms yet
    LIVE = "live"  # that is over: its alarms are told from now on
    REFUSED = "refused"  # another bundle was to be taken up and cannot be used


@dataclass(frozen=True, slots=True)
class BundleEvent:
    """Something that happened to a machine's bundle; whole in itself, so it can be told again.

    Attributes:
        id: The same if it is told twice.
        kind: What happened.
        wall: When, seconds since the epoch.
        reason: Why, in words: who asked, what failed.
        old_digest: `digest` of the manifest used before; of a refusal, of the one still in use;
            empty when there was none.
        new_digest: Of the one used from now on; of a refusal, of the one refused, empty when that
            could not even be read.
        bundle: Folder of the bundle in use from now on; empty when there is none still.
        rows: Rows of its bank.
        version: Version of that bank; 0 as exported.
        threshold: Its threshold, in units of the score; None without a bundle.
    """

    id: str
    kind: BundleEventKind
    wall: float
    reason: str
    old_digest: str
    new_digest: str
    bundle: str
    rows: int
    version: int
    threshold: float | None
