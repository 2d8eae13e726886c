"""What devices say of themselves: who runs what, how it goes, what became of offers."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace

from pydantic import BaseModel, ConfigDict, ValidationError

from agent.bundle.offer import OfferState

#: Filters below the prefix of what is listened to; all of it is retained.
FILTERS = ("+/status", "+/info", "+/health", "+/+/offered")


class _Told(BaseModel):
    """Fields of a message that a rollout reads; devices of other versions say more, or less."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class StatusTold(_Told):
    """Fields of `status` that a rollout reads."""

    status: str
    machines: list[str]


class BundleTold(_Told):
    """Fields of a bundle in `info` that a rollout reads."""

    manifest_sha256: str
    created: str = ""
    blind: str = ""


class InfoTold(_Told):
    """Fields of `info` that a rollout reads."""

    version: str = ""
    machines: dict[str, BundleTold | None]


class RecognitionTold(_Told):
    """Whether a device recognises its machine in the bundle that judges it."""

    bundle: str
    state: str
    why: str = ""
    heard: int = 0
    windows: int = 0
    distance: float | None = None
    before: float | None = None


class CountsTold(_Told):
    """Fields of a machine in `health` that a rollout reads."""

    windows: int
    judged: int | None = None
    invalid: dict[str, int] = {}
    recognition: RecognitionTold | None = None
    exceeded: int
    raised: int


class HealthTold(_Told):
    """Fields of `health` that a rollout reads."""

    machines: dict[str, CountsTold]


class OfferTold(OfferState):
    """What became of an offer."""

    model_config = ConfigDict(extra="ignore", frozen=True)


@dataclass(frozen=True, slots=True)
class Counted:
    """Counts since the agent's start.

    Attributes:
        windows: Windows judged; of agents that do not say which, all that were valid.
        exceeded: Those above the threshold.
        raised: Alarms.
    """

    windows: int = 0
    exceeded: int = 0
    raised: int = 0

    def since(self, before: Counted) -> Counted:
        """What came after; all of it where the agent was started anew in between."""
        if self.windows < before.windows or self.raised < before.raised:
            return self
        return Counted(
            self.windows - before.windows,
            self.exceeded - before.exceeded,
            self.raised - before.raised,
        )

    def plus(self, other: Counted) -> Counted:
        """Both together."""
        return Counted(
            self.windows + other.windows, self.exceeded + other.exceeded, self.raised + other.raised
        )


@dataclass(frozen=True, slots=True)
class MachineSeen:
    """One machine of a device, as it was told last.

    Attributes:
        device: The device.
        machine: The machine.
        digest: `manifest_sha256` of the bundle that judges it; empty while there is none.
        created: When that was exported.
        online: Whether its agent runs.
        version: auscult on it.
        blind: What to do about the bundle's threshold, where that sees no known fault.
        counted: Its counts; None before the first health.
        recognition: Whether its device recognises it; None where that does not say.
        offer: What became of its latest offer; None where it takes none.
        heard: Monotonic time of the latest word of it.
    """

    device: str
    machine: str
    digest: str = ""
    created: str = ""
    online: bool = False
    version: str = ""
    blind: str = ""
    counted: Counted | None = None
    recognition: RecognitionTold | None = None
    offer: OfferState | None = None
    heard: float = field(default=0.0, compare=False)


class Fleet:
    """The machines of all devices. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._machines: dict[tuple[str, str], MachineSeen] = {}
        self._status: dict[str, StatusTold] = {}

    def machines(self) -> Mapping[tuple[str, str], MachineSeen]:
        """All of them by device and machine."""
        with self._lock:
            return dict(self._machines)

    def machine(self, device: str, name: str) -> MachineSeen | None:
        """One of them; None while nothing is known of it."""
        with self._lock:
            return self._machines.get((device, name))

    def take(self, levels: tuple[str, ...], payload: bytes) -> None:
        """A message has come; one that is not what it should be says nothing.

        Args:
            levels: Of its topic, below the prefix: device and kind, or device, machine, `offered`.
            payload: Its bytes.
        """
        if not payload:
            return
        with suppress(ValidationError), self._lock:
            match levels:
                case (device, "status"):
                    self._take_status(device, StatusTold.model_validate_json(payload))
                case (device, "info"):
                    self._take_info(device, InfoTold.model_validate_json(payload))
                case (device, "health"):
                    self._take_health(device, HealthTold.model_validate_json(payload))
                case (device, machine, "offered"):
                    told = OfferTold.model_validate_json(payload)
                    self._update(device, machine, offer=told)

    def _take_status(self, device: str, status: StatusTold) -> None:
        self._status[device] = status
        for name in status.machines:
            self._update(device, name)
        for device_, name in list(self._machines):
            if device_ == device:
                self._update(device, name, online=status.status == "online")

    def _take_info(self, device: str, info: InfoTold) -> None:
        for name, bundle in info.machines.items():
            self._update(
                device, name, version=info.version,
                digest="" if bundle is None else bundle.manifest_sha256,
                created="" if bundle is None else bundle.created,
                blind="" if bundle is None else bundle.blind,
            )  # fmt: skip

    def _take_health(self, device: str, health: HealthTold) -> None:
        for name, one in health.machines.items():
            valid = one.windows - sum(one.invalid.values())
            judged = valid if one.judged is None else one.judged
            counted = Counted(judged, one.exceeded, one.raised)
            self._update(device, name, counted=counted, recognition=one.recognition)

    def _update(self, device: str, name: str, **told: object) -> None:
        status = self._status.get(device)
        known = self._machines.get((device, name)) or MachineSeen(
            device, name, online=status is not None and status.status == "online"
        )
        self._machines[device, name] = replace(known, heard=time.monotonic(), **told)  # type: ignore[arg-type]
