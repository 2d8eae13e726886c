"""Everything that the agent needs, looked at one after another; for `auscult doctor`."""

from __future__ import annotations

import grp
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from agent.activity.watch import watch_file
from agent.bundle.sign import fingerprint, load_public
from agent.capture.probe import check_source
from agent.config.agent import AgentConfig, MachineConfig, load_config
from agent.config.capture import MicrophoneSource
from agent.config.commands import CommandsConfig
from agent.core.clock import kernel_synchronised
from agent.core.errors import AudioError, AuscultError
from agent.core.said import read_said
from agent.core.text import plural
from agent.decide.thresholds import find_thresholds
from agent.deploy.trust import Opening, TrustedBundle
from agent.doctor.broker import check_broker
from agent.doctor.finding import Finding, Grade
from agent.doctor.level import check_level
from agent.doctor.maintenance import check_maintenance
from agent.doctor.notify import check_notify
from agent.doctor.page import check_page
from agent.doctor.promise import check_promise
from agent.encode.providers import CPU
from agent.machine.settings import adapted, suits
from agent.recognition.watch import recognition_file
from agent.request.roles import check_token
from agent.score.sessions import OTHER_DAY
from agent.window.condition import condition_file

_LOW_BYTES = 500_000_000
_NONE_BYTES = 50_000_000
_SOUND_DEVICES = Path("/dev/snd")
# With more of its time than this taken by the encoder, a machine's windows may be dropped.
_BUSY_SHARE = 0.5


def examine(path: Path) -> Iterator[Finding]:
    """Look at everything; each finding as soon as it is there.

    Args:
        path: The agent's configuration.
    """
    try:
        config = load_config(path)
    except AuscultError as fault:
        yield Finding.failed("configuration", fault)
        return
    names = ", ".join(machine.name for machine in config.machines)
    yield Finding("configuration", Grade.OK, f"{path}: listens to {names}")
    yield check_state(config.state_path)
    if config.jsonl is not None:
        yield check_folder("jsonl", config.jsonl.path.parent)
    yield check_clock()
    yield check_providers(config)
    sources = [config.source_of(machine) for machine in config.machines]
    if any(source is None or isinstance(source, MicrophoneSource) for source in sources):
        yield check_sound_rights()
    if config.bundles.public_key is not None:
        yield check_key(config.bundles.public_key)
    busy = 0.0
    for machine in config.machines:
        finding, share = check_bundle(config, machine)
        busy += share
        yield finding
        yield from check_level(config, machine)
        yield check_microphone(config, machine)
        if why := read_said(condition_file(config.state_path, machine.name)):
            yield Finding(
                f"hearing of {machine.name}", Grade.WARN, f"by the running agent: {why}",
                "docs/guide/capture.md says what a microphone's condition means",
            )  # fmt: skip
        yield from check_maintenance(machine)
        happened = check_promise(config, machine)
        if happened is not None:
            yield happened
        if why := read_said(recognition_file(config.state_path, machine.name)):
            yield Finding(
                f"bundle of {machine.name} at work", Grade.WARN, f"by the running agent: {why}",
                "docs/notes/recognition.md says how that is found",
            )  # fmt: skip
        if why := read_said(watch_file(config.state_path, machine.name)):
            yield Finding(
                f"judging of {machine.name}", Grade.WARN, f"by the running agent: {why}",
                "docs/guide/cycles.md says what is judged and when; `auscult devices` shows "
                "whether the microphone hears the machine",
            )  # fmt: skip
    if busy > _BUSY_SHARE:
        yield Finding(
            "processor", Grade.WARN,
            f"encoding takes {100 * busy:.0f} % of the time of one core, for all machines",
            "Listen with a longer `hop`, allow more `inference.threads`, or export a "
            "smaller encoder",
        )  # fmt: skip
    yield from check_page(config.web)
    if config.commands.token_file is not None:
        yield check_operators_token(config.commands)
    if config.notify is not None:
        yield from check_notify(config.notify)
    if config.mqtt is None:
        yield Finding("broker", Grade.WARN, "none is configured: alarms are only logged")
    else:
        yield from check_broker(config.mqtt, config.device_name, config.names)


def check_state(folder: Path) -> Finding:
    """Can what must survive a restart be written, and is there room for it?"""
    return check_folder("state directory", folder)


def check_folder(name: str, folder: Path) -> Finding:
    """Can a file be written here, durably, and is there room?

    Args:
        name: What the folder is for.
        folder: It need not be there yet.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-") as file:
            file.write(b"\0" * 4096)
            file.flush()
            os.fsync(file.fileno())
        free = shutil.disk_usage(folder).free
    except OSError as fault:
        return Finding(
            name, Grade.FAIL, f"{folder}: cannot be written: {fault.strerror}",
            "Give the agent's user a folder of its own: `state_dir`, or StateDirectory= in the "
            "unit",
        )  # fmt: skip
    text = f"{folder}: writable, {free / 1e9:.1f} GB free"
    if free < _LOW_BYTES:
        grade = Grade.FAIL if free < _NONE_BYTES else Grade.WARN
        return Finding(name, grade, text, "Free some space: alarms are kept there until delivered")
    return Finding(name, Grade.OK, text)


def check_clock() -> Finding:
    """Is the wall clock set by a time service, and plausible?"""
    remedy = "Enable a time service (`timedatectl set-ntp true`, or chrony), and give it a server"
    now = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime())
    # Without a clock that runs on a battery, a device begins at its image's date.
    if time.time() < Path(__file__).stat().st_mtime - 86_400:
        return Finding("clock", Grade.FAIL, f"{now} is before auscult was installed here", remedy)
    if kernel_synchronised():
        return Finding("clock", Grade.OK, f"{now}, synchronised")
    return Finding(
        "clock", Grade.WARN, f"{now}, not synchronised: alarms may bear a wrong time", remedy
    )


def check_providers(config: AgentConfig) -> Finding:
    """Does onnxruntime have what the configuration wants the encoder run on?"""
    import onnxruntime  # noqa: PLC0415 - slow to load, and the configuration is looked at first

    wanted, there = config.inference.providers, onnxruntime.get_available_providers()
    version = f"onnxruntime {onnxruntime.__version__}"
    if missing := [one for one in wanted if one not in there]:
        # As in agent/encode/providers.py: what is missing is passed over while something is left.
        grade = Grade.WARN if any(one in there for one in wanted) else Grade.FAIL
        return Finding(
            "inference", grade, f"{version} has no {', '.join(missing)}",
            f"Set `inference.providers` among {', '.join(there)}, or install the onnxruntime "
            "built for this device",
        )  # fmt: skip
    unused = [one for one in there if one not in wanted and one.startswith(("CUDA", "Tensorrt"))]
    hint = f"{unused[0]} is there too: see `inference.providers`" if unused else ""
    text = f"{version} on {', '.join(wanted)}, {plural(config.inference.threads, 'thread')}"
    return Finding("inference", Grade.OK, text, hint if wanted == (CPU,) else "")


def check_sound_rights() -> Finding:
    """May this user open the sound devices?"""
    name = "permissions"
    devices = sorted(_SOUND_DEVICES.glob("pcm*c"))
    if not devices:
        # A sound server may still give one: the microphone's own check tells.
        return Finding(
            name, Grade.WARN, f"there is no device to record from in {_SOUND_DEVICES}",
            "Plug the microphone in; in a container, pass /dev/snd in",
        )  # fmt: skip
    closed = [device for device in devices if not os.access(device, os.R_OK | os.W_OK)]
    if not closed:
        return Finding(
            name, Grade.OK, f"{plural(len(devices), 'device')} to record from may be opened"
        )
    try:
        group = grp.getgrgid(closed[0].stat().st_gid).gr_name
    except (KeyError, OSError):
        group = "audio"
    return Finding(
        name, Grade.FAIL, f"{closed[0]} may not be opened by this user",
        f"Add it to the group: sudo usermod -aG {group} <user>; in a unit, "
        f"SupplementaryGroups={group}",
    )  # fmt: skip


def check_key(path: Path) -> Finding:
    """Can the key be used that bundles must be signed with?"""
    try:
        key = load_public(path)
    except AuscultError as fault:
        return Finding.failed("public key", fault)
    text = f"{path}: only bundles signed with the other half of {fingerprint(key)} are opened"
    return Finding("public key", Grade.OK, text)


def check_operators_token(config: CommandsConfig) -> Finding:
    """Can the operators' token be read, and by whom?"""
    name, place = "operators' token", config.token_file
    assert place is not None
    try:
        check_token(config)
    except AuscultError as fault:
        return Finding.failed(name, fault)
    return Finding.of_secret(name, place, "readable; over MQTT it takes TLS to stay secret")


def check_bundle(config: AgentConfig, machine: MachineConfig) -> tuple[Finding, float]:
    """Is the bundle whole, trusted and does it run, and how fast?

    Returns:
        The finding, and the share of a core's time that the encoder will take.
    """
    name = f"bundle of {machine.name}"
    place = config.bundle_of(machine)
    if machine.bundle is None and not place.is_dir():
        return Finding(
            name, Grade.WARN, "there is none yet: the machine is heard and recorded, not judged",
            f"Record its healthy sound (`auscult collect`, or the page), train, export, and put "
            f"the bundle at {place}; the running agent takes it up",
        ), 0.0  # fmt: skip
    inference = config.inference
    opening = Opening(
        inference, config.bundles.public_key, partial(suits, machine),
        partial(adapted, machine, config.state_path), config.bundles.trial_seconds,
        allow_older=config.bundles.allow_older, accept_learnt=config.bundles.accept_learnt,
    )  # fmt: skip
    trusted = TrustedBundle(place, config.state_path, machine.name, opening)
    try:
        bundle = trusted.open_wanted()
    except AuscultError as fault:
        return Finding.failed(name, fault), 0.0
    try:
        manifest = bundle.manifest
        proved = "verified" if opening.public_key is None else "verified, its signature too"
        samples = np.zeros((1, manifest.encoder.window_samples), np.float32)
        began = time.perf_counter()
        bundle.encoder.encode(samples)
        taken = time.perf_counter() - began
        hop = machine.hop_of(manifest.hop_seconds, manifest.window_seconds)
        step = hop.seconds
        text = (
            f"{bundle.path}: {proved}, trained on {manifest.trained_on.machine}, "
            f"{plural(len(bundle.rows), 'row')}; {1000 * taken:.0f} ms for a window every "
            f"{step:g} s{f', or {hop.calm:g} s while calm' if hop.varies else ''}"
        )
        if bundle.fallback:
            remedy = "Export the bundle again on such a processor, or with `auscult export --float`"
            return Finding(name, Grade.WARN, f"{text}; {bundle.fallback}", remedy), taken / step
        if bundle.parity is not None:
            text += f"; answers as at export (least cosine {bundle.parity.used.cosine:.6f})"
        found = find_thresholds(machine.decide, manifest, bundle.healthy, step)
        text = "; ".join((text, *found.promise))
        if found.blind:
            return Finding(name, Grade.FAIL, text, found.blind), taken / step
        if trusted.doubt:
            remedy = "See that it is the bundle that is meant: docs/guide/growth.md#signatures"
            return Finding(name, Grade.WARN, f"{text}; it {trusted.doubt}", remedy), taken / step
        if found.one_day and machine.commission is None:
            remedy = OTHER_DAY[0].upper() + OTHER_DAY[1:]
            return Finding(name, Grade.WARN, text, remedy), taken / step
        if caveat := manifest.threshold.caveat:
            remedy = f"Its threshold: {caveat}"
            return Finding(name, Grade.WARN, text, remedy), taken / step
        return Finding(name, Grade.OK, text), taken / step
    finally:
        bundle.close()


def check_microphone(config: AgentConfig, machine: MachineConfig) -> Finding:
    """Does the source give sound?"""
    source = config.source_of(machine)
    if source is None:
        return Finding(
            f"microphone of {machine.name}", Grade.WARN, "none is chosen yet: nothing is heard",
            "Choose it on the page (`web.enabled`), or give the machine a `source`; "
            "`auscult devices` lists what there is",
        )  # fmt: skip
    kind = "microphone" if isinstance(source, MicrophoneSource) else "source"
    name = f"{kind} of {machine.name}"
    try:
        found = check_source(source)
    except AudioError as fault:
        return Finding.failed(name, fault)
    except OSError as fault:  # PortAudio's library is not installed
        return Finding(
            name, Grade.FAIL, str(fault), "Install PortAudio: apt-get install libportaudio2"
        )
    if found.doubt:
        return Finding(name, Grade.WARN, f"{found.text}: {found.doubt}", found.remedy)
    return Finding(name, Grade.OK, found.text)
