"""What the agent keeps and learns beside listening: evidence, collected sound, bank versions."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from agent.bank.pending import feedback_handler
from agent.bundle.events import BundleEvent, BundleEventKind
from agent.collect.collector import Collector
from agent.config.agent import AgentConfig, MachineConfig
from agent.core.errors import AuscultError, BundleError
from agent.core.level_change import Points
from agent.deploy.device_key import Vouching, ensure_device_key
from agent.deploy.ledger import BundleLedger
from agent.deploy.load import Bundle
from agent.deploy.swap import BundleSwapper, Judge, with_session_of
from agent.deploy.trust import Opening, TrustedBundle
from agent.deploy.versions import version_folders
from agent.evidence.disk import mark_seen
from agent.evidence.privacy import SpeechRemover
from agent.evidence.recorder import EvidenceRecorder
from agent.evidence.ring import Clip
from agent.evidence.write import EvidenceWriter
from agent.machine.explain import Explainer
from agent.machine.observers import PipelineObserver
from agent.machine.settings import adapted, suits
from agent.monitor.observed import BundleUse, Keeping
from agent.request.commands import Handler

log = logging.getLogger(__name__)


class Extensions:
    """Bundles, evidence and collection of all machines.

    Args:
        config: The agent's.
        judge: By a machine's name, what judges for it now.
        restart: Begins a machine anew with a bundle whose windows are others, or without any.
        changed: Told of each machine whose bundle changed.
        tell: Takes what happens to a machine's bundle; must not wait, but for the disk.
        pictured: Takes the picture (PNG) of a machine's alarm; must neither wait nor raise.
    """

    def __init__(
        self,
        config: AgentConfig,
        judge: Callable[[str], Judge],
        restart: Callable[[str, Bundle | None], None],
        changed: Callable[[str, Bundle | None], None],
        tell: Callable[[str, BundleEvent], None],
        pictured: Callable[[str, bytes], None] = lambda _machine, _picture: None,
    ) -> None:
        self._config = config
        self._tell = tell
        state = config.state_path
        self.swapper = BundleSwapper(
            judge,
            restart,
            watch_seconds=config.bundles.watch_seconds,
            trial_windows=config.bundles.trial_windows,
            changed=changed,
        )
        self._writer = EvidenceWriter(state / "evidence", config.evidence, pictured=pictured)
        #: Who records on this device.
        self.collector = Collector(
            state,
            config.device_name,
            config.names,
            config.collect,
            banks=self._banks,
            offset=lambda machine: _taken_off(judge(machine)),
        )
        self._judging: dict[str, Bundle | None] = {}
        self._ledgers: dict[str, BundleLedger] = {}
        self._recorders: dict[str, EvidenceRecorder] = {}
        self._refusals: dict[str, AuscultError] = {}

    def open_bundles(self, *, strict: bool = False) -> None:
        """Open and verify every machine's bundle, or its version in use, where there is one yet.

        Args:
            strict: Do not fall back on what worked before.

        A machine whose bundle cannot be used, nor anything in its stead, is heard and not judged,
        and that is told: its fault must not deafen the agent to the others.

        Raises:
            BundleError: No machine can be judged, or, when strict, one of them cannot.
            AuscultError: The public key cannot be used.
        """
        inference, key = self._config.inference, self._config.bundles.public_key
        opened: list[Bundle] = []
        if key is not None:
            self._vouch(Vouching(key, self._config.state_path))
        for machine in self._config.machines:
            opening = Opening(
                inference, key, partial(suits, machine),
                partial(adapted, machine, self._config.state_path),
                self._config.bundles.trial_seconds, remember=not strict,
                allow_older=self._config.bundles.allow_older,
                accept_learnt=self._config.bundles.accept_learnt,
            )  # fmt: skip
            trusted = TrustedBundle(
                self._config.bundle_of(machine), self._config.state_path, machine.name, opening
            )
            try:
                bundle = _open(machine, trusted, strict=strict)
            except AuscultError as fault:
                if strict:
                    raise
                bundle, trusted.refusal = None, str(fault)
                self._refusals[machine.name] = fault
            if bundle is not None:
                bundle = with_session_of(bundle, opened)
                opened.append(bundle)
            ledger = BundleLedger(
                self._config.state_path / "state" / "bundles" / f"{machine.name}.json",
                partial(self._tell, machine.name),
            )
            self._ledgers[machine.name] = ledger
            self._judging[machine.name] = self.swapper.add(machine.name, trusted, bundle, ledger)
        if len(self._refusals) == len(self._config.machines):
            raise next(iter(self._refusals.values()))
        for name, why in self._refusals.items():
            log.error("%s: heard, and not judged: %s", name, why)

    def _vouch(self, vouching: Vouching) -> None:
        """See to the device's own key; what the state held before there was one is signed once."""
        try:
            if ensure_device_key(vouching.state):
                for machine in self._config.machines:
                    vouching.adopt(machine.name, self._config.bundle_of(machine))
        except AuscultError as fault:
            # The exports are as good without it; versions are refused, and told.
            log.error("versions grown on this device cannot be signed: %s", fault)  # noqa: TRY400

    def _banks(self, machine: str) -> Sequence[Path]:
        """Where collected sound may have joined a bank: the bundle, and versions of it."""
        original = self._config.bundle_at(machine)
        return [original, *version_folders(self._config.state_path, machine, original)]

    def keeping(self) -> Keeping:
        """What is kept and was exchanged so far, for the metrics."""
        swapper, writer, upkeep = self.swapper, self._writer, self.collector.upkeep
        return Keeping(
            bundles={machine: _use(swapper.bundle(machine)) for machine in self._judging},
            swapped=swapper.swapped,
            rolled_back=swapper.rolled_back,
            refused=swapper.refused,
            evidence_written=writer.written,
            evidence_skipped=writer.skipped,
            collected_added=upkeep.removed_added,
            collected_unused=upkeep.removed_unused,
            collected_bytes=upkeep.kept_bytes,
        )

    def bundle(self, machine: str) -> Bundle | None:
        """The bundle that a machine uses now; None when there is none yet."""
        return self.swapper.bundle(machine)

    def judging(self, machine: str) -> Bundle | None:
        """The bundle that a machine begins with; None when there is none yet."""
        return self._judging[machine]

    def refusal(self, machine: str) -> str:
        """Why a machine has no bundle although one is configured; empty when that is not so."""
        fault = self._refusals.get(machine)
        return "" if fault is None or self.bundle(machine) is not None else str(fault)

    def commissioned(self, machine: str, kind: str, reason: str) -> None:
        """Tell that a machine's bundle listens in shadow (`shadow`), or goes live (`live`)."""
        self._ledgers[machine].noted(BundleEventKind(kind), self.bundle(machine), reason)

    def begin_anew(self, machine: str) -> None:
        """Begin a machine anew with the bundle it uses; see `BundleSwapper.begin_anew`."""
        self.swapper.begin_anew(machine)

    def observers(self, machine: str) -> Sequence[PipelineObserver]:
        """The observers that listen in on a machine."""
        observers: list[PipelineObserver] = [self.collector.observers[machine]]
        if not self._config.evidence.enabled:
            return [*observers, Explainer()]
        config = self._config.machine(machine)
        remove = SpeechRemover(self._config.evidence.speech, config.foreign)
        recorder = EvidenceRecorder(self._config.device_name, machine, self._writer, remove)
        self._recorders[machine] = recorder
        return [*observers, recorder, Explainer(recorder.explained)]

    def recent(self, machine: str, seconds: float) -> Clip | None:
        """A machine's latest sound, as far as it is held for evidence; None without any."""
        recorder = self._recorders.get(machine)
        return None if recorder is None else recorder.latest(seconds)

    def acknowledged(self, machine: str, alarm_id: str) -> None:
        """An operator has seen an alarm: its evidence may go before that of others."""
        mark_seen(self._writer.root, machine, alarm_id)

    def handlers(self) -> Mapping[str, Handler]:
        """Commands carried out here."""
        return {
            **self.collector.handlers(),
            "feedback": feedback_handler(
                self._config.state_path / "evidence",
                self._keep_window if self._config.evidence.enabled else None,
            ),
            "reload": self.swapper.handle,
        }

    def _keep_window(self, machine: str, index: int) -> str:
        recorder = self._recorders.get(machine)
        if recorder is None:
            raise AuscultError(
                f"'{machine}' is not judged yet, so no window of it can be answered",
                remedy="It needs a bundle and a microphone first; see `auscult doctor`.",
            )
        return recorder.keep_window(index)

    def start(self) -> None:
        """Begin to write evidence; before the pipelines."""
        if self._config.evidence.enabled:
            self._writer.start()

    def attend(self) -> None:
        """Begin to collect and to watch for bundles; once the pipelines run."""
        self.collector.start()
        self.swapper.start()

    def settle(self) -> None:
        """Change no pipeline any more; before they are stopped."""
        self.swapper.stop()

    def stop(self) -> None:
        """Write what is to be kept, and free the bundles; after the pipelines."""
        self.collector.stop()
        self._writer.stop()
        for machine in self._judging:
            bundle = self.swapper.bundle(machine)
            if bundle is not None:
                bundle.close()

    def state(self) -> str:
        """A few words for the heartbeat; empty when there is nothing to say."""
        return self._writer.state()


def _open(machine: MachineConfig, trusted: TrustedBundle, *, strict: bool) -> Bundle | None:
    """A machine's bundle; None when there is none yet where one may be put."""
    if machine.bundle is not None:
        return trusted.open_wanted() if strict else trusted.open_any()
    if not trusted.original.is_dir():
        return None
    try:
        return trusted.open_wanted() if strict else trusted.open_any()
    except BundleError as fault:
        if strict:
            raise
        # It may be on its way, or the first of all, and bad: there was none to judge by before.
        log.error("%s: %s", machine.name, fault)  # noqa: TRY400 - said in words, not as a trace
        trusted.refusal = trusted.refusal or str(fault)
        return None


def _use(bundle: Bundle | None) -> BundleUse | None:
    if bundle is None:
        return None
    manifest = bundle.manifest
    version = manifest.growth.version if manifest.growth else 0
    return BundleUse(manifest.digest, len(bundle.rows), version)


def _taken_off(judge: object) -> tuple[float, Points]:
    """What is taken off a machine's sound before it is judged; nothing of one that isn't."""
    return getattr(judge, "offset_db", 0.0), getattr(judge, "bands_db", ())
