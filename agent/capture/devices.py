"""Which microphone is meant? Identities that outlive a reboot and a change of sockets.

PortAudio numbers devices anew at every start, and so does ALSA its cards (`hw:1,0`). What stays is
the name, the card's ALSA id (`hw:CARD=USB,DEV=0`; two cards of one model get theirs in the order in
which they come up), and the USB socket (`usb:1-1.4`), which alone tells two of one model apart.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.config.capture import ALSA_NAME
from agent.core.errors import AudioError

PROC_CARDS = Path("/proc/asound/cards")
SYS_SOUND = Path("/sys/class/sound")

# How PortAudio names ALSA hardware: `USB Audio CODEC: - (hw:1,0)`.
_HARDWARE = re.compile(r"\(hw:(\d+),(\d+)\)\s*$")
# ` 1 [CODEC          ]: USB-Audio - USB Audio CODEC`
_CARD = re.compile(r"^\s*(\d+) \[(\S+)\s*\]", re.MULTILINE)
# A socket below its bus: `1-1.4`.
_SOCKET = re.compile(r"^\d+-[\d.]+$")
_USB = "usb:"


@dataclass(frozen=True, slots=True)
class InputDevice:
    """An input as PortAudio lists it, with what identifies it for good.

    Attributes:
        index: PortAudio's number of it, valid until it is initialised anew.
        name: PortAudio's name, without the changing card number.
        card: ALSA id of its card; empty when it is no ALSA hardware.
        unit: ALSA device number on the card.
        path: The card's sysfs device path; empty when unknown.
        channels: Input channels offered.
        rate: Its own rate, Hz.
        default: Whether it is the default input.
    """

    index: int
    name: str
    card: str = ""
    unit: int = 0
    path: str = ""
    channels: int = 1
    rate: float = 48000.0
    default: bool = False

    @property
    def id(self) -> str:
        """What to write in a configuration: `hw:CARD=...,DEV=...`, else the name."""
        return f"hw:CARD={self.card},DEV={self.unit}" if self.card else self.name

    @property
    def usb(self) -> str:
        """`usb:1-1.4`, the socket; empty when it is in none."""
        sockets = [part for part in self.path.split("/") if _SOCKET.match(part)]
        return f"{_USB}{sockets[-1]}" if sockets else ""

    def __str__(self) -> str:
        """Name and identities, for messages."""
        more = [text for text in (self.id, self.usb) if text and text != self.name]
        return f"'{self.name}'" + (f" ({', '.join(more)})" if more else "")


def list_inputs(sd: Any, *, proc: Path = PROC_CARDS, sys: Path = SYS_SOUND) -> list[InputDevice]:
    """What can be listened to now.

    Args:
        sd: The `sounddevice` module (or anything with its `query_devices` and `default`).
        proc: The kernel's list of sound cards.
        sys: The kernel's folder of sound devices.
    """
    try:
        cards = {int(number): name for number, name in _CARD.findall(proc.read_text())}
    except OSError:
        cards = {}
    default = sd.default.device[0]
    found = []
    for index, device in enumerate(sd.query_devices()):
        if device["max_input_channels"] < 1:
            continue
        name, card, unit, path = str(device["name"]), "", 0, ""
        hardware = _HARDWARE.search(name)
        if hardware is not None and int(hardware[1]) in cards:
            number, unit = int(hardware[1]), int(hardware[2])
            card = cards[number]
            name = name[: hardware.start()].rstrip(" :-")
            link = sys / f"card{number}" / "device"
            path = str(link.resolve()) if link.exists() else ""
        found.append(
            InputDevice(
                index=index, name=name, card=card, unit=unit, path=path,
                channels=int(device["max_input_channels"]),
                rate=float(device["default_samplerate"]), default=index == default,
            )
        )  # fmt: skip
    return found


def match_device(inputs: Sequence[InputDevice], wanted: str | None) -> InputDevice:
    """The one device that a configuration's `device` means.

    Args:
        inputs: What there is.
        wanted: `hw:CARD=ID[,DEV=N]`; `usb:SOCKET` (the last parts of the sysfs path will do);
            a card's ALSA id; the name or part of it, any case; None for the default input.

    Raises:
        AudioError: None or several match; it lists what there is.
    """
    found = _matches(inputs, wanted)
    if len(found) == 1:
        return found[0]
    if not found:
        there = ", ".join(map(str, inputs)) or "none"
        raise AudioError(
            "there is no such microphone" if wanted else "there is no microphone",
            where=wanted,
            remedy=f"Found: {there}. Check the cable and the source's `device`.",
        )
    raise AudioError(
        "several devices match: " + ", ".join(map(str, found)),
        where=wanted,
        remedy="Give the one's `hw:CARD=...,DEV=...`, or `usb:...` where two are of one model.",
    )


def _matches(inputs: Sequence[InputDevice], wanted: str | None) -> list[InputDevice]:
    if wanted is None:
        return [device for device in inputs if device.default] or list(inputs[:1])
    text = wanted.strip().casefold()
    if text.startswith(_USB):
        tail = text[len(_USB) :].strip("/").split("/")
        return [
            device for device in inputs if tail[0] and _has(device.path.casefold().split("/"), tail)
        ]
    if (alsa := ALSA_NAME.match(text)) is not None:
        return [
            device
            for device in inputs
            if device.card.casefold() == alsa[1] and alsa[2] in {None, str(device.unit)}
        ]
    rules = (
        lambda device: device.name.casefold() == text,
        lambda device: device.card.casefold() == text,
        lambda device: text in device.name.casefold(),
    )
    return next((hit for rule in rules if (hit := [one for one in inputs if rule(one)])), [])


def _has(path: list[str], part: list[str]) -> bool:
    """Whether a path holds these components in a row."""
    return any(path[at : at + len(part)] == part for at in range(len(path) - len(part) + 1))
