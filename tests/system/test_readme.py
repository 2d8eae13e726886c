"""README's three steps, typed word for word on a bare Debian 12: a device and a workstation."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from support.bare import HOME, Bare, Network, bare_root
from support.nspawn import ROOT, wait_for

from export.demo.stream import synthesize_stream
from trainer.synth import Fault, design_machine

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

# What the test types instead, so that it ends: less sound, and Ctrl-C after a while.
_INSTEAD = {
    "--seconds 1200 ": "--seconds 340 --clip-seconds 10 ",
    "\nauscult run ": "\nended_with_ctrl_c auscult run ",
    "\nmosquitto_sub ": "\nended_with_ctrl_c mosquitto_sub ",
}
_PRELUDE = """
ended_with_ctrl_c() { timeout --signal=INT 45 "$@" || [ $? = 124 ]; }
"""
# The microphone: a sound server in place of a card, since there is no hardware.
_ASOUND = """
pcm.!default { type pulse }
pcm.USB { type pulse device "usb" hint { show on description "USB measuring microphone" } }
"""
_PULSE_CLIENT = "default-server = tcp:127.0.0.1:4713\nautospawn = no\nenable-shm = no\n"
_PULSE = (
    "exec pulseaudio -n --daemonize=no --exit-idle-time=-1"
    " --load='module-native-protocol-tcp listen=127.0.0.1 auth-anonymous=1'"
    " --load='module-null-sink sink_name=air rate=48000 channels=1'"
    " --load='module-remap-source source_name=usb master=air.monitor'"
)


def blocks(place: str) -> list[str]:
    """README's commands that are typed on the device, or on the workstation."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.findall(r"^```sh\n# on the (\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert len(found) == text.count("```sh\n")
    return [commands for where, commands in found if where == place]


def typed(commands: str) -> str:
    """The same, with what the test types instead."""
    commands = f"\n{commands}"
    for words, instead in _INSTEAD.items():
        commands = commands.replace(words, instead)
    return _PRELUDE + commands


def plug_in(device: Bare, sound: Path) -> None:
    """Give the device a USB microphone that hears what lies in `sound`/now.wav."""
    device.run(
        "sh", "-c",
        "apt-get update && apt-get install -y --no-install-recommends pulseaudio pulseaudio-utils libasound2-plugins",
        seconds=600,
    )  # fmt: skip
    etc = device.root / "etc"
    (etc / "asound.conf").write_text(_ASOUND)
    (etc / "pulse/client.conf").write_text(_PULSE_CLIENT)
    command = ("systemd-run", "--quiet", "--uid=engineer", f"--setenv=HOME={HOME}")
    device.run(*command, "--unit=microphone", "sh", "-c", _PULSE)
    wait_for(lambda: "usb" in device.run("pactl", "list", "short", "sources", check=False))
    hears = f"while true; do paplay -d air {sound}/now.wav || sleep 1; done"
    device.run(*command, "--unit=machine", "sh", "-c", hears)


def dig(device: Bare, words: str) -> str:
    return device.run("sh", "-c", words, check=False)


@pytest.fixture(scope="module")
def lower(tmp_path_factory):
    return bare_root(tmp_path_factory.mktemp("bare"))


def test_every_stand_in_stands_in_for_something():
    commands = "\n" + "\n".join(blocks("device") + blocks("workstation"))
    assert all(words in commands for words in _INSTEAD)


def test_the_three_steps(lower, tmp_path):
    record, deploy = blocks("device")
    (train,) = blocks("workstation")
    with (
        Network() as network,
        Bare(tmp_path / "device", lower, "hall-2", network) as device,
        Bare(tmp_path / "workstation", lower, "workstation", network) as workstation,
    ):
        sound = device.root / "opt/sound"
        sound.mkdir()
        for name, healthy, faulty, seed in (("now", 400, 1, 1), ("broken", 1, 200, 2)):
            synthesize_stream(
                sound / f"{name}.wav", design_machine(7), Fault("bearing", 1.0),
                healthy_seconds=healthy, faulty_seconds=faulty, seed=seed,
            )  # fmt: skip
        plug_in(device, Path("/opt/sound"))
        for machine in (device, workstation):
            # Nothing of what README has installed is there already.
            for package in ("python3-venv", "libportaudio2", "mosquitto", "make"):
                assert machine.run("dpkg-query", "-W", package, check=False) == "", package

        began = time.monotonic()
        told = device.type(typed(record))
        print(f"step 1: {time.monotonic() - began:.0f} s\n{told[-3000:]}")
        assert "USB" in told
        began = time.monotonic()
        told = workstation.type(typed(train))
        print(f"step 2: {time.monotonic() - began:.0f} s\n{told[-6000:]}")
        began = time.monotonic()
        told = device.type(typed(deploy))
        print(f"step 3: {time.monotonic() - began:.0f} s\n{told[-6000:]}")
        for place, what in (("device", device), ("workstation", workstation)):
            print(place, what.run("du", "-shx", "/opt", "/usr", HOME, check=False, seconds=120))

        assert "FAIL" not in told
        assert "auscult/hall-2/pump7/score" in told
        # sudo finds it, as does root without sudo's own PATH.
        assert device.run("sudo", "auscult", "--version").startswith("auscult")
        assert device.run("su", "-c", "auscult --version", "-").startswith("auscult")
        assert device.show("auscult", "ActiveState") == "active"
        assert device.show("auscult", "UnitFileState") == "enabled"

        # And what it is for: the bearing goes, and the broker is told.
        device.run("sh", "-c", "cd /opt/sound && mv broken.wav now.wav && pkill paplay")
        heard = "timeout 300 mosquitto_sub -h localhost -t auscult/hall-2/pump7/event"
        alarm = device.run("sh", "-c", f"{heard} | grep -m 1 auscult.alarm.raised", seconds=360)
        print(alarm)
        assert "pump7" in alarm
