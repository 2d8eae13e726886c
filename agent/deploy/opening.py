"""What bundles did when they were opened, remembered: a new one is tried in a child process once.

The agent remembers by machine:

<state>/bank/<machine>/opening.json   written before a bundle is opened, gone afterwards: found
at a start, it names the one that ended the agent
<state>/bank/<machine>/refused.json   digests that are not opened any more
<state>/bank/<machine>/proven.json    digests that a trial has opened

and commands (`score`, `bank`, `doctor`, `drift`) by user, what they and `export` have opened:

$XDG_CACHE_HOME/auscult/proven.json
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from agent.bundle.private import SealedCopy, private_copy
from agent.bundle.verify import Head
from agent.config.bundle import BundlesConfig
from agent.config.encode import InferenceConfig
from agent.core.cache_home import cache_home
from agent.core.schema import Strict
from agent.core.state_file import State, StateFile
from agent.deploy.load import Bundle, load
from agent.deploy.trial import try_in_child

log = logging.getLogger(__name__)

OPENING, REFUSED, PROVEN = "opening.json", "refused.json", "proven.json"
_KEPT = 100
# Ends of the agent in a row, while it opened a bundle that had been opened well, that are believed
# to be its fault.
_PROVEN_ENDS = 3
_BOOT = Path("/proc/sys/kernel/random/boot_id")
TRIAL_SECONDS: float = BundlesConfig().trial_seconds


def open_tried(
    path: Path,
    *,
    threads: int | None = None,
    vouch: Callable[[Head], object] = lambda _: None,
    seconds: float = TRIAL_SECONDS,
    known: Sequence[OpeningLog] = (),
) -> Bundle:
    """Open a bundle for a command; one that the user has not opened before is tried first.

    Args:
        path: The bundle's folder.
        threads: As of `open_bundle`.
        vouch: Raises when the bundle is not to be used.
        seconds: Longest time that the trial may take; 0 for none.
        known: Who else may know that a trial has opened it, such as the agent.

    Raises:
        BundleError: As `open_bundle`; or it ended the process that tried it, or took too much
            memory or time.
    """
    with private_copy(path, vouch=vouch) as copy:
        try_once(copy, InferenceConfig(), (*known, user_log()), seconds=seconds)
        return load(copy, threads=threads)


def try_once(
    copy: SealedCopy, inference: InferenceConfig, logs: Sequence[OpeningLog], *, seconds: float
) -> None:
    """Let a process of its own open a bundle first, unless one has before.

    Args:
        copy: The bundle.
        inference: How encoders are run.
        logs: Who may know it; the last remembers.
        seconds: Longest time that it may take; 0 for no trial.

    Raises:
        TrialError: It ended that process, took too much memory or too long.
        BundleError: It cannot be used.
    """
    digest = copy.manifest.digest
    if not seconds or any(log.proven(digest) for log in logs):
        return
    try_in_child(copy, inference, seconds=seconds)
    logs[-1].prove(digest)


def user_log() -> OpeningLog:
    """What this user's commands have opened."""
    return OpeningLog(cache_home())


class _Digests(Strict):
    digests: tuple[str, ...] = ()


class _Begun(Strict):
    digest: str
    boot: str = ""
    times: int = 1


class OpeningLog:
    """One machine's, or one user's; a fault of the disk costs what it would remember.

    Args:
        home: Its folder: the machine's in the state, or the user's.
    """

    def __init__(self, home: Path) -> None:
        self._home = home

    def refused(self, digest: str) -> bool:
        """Whether a bundle is not to be opened any more."""
        return digest in self._read(REFUSED)

    def refuse(self, digest: str) -> None:
        """Never open a bundle again."""
        self._add(REFUSED, digest)

    def proven(self, digest: str) -> bool:
        """Whether a trial has opened a bundle."""
        return digest in self._read(PROVEN)

    def prove(self, digest: str) -> None:
        """A trial has opened a bundle."""
        self._add(PROVEN, digest)

    def look_back(self) -> str:
        """Refuse the bundle that ended the agent while it was opened.

        A power cut ends it too, and so does whoever kills the agent just then, which is no bundle's
        fault: after a restart of the device the bundle has another chance, but not after two in a
        row; one that a trial or service has opened before has two more.

        Returns:
            The digest refused now; empty for none.
        """
        begun = self._begun()
        if begun is None:
            return ""
        most = _PROVEN_ENDS if self.proven(begun.digest) else 1 if begun.boot == _boot() else 2
        if begun.times < most:
            return ""
        self.refuse(begun.digest)
        with contextlib.suppress(OSError):
            (self._home / OPENING).unlink(missing_ok=True)
        log.error(
            "the agent ended while it opened the bundle %s: that one is not opened again. If it "
            "was stopped by hand, remove %s",
            begun.digest[:16], self._home / REFUSED,
        )  # fmt: skip
        return begun.digest

    @contextlib.contextmanager
    def opening(self, digest: str) -> Iterator[None]:
        """Leave word of what is opened, for the next start should this process end."""
        before = self._begun()
        times = before.times + 1 if before is not None and before.digest == digest else 1
        self._file(OPENING, _Begun).save(_Begun(digest=digest, boot=_boot(), times=times))
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                (self._home / OPENING).unlink(missing_ok=True)

    def _begun(self) -> _Begun | None:
        return self._file(OPENING, _Begun).load()

    def _read(self, name: str) -> tuple[str, ...]:
        return self._file(name, _Digests).load_or_new().digests

    def _add(self, name: str, digest: str) -> None:
        kept = [one for one in self._read(name) if one != digest]
        self._file(name, _Digests).save(_Digests(digests=(*kept, digest)[-_KEPT:]))

    def _file(self, name: str, model: type[State]) -> StateFile[State]:
        return StateFile(
            self._home / name, model, what="what bundles did", otherwise="that is forgotten"
        )


def _boot() -> str:
    try:
        return _BOOT.read_text(encoding="ascii").strip()
    except OSError:
        return ""
