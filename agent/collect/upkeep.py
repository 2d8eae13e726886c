"""Keeps collected sound within its bounds while the agent runs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from agent.collect.retention import drop_leftovers, prune_collected, sessions_in_banks
from agent.config.collect import CollectConfig
from agent.core.clock import ClockQuality

log = logging.getLogger(__name__)

_STEP_SECONDS = 3600.0
_TELL_SECONDS = 86_400.0


class CollectedUpkeep:
    """Prunes now and then, counts, and says when it may not prune enough. Not thread-safe.

    Args:
        root: `collected/` in the state directory.
        config: The limits.
        banks: By a machine's name, the bundles whose banks may hold its sessions.
        clock: Tells how good the clock is: by a wrong one nothing is too old.
    """

    def __init__(
        self,
        root: Path,
        config: CollectConfig,
        banks: Callable[[str], Sequence[Path]],
        clock: Callable[[], ClockQuality],
    ) -> None:
        self._root = root
        self._config = config
        self._banks = banks
        self._clock = clock
        self._due = 0.0
        self._tell_at = 0.0
        #: Sessions removed that a bank had taken in.
        self.removed_added = 0
        #: Sessions removed that none had.
        self.removed_unused = 0
        #: Bytes of what is kept, at the last look.
        self.kept_bytes = 0

    def hasten(self) -> None:
        """Look at the next turn: something was added."""
        self._due = 0.0

    def turn(self, busy: Iterable[Path]) -> None:
        """Prune, if it is time to.

        Args:
            busy: Folders being written.
        """
        if time.monotonic() < self._due:
            return
        self._due = time.monotonic() + _STEP_SECONDS
        sure, busy = self._clock() is ClockQuality.SYNCHRONISED, tuple(busy)
        if sure:
            drop_leftovers(self._root, now=time.time(), busy=busy)
        pruned = prune_collected(
            self._root,
            self._config,
            lambda machine: sessions_in_banks(self._banks(machine)),
            now=time.time() if sure else None,
            busy=busy,
        )
        self.removed_added += pruned.added
        self.removed_unused += pruned.unused
        self.kept_bytes = pruned.left
        if pruned.left > pruned.allowed and time.monotonic() >= self._tell_at:
            self._tell_at = time.monotonic() + _TELL_SECONDS
            log.warning(
                "%s: collected sound takes %.0f MB where %.0f are allowed, and none of it may be "
                "removed: add it to a bank (`auscult bank add`), remove it, or set "
                "`collect.keep_unused_days`",
                self._root, pruned.left / 1e6, pruned.allowed / 1e6,
            )  # fmt: skip
