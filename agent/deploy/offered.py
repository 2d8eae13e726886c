"""Takes bundles that are offered over MQTT: fetched, verified as any other, and put in place.

    <state>/offers/<machine>.json     what became of the latest offer
    <state>/offers/content/           files that are being fetched, by digest
    <state>/offers/before/<machine>/  the bundle before, until the offered one was taken up

Off until the configuration has `offers`. Nothing an offer does can end the agent or deafen it: what
is refused leaves the present bundle in use, and says why.
"""

from __future__ import annotations

import base64
import logging
import random
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from agent.bundle.manifest import MANIFEST, SIGNATURE, Manifest
from agent.bundle.offer import CONTEXT, IN_USE, MOST_BYTES, BundleOffer, OfferState, SignedOffer
from agent.bundle.plain import held_folder
from agent.bundle.seal import new_bundle
from agent.bundle.sign import CONTEXT as BUNDLE
from agent.bundle.sign import fingerprint, load_public, verify_head
from agent.bundle.verify import Head, read_head, read_manifest
from agent.config.agent import AgentConfig
from agent.config.offers import OffersConfig
from agent.core.clock import utc
from agent.core.errors import AuscultError, BundleError
from agent.core.schema import explain
from agent.core.state_file import StateFile
from agent.deploy.content import Content, FetchError
from agent.deploy.place import keep, link_or_copy, put_back
from agent.deploy.taken import Taken

log = logging.getLogger(__name__)

_MANIFEST_LIMIT = 16 * 2**20
_SIGNATURE_LIMIT = 64 * 1024
_LONGEST_WAIT = 3600.0
_STOP_SECONDS = 2.0
_SPARE = 64 << 20  # bytes that a disk keeps free

Reload = Callable[..., bool]
"""`BundleSwapper.reload`: machine, reason, `allow_older`; raises AuscultError to refuse."""


class OfferRefusedError(AuscultError):
    """An offer that will not be taken."""


def offer_taker(
    config: AgentConfig,
    reload: Reload,
    in_use: Callable[[str], str],
    tell: Callable[[str, OfferState], None],
) -> OfferTaker | None:
    """What takes offers as an agent's configuration asks; None where it takes none.

    Args:
        config: The agent's.
        reload: As of `OfferTaker`, like the others.
        in_use: The digest of the export that judges a machine.
        tell: Takes what became of an offer.
    """
    key = config.bundles.public_key
    if config.offers is None or key is None:
        return None
    bundles = {machine.name: config.bundle_of(machine) for machine in config.machines}
    return OfferTaker(
        config.offers, config.device_name, bundles, config.state_path, key,
        reload=reload, in_use=in_use, tell=tell,
    )  # fmt: skip


class OfferTaker:
    """Looks after the offers of all machines in a thread of its own.

    Args:
        config: Where content comes from.
        device: This device's name.
        bundles: By machine, where its bundle is, or will be.
        state: The agent's state directory.
        public_key: PEM of the site's key.
        reload: Takes up what was put in place.
        in_use: The digest of the export that judges a machine, grown or not; empty without any.
        tell: Takes what became of an offer; must not wait.
    """

    def __init__(
        self,
        config: OffersConfig,
        device: str,
        bundles: Mapping[str, Path],
        state: Path,
        public_key: Path,
        *,
        reload: Reload,
        in_use: Callable[[str], str],
        tell: Callable[[str, OfferState], None],
    ) -> None:
        self._config = config
        self._device = device
        self._bundles = dict(bundles)
        self._state = state
        self._public_key = public_key
        self._reload, self._in_use, self._tell = reload, in_use, tell
        self._home = state / "offers"
        self._files = {
            machine: StateFile(
                self._home / f"{machine}.json", OfferState,
                what="what became of the latest offer", otherwise="an offer is looked at anew",
            )
            for machine in bundles
        }  # fmt: skip
        self._states: dict[str, OfferState] = {}
        self._wanted: dict[str, bytes] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Tell what became of the latest offers, and begin to look at what comes."""
        self._home.mkdir(parents=True, exist_ok=True)
        for machine, file in self._files.items():
            found = file.load()
            if found is None:
                found = self._new(machine, 0, "", "none")
            self._states[machine] = found
            self._tell(machine, found)
        self._thread = threading.Thread(target=self._run, name="offers", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Leave what is under way for the next start. Idempotent."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(_STOP_SECONDS)
            self._thread = None

    def take(self, machine: str, payload: bytes) -> None:
        """An offer has arrived. Never raises, never waits: called from the network's thread."""
        if machine not in self._bundles:
            return
        with self._lock:
            if payload:
                self._wanted[machine] = payload
            else:
                self._wanted.pop(machine, None)
        self._wake.set()

    def _run(self) -> None:
        waits: dict[str, tuple[float, float]] = {}  # by machine, when to try again, and the step
        failed: dict[str, bytes] = {}
        while not self._stop.is_set():
            with self._lock:
                wanted = dict(self._wanted)
            # What was withdrawn is not waited for: its time would lie in the past for ever.
            waits = {machine: one for machine, one in waits.items() if machine in wanted}
            failed = {machine: one for machine, one in failed.items() if machine in wanted}
            now = time.monotonic()
            for machine, payload in wanted.items():
                due, step = waits.get(machine, (0.0, self._config.retry_seconds))
                if failed.get(machine) == payload and now < due:
                    continue
                if failed.get(machine) != payload:
                    step = self._config.retry_seconds
                if self._look(machine, payload):
                    waits.pop(machine, None)
                    failed.pop(machine, None)
                    with self._lock:
                        if self._wanted.get(machine) == payload:
                            del self._wanted[machine]
                else:
                    failed[machine] = payload
                    again = time.monotonic() + step * random.uniform(0.8, 1.2)  # noqa: S311 - no secret
                    waits[machine] = again, min(2 * step, _LONGEST_WAIT)
            dues = [due for due, _ in waits.values()]
            self._wake.wait(max(0.0, min(dues) - time.monotonic()) if dues else None)
            self._wake.clear()

    def _look(self, machine: str, payload: bytes) -> bool:
        """Deal with an offer; False when it is to be tried again later."""
        try:
            offer = self._read(machine, payload)
        except AuscultError as fault:
            log.warning("%s: an offer is not looked at: %s", machine, fault)
            return True
        known = self._states[machine]
        over = known.state in {"taken", "refused"}
        if offer.sequence < known.sequence or (offer.sequence == known.sequence and over):
            return True
        content = Content(self._config, self._home / "content", self._stop.is_set)
        try:
            self._follow(machine, offer, content)
        except FetchError as fault:
            if not self._stop.is_set():
                self._note(machine, offer, "waiting", str(fault), content=content)
            return False
        except (AuscultError, OSError) as fault:
            log.error("%s: an offered bundle is refused: %s", machine, fault)  # noqa: TRY400 - in words
            self._note(machine, offer, "refused", str(fault), content=content)
        except Exception as fault:
            log.exception("%s: an offered bundle is refused", machine)
            self._note(machine, offer, "refused", f"{type(fault).__name__}: see the log")
        with self._lock:
            others = self._wanted.keys() - {machine}
        if not others:  # else they may have begun some of it, or share it
            content.clear()
        return True

    def _read(self, machine: str, payload: bytes) -> BundleOffer:
        """An offer that the site signed for this machine.

        Raises:
            OfferRefusedError: It is none.
        """
        if len(payload) > 2 * MOST_BYTES:
            raise OfferRefusedError(f"it has {len(payload)} bytes")
        try:
            signed = SignedOffer.model_validate_json(payload)
            key = load_public(self._public_key)
            if fingerprint(key) != signed.key:
                raise OfferRefusedError(f"it is signed by another key ({signed.key})")
            raw = base64.b64decode(signed.signature, validate=True)
            _verify(key, raw, CONTEXT + signed.offer.encode())
            offer = BundleOffer.model_validate_json(signed.offer)
        except ValidationError as fault:
            raise OfferRefusedError(f"it is no offer: {explain(fault)}") from fault
        except ValueError as fault:
            raise OfferRefusedError(f"its signature is none: {fault}") from fault
        if (offer.device, offer.machine) != (self._device, machine):
            raise OfferRefusedError(f"it is for {offer.device}/{offer.machine}")
        return offer

    def _follow(self, machine: str, offer: BundleOffer, content: Content) -> None:
        """Fetch, verify, put in place and take up.

        Raises:
            FetchError: Content cannot be fetched now.
            AuscultError: The bundle is not taken.
        """
        if self._in_use(machine) == offer.digest:
            self._note(machine, offer, "taken", IN_USE, content=content)
            return
        self._note(machine, offer, "fetching", content=content)
        manifest_text = content.small(offer.manifest, _MANIFEST_LIMIT)
        signature = content.small(offer.signature, _SIGNATURE_LIMIT)
        head = self._head(manifest_text, signature)
        self._meant(machine, offer, head.manifest)
        files = head.manifest.files
        total = sum(one.size for one in files.values()) + len(manifest_text) + len(signature)
        self._note(machine, offer, "fetching", content=content, total=total)
        if shutil.disk_usage(self._home).free < 2 * total + _SPARE:
            raise OfferRefusedError(f"the disk has no room for {2 * total / 1e6:.0f} MB")
        here = self._files_here()
        places = {name: content.require(record, here) for name, record in files.items()}
        place, before = self._bundles[machine], self._home / "before" / machine
        keep(place, before)
        with new_bundle(place) as draft:
            for name, source in places.items():
                link_or_copy(source, draft / name)
            (draft / SIGNATURE).write_bytes(signature)
            (draft / MANIFEST).write_bytes(manifest_text)
        reason = f"offered{': ' + offer.reason if offer.reason else ''}"
        try:
            self._reload(machine, reason, allow_older=offer.downgrade)
        except AuscultError:
            put_back(before, place)
            raise
        shutil.rmtree(before, ignore_errors=True)
        self._note(machine, offer, "taken", content=content, total=total)

    def _head(self, manifest: bytes, signature: bytes) -> Head:
        """Manifest and signature, read and verified as those of any bundle."""
        with tempfile.TemporaryDirectory(dir=self._home) as name:
            folder = Path(name)
            (folder / MANIFEST).write_bytes(manifest)
            (folder / SIGNATURE).write_bytes(signature)
            with held_folder(folder) as held:
                head = read_head(held)
            verify_head(head, load_public(self._public_key), BUNDLE, folder)
        return head

    def _meant(self, machine: str, offer: BundleOffer, manifest: Manifest) -> None:
        """Is it the bundle that was offered, and no older than what runs or ran?

        Raises:
            OfferRefusedError: It is not.
        """
        if manifest.digest != offer.digest:
            raise OfferRefusedError("the manifest is another bundle's than was offered")
        doubt = Taken(self._state / "bank" / machine).doubt(manifest)
        with suppress(BundleError):
            present = read_manifest(self._bundles[machine])
            if not doubt and manifest.counter < present.counter:
                doubt = (
                    f"is older (counter {manifest.counter}) than the one in place "
                    f"(counter {present.counter})"
                )
        if not doubt:
            return
        if not offer.downgrade:
            raise OfferRefusedError(doubt, remedy="If that is meant: offer it as a downgrade.")
        if not self._config.allow_downgrade:
            raise OfferRefusedError(
                f"{doubt}, and this device takes no downgrade",
                remedy="`offers.allow_downgrade: true` in its configuration allows it.",
            )

    def _files_here(self) -> dict[str, Path]:
        """Files of all bundles on this device, by digest."""
        found: dict[str, Path] = {}
        for place in self._bundles.values():
            with suppress(AuscultError, OSError):
                for name, record in read_manifest(place).files.items():
                    found.setdefault(record.sha256, place / name)
        return found

    def _note(
        self,
        machine: str,
        offer: BundleOffer,
        state: Literal["fetching", "waiting", "taken", "refused"],
        reason: str = "",
        *,
        content: Content | None = None,
        total: int = 0,
    ) -> None:
        found = self._new(machine, offer.sequence, offer.digest, state, reason[:1000])
        if content is not None:
            told = {"fetched_bytes": content.fetched, "reused_bytes": content.reused}
            found = found.model_copy(update={**told, "bytes": total})
        self._states[machine] = found
        self._files[machine].save(found)
        self._tell(machine, found)

    def _new(
        self,
        machine: str,
        sequence: int,
        digest: str,
        state: Literal["none", "fetching", "waiting", "taken", "refused"],
        reason: str = "",
    ) -> OfferState:
        return OfferState(
            device=self._device, machine=machine, time=utc(time.time()), sequence=sequence,
            digest=digest, state=state, reason=reason, bytes=0, fetched_bytes=0, reused_bytes=0,
        )  # fmt: skip


def _verify(key: object, signature: bytes, signed: bytes) -> None:
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - an optional package

    try:
        key.verify(signature, signed)  # type: ignore[attr-defined]  # cryptography is untyped here
    except InvalidSignature as fault:
        raise OfferRefusedError("its signature is not the site's") from fault
