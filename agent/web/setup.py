"""Setting a machine up from the page: its microphone, and the way to its first bundle."""

from __future__ import annotations

import os
import shlex
import threading
from collections.abc import Sequence
from http import HTTPStatus

from agent.capture import portaudio
from agent.capture.devices import InputDevice, match_device
from agent.capture.probe import probe
from agent.capture.program import describe
from agent.config.capture import AnySource, MicrophoneSource, ReplaySource
from agent.core.errors import AudioError
from agent.core.json_request import ApiError
from agent.core.text import plural
from agent.web.backend import Backend
from agent.web.endpoint import Asked, Endpoint
from agent.web.now import known_machine
from agent.web.roles import PageRole
from agent.web.setup_models import (
    ChannelLevel,
    Choice,
    Heard,
    Listen,
    Microphone,
    Microphones,
    Setup,
)


class SetupDesk:
    """Lists microphones, listens to one for a moment, and has one chosen.

    Args:
        backend: The agent.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._listening = threading.Lock()  # one after another: opening a device takes its time

    def endpoints(self) -> Sequence[Endpoint]:
        """Of setting up."""
        return (
            Endpoint("GET", "/microphones", self._list, "What can be listened to", Microphones),
            Endpoint("POST", "/microphones/listen", self._listen,
                     "How loud it is at a microphone, for a third of a second", Heard, body=Listen,
                     asks=PageRole.OPERATOR),
            Endpoint("GET", "/machines/{machine}/setup", self._show,
                     "What a machine lacks to be judged", Setup),
            Endpoint("POST", "/machines/{machine}/microphone", self._choose,
                     "Choose the machine's microphone, where its configuration names no source",
                     Setup, body=Choice),
        )  # fmt: skip

    def _list(self, _: Asked) -> Microphones:
        try:
            inputs = _inputs()
        except AudioError as fault:
            return Microphones(microphones=[], problem=str(fault))
        found = [
            Microphone(
                device=lasting_id(one, inputs), name=one.name, usb=one.usb or None,
                channels=one.channels, rate=one.rate, default=one.default,
            )
            for one in inputs
        ]  # fmt: skip
        problem = "" if found else "No microphone is connected to this device."
        return Microphones(microphones=found, problem=problem)

    def _listen(self, asked: Asked) -> Heard:
        wanted = asked.body.device
        device = match_device(_inputs(), wanted)
        if not self._listening.acquire(timeout=10):
            raise ApiError(HTTPStatus.CONFLICT, "other microphones are being listened to")
        try:
            found = probe(MicrophoneSource.model_validate({"device": lasting_id(device, [])}))
        finally:
            self._listening.release()
        return Heard(
            device=wanted,
            levels=[
                ChannelLevel(rms_dbfs=round(one.rms, 1), peak_dbfs=round(one.peak, 1))
                for one in found.levels
            ],
        )

    def _choose(self, asked: Asked) -> Setup:
        machine, body = known_machine(self._backend, asked), asked.body
        source = MicrophoneSource(device=body.device, channel=body.channel)
        device = match_device(_inputs(), source.device)
        if source.channel is not None and source.channel >= device.channels:
            raise ApiError(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                f"there is no channel {source.channel}: {device.name} has {device.channels}",
            )
        self._backend.choose(machine, source)
        return self._setup(machine)

    def _show(self, asked: Asked) -> Setup:
        return self._setup(known_machine(self._backend, asked))

    def _setup(self, name: str) -> Setup:
        config = self._backend.config
        machine = config.machine(name)
        source, place = config.source_of(machine), str(config.bundle_of(machine))
        microphone = source if isinstance(source, MicrophoneSource) else None
        return Setup(
            machine=name,
            missing=self._backend.health()["machines"][name]["missing"],
            source=None if source is None else _words(source),
            device=None if microphone is None else microphone.device,
            channel=None if microphone is None else microphone.channel,
            choosable=machine.source is None,
            bundle=place,
            commands=training_commands(name, place, sudo="STATE_DIRECTORY" in os.environ),
        )


def training_commands(machine: str, place: str, *, sudo: bool) -> list[str]:
    """What to type on the workstation, with the training folder downloaded; once more as well.

    Args:
        machine: The machine's name.
        place: Where its bundle goes on the device.
        sudo: Only root may write there: the agent is a service.
    """
    run, bundle = f"run-{machine}", f"{machine}.bundle"
    parent, root = os.path.dirname(place), "sudo " if sudo else ""  # noqa: PTH120 - the device's path
    there = (
        f"{root}mkdir -p {shlex.quote(parent)} && "
        f"{root}cp -rT {shlex.quote(f'/tmp/{bundle}')} {shlex.quote(place)}"  # noqa: S108 - as typed
    )
    terminal = "-t " if sudo else ""
    return [
        f"unzip -o {machine}-training.zip",
        f"auscult train {machine} --out {run} --force",
        f"auscult export {run} --out {bundle}",
        f"scp -r {bundle} HOST:/tmp/",
        f"ssh {terminal}HOST {shlex.quote(there)}",
    ]


def lasting_id(device: InputDevice, among: Sequence[InputDevice]) -> str:
    """What names a microphone after a reboot too: where two are of one model, its socket.

    Args:
        device: The microphone.
        among: All there are.
    """
    twins = [one for one in among if one.name == device.name and one.card != device.card]
    return device.usb if twins and device.usb else device.id


def _inputs() -> list[InputDevice]:
    with portaudio.lock:
        portaudio.load()
        if not portaudio.in_use():
            # Nobody listens: also what was plugged in since is found.
            portaudio.refresh()
        return portaudio.inputs()


def _words(source: AnySource) -> str:
    if isinstance(source, MicrophoneSource):
        channel = "" if source.channel is None else f", channel {source.channel}"
        return f"microphone {source.device or '(the default one)'}{channel}"
    if isinstance(source, ReplaySource):
        first, *others = source.paths
        more = f" and {plural(len(others), 'other')}" if others else ""
        return f"recordings: {first}{more}"
    return describe(source)
