"""Taking up a new bundle while the agent runs, and going back by itself when it fails.

A bundle is looked for where the configuration says, and among its bank's versions. A changed one
is opened beside the present one, tried out, and used from one window to the next; for its first
windows it is on trial. A fault in those puts the one before it back, and the new one is not tried
again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from agent.bundle.manifest import ENCODER, MANIFEST, EncoderInfo
from agent.core.errors import AuscultError, MissingBundleError
from agent.core.records import Matrix, Samples
from agent.deploy.ledger import BundleLedger
from agent.deploy.load import Bundle
from agent.deploy.trust import TrustedBundle
from agent.encode.frames import Encoder, FrameLayout, Frames

log = logging.getLogger(__name__)

_STEP_SECONDS = 0.25


class Judge(Protocol):
    """What judges with a bundle; `agent.pipeline.pipeline.Pipeline`."""

    def use_bundle(self, bundle: Bundle) -> Bundle:
        """Judge with another bundle from the next window on; gives the one used so far."""
        ...


class TrialEncoder:
    """An encoder whose first windows are watched.

    Args:
        encoder: Does the work, started.
        windows: How many windows the trial takes.
    """

    def __init__(self, encoder: Encoder, windows: int) -> None:
        self.encoder = encoder
        self.left = windows
        self.failed = ""

    @property
    def info(self) -> EncoderInfo:
        """What the graph takes and gives."""
        return self.encoder.info

    def start(self) -> None:
        """Start of an encoder that was started before: nothing is done."""

    def encode(self, waveforms: Matrix) -> Matrix:
        """Embed a batch of windows, and remember whether that went well."""
        if self.left <= 0:
            return self.encoder.encode(waveforms)
        try:
            vectors = self.encoder.encode(waveforms)
        except Exception as fault:
            self.failed = self.failed or str(fault)
            raise
        if np.isfinite(vectors).all():
            self.left -= len(waveforms)
        else:
            self.failed = self.failed or "the encoder gave no finite number for a valid window"
        return vectors

    @property
    def layout(self) -> FrameLayout | None:
        """How frames lie; None during the trial, whose windows each go through the whole graph."""
        return None if self.left > 0 else self.encoder.layout

    def frames(self, chunks: Matrix) -> Frames:
        """Frames of chunks of sound, after the trial."""
        return self.encoder.frames(chunks)

    def embed_frames(self, frames: Frames, waveform: Samples) -> Matrix:
        """Embedding of a window's frames, after the trial."""
        return self.encoder.embed_frames(frames, waveform)

    def patches(self, waveform: Matrix) -> Matrix | None:
        """What it makes of each place of a window; no part of the trial."""
        return self.encoder.patches(waveform)

    def stop(self) -> None:
        """Free the session."""
        self.encoder.stop()


def with_session_of(bundle: Bundle, others: Sequence[Bundle]) -> Bundle:
    """With the encoder of another bundle where that is the same: less memory.

    Where the whole bundle is, bank, scorer and baselines are shared as well: nothing changes them.

    Args:
        bundle: Opened just now.
        others: In use.
    """
    for other in others:
        same = other.manifest.files[ENCODER] == bundle.manifest.files[ENCODER]
        # One that judges by its float32 graph shares it only with its like.
        alike = bundle.fallback == other.fallback
        if same and alike and other.manifest.encoder == bundle.manifest.encoder:
            bundle.encoder.stop()
            alike = type(other.scorer) is type(bundle.scorer)  # neither hears less than the other
            if alike and other.manifest == bundle.manifest:
                return replace(other, path=bundle.path)
            return replace(bundle, encoder=other.encoder)
    return bundle


@dataclass(slots=True)
class _Use:
    """What one machine uses."""

    trusted: TrustedBundle
    bundle: Bundle | None  # none yet
    ledger: BundleLedger
    identity: tuple[Any, ...]
    seen: tuple[Any, ...]
    trial: TrialEncoder | None = None
    before: Bundle | None = None  # to go back to
    first: bool = False  # there was none before the one on trial


class BundleSwapper:
    """Keeps every machine on the bundle that it should use.

    Args:
        judge: By a machine's name, what judges for it now.
        restart: Begins a machine anew with a bundle whose windows are others, with its first, or
            (None) without any.
        watch_seconds: Step between looks; 0 never looks.
        trial_windows: Windows of a trial.
        changed: Told of each machine whose bundle changed.
    """

    def __init__(
        self,
        judge: Callable[[str], Judge],
        restart: Callable[[str, Bundle | None], None],
        *,
        watch_seconds: float,
        trial_windows: int,
        changed: Callable[[str, Bundle | None], None] = lambda _machine, _bundle: None,
    ) -> None:
        self._judge = judge
        self._restart = restart
        self._watch = watch_seconds
        self._trial_windows = trial_windows
        self._changed = changed
        self.uses: dict[str, _Use] = {}
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.swapped = 0
        self.rolled_back = 0
        self.refused = 0

    def add(
        self, machine: str, trusted: TrustedBundle, bundle: Bundle | None, ledger: BundleLedger
    ) -> Bundle | None:
        """Look after a machine that begins with a bundle, or waits for its first.

        Args:
            machine: Its name.
            trusted: Where its bundle comes from.
            bundle: The one it begins with, opened; None when there is none yet.
            ledger: Tells what happens to it.

        Returns:
            The bundle to judge with: it is on trial too, to be kept as a good one.
        """
        if bundle is None:
            # Whatever is there already was refused just now, or comes in any moment.
            identity = trusted.identity() if trusted.refusal else ()
            self.uses[machine] = _Use(trusted, None, ledger, identity, identity)
            return None
        identity = trusted.identity()
        on_trial, trial = self._on_trial(bundle)
        self.uses[machine] = _Use(trusted, bundle, ledger, identity, identity, trial)
        return on_trial

    def bundle(self, machine: str) -> Bundle | None:
        """The bundle that a machine uses; None when there is none yet."""
        return self.uses[machine].bundle

    def judging(self, machine: str) -> Bundle | None:
        """The bundle that judges a machine: on trial as long as its trial lasts; None without."""
        use = self.uses[machine]
        if use.bundle is None or use.trial is None:
            return use.bundle
        return replace(use.bundle, encoder=use.trial)

    def begin_anew(self, machine: str) -> None:
        """Begin a machine anew with what it uses, because what it listens to has changed.

        Raises:
            AuscultError: It cannot listen so.
        """
        with self._lock:
            self._restart(machine, self.judging(machine))

    def start(self) -> None:
        """Tell what each machine begins with, where that is news, and begin to watch."""
        for use in self.uses.values():
            trusted = use.trusted
            use.ledger.begin(
                use.bundle, trusted.refusal, trusted.refused_digest, trusted.doubt,
                missing=trusted.missing,
            )  # fmt: skip
        self._thread = threading.Thread(target=self._run, name="bundles", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Watch no more. Idempotent."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(2.0)
            self._thread = None

    def handle(self, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        """Carry out the `reload` command.

        Returns:
            What is used now, and whether that is another than before.

        Raises:
            AuscultError: The machine is unknown, or its bundle cannot be used; the present one
                stays in use.
        """
        machine = str(fields["machine"])
        if machine not in self.uses:
            raise AuscultError(f"there is no machine '{machine}'")
        by = str(fields.get("operator", ""))
        changed = self.reload(
            machine,
            f"asked for by {by}" if by else "asked for",
            allow_older=bool(fields.get("allow_older", False)),
        )
        bundle = self.bundle(machine)
        assert bundle is not None  # there is one now, or it was refused
        manifest = bundle.manifest
        return {
            "changed": changed,
            "digest": manifest.digest,
            "rows": len(bundle.rows),
            "version": manifest.growth.version if manifest.growth else 0,
        }

    def reload(self, machine: str, reason: str = "asked for", *, allow_older: bool = False) -> bool:
        """Take up the wanted bundle now; whether it is another than before.

        Args:
            machine: Its name.
            reason: Told with the event.
            allow_older: Also one older than what was taken up before, or another machine's.

        Raises:
            AuscultError: It cannot be used; the present one stays in use.
        """
        with self._lock:
            use = self.uses[machine]
            use.seen = use.identity = use.trusted.identity()
            try:
                return self._take_up(machine, use, reason, allow_older=allow_older)
            except AuscultError as fault:
                self.refused += 1
                missing = isinstance(fault, MissingBundleError)
                digest = use.trusted.wanted_digest()
                use.ledger.refused(use.bundle, digest, str(fault), missing=missing)
                raise

    def _take_up(self, machine: str, use: _Use, reason: str, *, allow_older: bool) -> bool:
        bundle, present = use.trusted.open_wanted(allow_older=allow_older), use.bundle
        if use.trusted.doubt:
            if allow_older:
                use.trusted.go_back(bundle)
            reason = f"{reason}; it {use.trusted.doubt}"
        if present is not None and bundle.manifest.digest == present.manifest.digest:
            return False
        in_use = [one.bundle for one in self.uses.values() if one.bundle is not None]
        bundle = with_session_of(bundle, in_use if present is None else [present, *in_use])
        on_trial, trial = self._on_trial(bundle)
        self._put(machine, on_trial, present)
        # Of an unfinished trial the last bundle that passed one stays the way back.
        use.before = present if use.trial is None else use.before or present
        use.first = use.before is None
        use.bundle, use.trial = bundle, trial
        self.swapped += 1
        log.info("%s: on trial for %d windows: %s", machine, self._trial_windows, bundle.path)
        use.ledger.swapped(present, bundle, reason)
        self._changed(machine, bundle)
        return True

    def _on_trial(self, bundle: Bundle) -> tuple[Bundle, TrialEncoder]:
        trial = TrialEncoder(bundle.encoder, self._trial_windows)
        return replace(bundle, encoder=trial), trial

    def _put(self, machine: str, bundle: Bundle | None, present: Bundle | None) -> None:
        if bundle is None or present is None:
            self._restart(machine, bundle)
            return
        new, old = bundle.manifest.encoder, present.manifest.encoder
        if (new.sample_rate, new.window_samples) == (old.sample_rate, old.window_samples):
            self._judge(machine).use_bundle(bundle)
        else:
            self._restart(machine, bundle)

    def _run(self) -> None:
        due = time.monotonic() + self._watch
        while not self._stop.wait(_STEP_SECONDS):
            look = self._watch > 0 and time.monotonic() >= due
            if look:
                due = time.monotonic() + self._watch
            for machine in self.uses:
                self.attend(machine, look=look)

    def attend(self, machine: str, *, look: bool) -> None:
        try:
            with self._lock:
                self._conclude(machine)
                if look:
                    self._look(machine)
        except AuscultError as fault:
            log.warning("%s: the bundle in use stays: %s", machine, fault)
        except Exception:
            log.exception("%s: the bundle in use stays", machine)

    def _look(self, machine: str) -> None:
        """Take up what has changed, once it has stopped changing."""
        use = self.uses[machine]
        identity = use.trusted.identity()
        settled, use.seen = identity == use.seen, identity
        if use.bundle is None and not (use.trusted.wanted() / MANIFEST).is_file():
            return  # nothing was put there yet, or was taken away again
        if identity != use.identity and settled:
            self.reload(machine, "found where the configuration says, or among its versions")

    def _conclude(self, machine: str) -> None:
        """End a trial: keep the bundle, or put the one before it back."""
        use = self.uses[machine]
        if use.trial is None:
            return
        if use.trial.failed and use.bundle is not None and (use.before is not None or use.first):
            failed, before, why = use.bundle, use.before, use.trial.failed
            use.trusted.refuse(failed)
            use.bundle, use.before, use.trial, use.first = before, None, None, False
            self.rolled_back += 1
            self._put(machine, before, failed)
            use.ledger.rolled_back(failed, before, f"failed its trial: {why}")
            self._changed(machine, before)
            return
        if use.trial.left <= 0 and not use.trial.failed:
            use.trial, use.before, use.first = None, None, False
            if use.bundle is not None:
                use.trusted.keep_good(use.bundle)
            log.info("%s: a bundle has passed its trial: %s", machine, use.trusted.wanted())
