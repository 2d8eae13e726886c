"""Which bundle a machine is judged with, remembered, so that every change of it is told once.

As with alarms, an event is on disk before it is told and struck off afterwards: a crash at any
moment tells it late or twice, with the same id, and never leaves it untold. A bundle that was
exchanged while the agent was not running is told at its next start.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from pydantic import Field

from agent.bundle.events import BundleEvent, BundleEventKind
from agent.core.schema import Strict
from agent.core.state_file import StateFile
from agent.deploy.load import Bundle

_REASON_LENGTH = 500


class LedgerMemory(Strict):
    """`state/bundles/<machine>.json`."""

    digest: Annotated[str, Field(description="`digest` of the manifest in use; empty before")] = ""
    refused: Annotated[
        str, Field(description="What was refused last and why, so that it is told once")
    ] = ""
    untold: Annotated[
        tuple[BundleEvent, ...], Field(description="Events that may not have been told yet")
    ] = ()


class BundleLedger:
    """One machine's. A fault of the disk costs what a restart would tell, never the event itself.

    Args:
        path: The file; its folder is made when needed.
        tell: Takes each event.
    """

    def __init__(self, path: Path, tell: Callable[[BundleEvent], None]) -> None:
        self._file = StateFile(
            path, LedgerMemory, what="which bundle is in use", otherwise="no change is claimed"
        )
        self._tell = tell
        self._memory = LedgerMemory()
        self._lock = threading.Lock()

    def begin(
        self,
        bundle: Bundle | None,
        refusal: str = "",
        refused: str = "",
        doubt: str = "",
        *,
        missing: bool = False,
    ) -> None:
        """The agent has started with a bundle: tell what was not told, and what is new.

        Args:
            bundle: In use; None when there is none yet.
            refusal: Why the bundle that was wanted could not be used; empty when it could.
            refused: That one's digest, when it could be read.
            doubt: Why the one in use may not have been meant to be; empty without a reason.
            missing: Nothing of the wanted one is there.
        """
        with self._lock:
            self._memory = self._file.load_or_new()
            before = self._memory.digest
            self._hand_over(self._memory.untold, bundle)
            if bundle is not None and before and before != bundle.manifest.digest:
                reason = f"found at the start; it {doubt}" if doubt else "found at the start"
                event = _event(BundleEventKind.SWAPPED, bundle, reason, old=before)
                self._hand_over((event,), bundle)
            else:
                self._hand_over((), bundle)
        if refusal:
            self.refused(bundle, refused, refusal, missing=missing)
        elif bundle is not None and bundle.fallback:
            self.refused(bundle, bundle.manifest.digest, bundle.fallback)

    def swapped(self, old: Bundle | None, new: Bundle, reason: str) -> None:
        """Another bundle is in use, or the first."""
        event = _event(BundleEventKind.SWAPPED, new, reason, old=_digest(old))
        with self._lock:
            self._memory = self._memory.model_copy(update={"refused": ""})
            self._hand_over((event,), new)
        if new.fallback:
            self.refused(new, new.manifest.digest, new.fallback)

    def rolled_back(self, failed: Bundle, before: Bundle | None, reason: str) -> None:
        """The one before is in use again, or none."""
        event = _event(BundleEventKind.ROLLED_BACK, before, reason, old=failed.manifest.digest)
        with self._lock:
            self._hand_over((event,), before)

    def noted(self, kind: BundleEventKind, present: Bundle | None, reason: str) -> None:
        """The bundle in use begins to listen in shadow, or goes live."""
        event = _event(kind, present, reason, old=_digest(present))
        with self._lock:
            self._hand_over((event,), present)

    def refused(
        self, present: Bundle | None, digest: str, reason: str, *, missing: bool = False
    ) -> None:
        """Another bundle, or this one's INT8 graph, cannot be used; told once for each reason.

        Args:
            present: The bundle in use; None without.
            digest: Of the one that cannot be used, where it could be read.
            reason: Why.
            missing: It is told as missing: nothing of it is there.
        """
        about = f"{digest} {reason[:_REASON_LENGTH]}"
        with self._lock:
            if about == self._memory.refused:
                return
            self._memory = self._memory.model_copy(update={"refused": about})
            kind = BundleEventKind.MISSING if missing else BundleEventKind.REFUSED
            event = _event(kind, present, reason, old=_digest(present), new=digest)
            self._hand_over((event,), present)

    def _hand_over(self, events: tuple[BundleEvent, ...], present: Bundle | None) -> None:
        digest = _digest(present)
        if not events and self._memory.digest == digest:
            return
        self._save(LedgerMemory(digest=digest, refused=self._memory.refused, untold=events))
        for event in events:
            self._tell(event)
        if events:
            self._save(self._memory.model_copy(update={"untold": ()}))

    def _save(self, memory: LedgerMemory) -> None:
        self._memory = memory
        self._file.save(memory)


def _digest(bundle: Bundle | None) -> str:
    return "" if bundle is None else bundle.manifest.digest


def _event(
    kind: BundleEventKind, present: Bundle | None, reason: str, *, old: str, new: str | None = None
) -> BundleEvent:
    growth = None if present is None else present.manifest.growth
    return BundleEvent(
        id=uuid.uuid4().hex,
        kind=kind,
        wall=time.time(),
        reason=reason[:_REASON_LENGTH],
        old_digest=old,
        new_digest=_digest(present) if new is None else new,
        bundle="" if present is None else present.path.name,
        rows=0 if present is None else len(present.rows),
        version=growth.version if growth else 0,
        threshold=None if present is None else present.manifest.threshold.value,
    )
