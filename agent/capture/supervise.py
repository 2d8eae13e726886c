"""How a source that failed is tried again: with growing waits, for ever, and not too loudly."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from agent.config.capture import AnySource, ReplaySource
from agent.core.records import AudioBlock

log = logging.getLogger(__name__)

_FIRST_SECONDS = 1.0


class Backoff:
    """Waits between attempts, and what the log says of them.

    Args:
        name: The source, for the log.
        most: Longest wait, seconds.
        stop: Ends a wait.
    """

    def __init__(self, name: str, most: float, stop: threading.Event) -> None:
        self._name = name
        self._most = most
        self._stop = stop
        self._wait = min(_FIRST_SECONDS, most)
        self._since: float | None = None  # when it failed
        self._problem = ""
        self._ever = False  # sound has come before
        self.failures = 0  # how often it failed so far: grows as long as it is tried again

    def joined(self, blocks: Iterable[AudioBlock], faults: Counter[str]) -> Iterator[AudioBlock]:
        """The sound of one opening; where it is not the first one, sound was lost before it.

        Args:
            blocks: As the source gives them.
            faults: Where the openings after the first are counted, as `reopened`.
        """
        begun = False
        for block in blocks:
            if begun:
                yield block
                continue
            begun = True
            self.mended()
            faults["reopened"] += self._ever
            yield replace(block, gap_before=self._ever or block.gap_before)
            self._ever = True

    def mended(self) -> None:
        """Sound came."""
        away = "" if self._since is None else f" after {time.monotonic() - self._since:.0f} s"
        log.info("%s: listening%s", self._name, away)
        self._wait, self._since, self._problem = min(_FIRST_SECONDS, self._most), None, ""

    def failed(self, problem: str) -> None:
        """Log and wait; each wait is twice the one before, until sound comes."""
        self._begin()
        self.failures += 1
        # Each new problem, and each step; at the longest wait only the first time.
        loud = problem != self._problem or self._wait < self._most
        self._problem = problem
        log.log(
            logging.WARNING if loud else logging.DEBUG,
            "%s: %s; opening it again in %.0f s",
            self._name, problem, self._wait,
        )  # fmt: skip
        self._stop.wait(self._wait)
        self._wait = min(2 * self._wait, self._most)

    def pause(self, why: str) -> None:
        """Wait a moment: it was no fault."""
        self._begin()
        self.failures += 1
        log.info("%s: %s", self._name, why)
        self._stop.wait(min(_FIRST_SECONDS, self._most))

    def _begin(self) -> None:
        if self._since is None:
            self._since = time.monotonic()


class Supervised:
    """What sources have in common that are opened again for ever.

    Args:
        name: The source, for the log.
        most: Longest wait between attempts, seconds.
    """

    def __init__(self, name: str, most: float) -> None:
        self._name = name
        self._stop = threading.Event()
        self._faults: Counter[str] = Counter()
        self._backoff = Backoff(name, most, self._stop)

    def stop(self) -> None:
        """End the stream."""
        self._stop.set()

    def faults(self) -> Mapping[str, int]:
        """By cause, times that sound was lost.

        `overruns`: this device was too busy to fetch it; `missing`: it never came here, though the
        stream went on; `reopened`: sound came again after it had ended, stalled or been away.
        """
        return {name: count for name, count in self._faults.items() if count}

    @property
    def attempts(self) -> int:
        """How often opening it failed so far, or it ended."""
        return self._backoff.failures


def attempt_seconds(config: AnySource | None) -> float:
    """Longest time from one attempt to open a source to the next, seconds; 0 of recordings."""
    if config is None or isinstance(config, ReplaySource):
        return 0.0
    return config.stall_seconds + config.reopen_max_seconds
