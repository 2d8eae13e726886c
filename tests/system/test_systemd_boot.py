"""The service in a booted systemd: start, hang, kill, stop, reboot, a microphone without sound."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest
from support.bundles import FAULTY_HZ, build_bundle, tone, write
from support.nspawn import Machine, wait_for

from agent.doctor.unit import surroundings

pytestmark = pytest.mark.slow

UNIT = "auscult.service"
# A broker that isn't there: every alarm event stays in the outbox.
_CONFIG = """\
device: line1
machines:
- name: pump
  bundle: bundle
  hop_seconds: 0.5
  source: {kind: replay, paths: [sound], loop: true}
  decide: {latch: true}
metrics: {}
mqtt:
  host: 127.0.0.1
  port: 18830
  username: auscult
  password_file: ${CREDENTIALS_DIRECTORY}/mqtt-password
"""
_MUTE = """\
  source: {kind: pipe, command: [sleep, infinity], rate: 8000, stall_seconds: 2, reopen_max_seconds: 2}
  validity: {condition: {no_sound_seconds: 2}}
"""


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    with Machine(tmp_path_factory.mktemp("machine")) as booted:
        etc = booted.root / "etc/auscult"
        shutil.copytree(build_bundle(tmp_path_factory.mktemp("b") / "tiny"), etc / "bundle")
        write(etc / "sound" / "1.wav", tone(3, seed=1))
        write(etc / "sound" / "2.wav", tone(6, FAULTY_HZ, seed=2))
        (etc / "agent.yaml").write_text(_CONFIG)
        (etc / "mqtt-password").write_text("secret\n")
        booted.run("chmod", "-R", "go+rX", "/etc/auscult")
        booted.run("chmod", "600", "/etc/auscult/mqtt-password")
        told = booted.run(
            "/opt/auscult/bin/auscult", "install-service", "--config", "/etc/auscult/agent.yaml"
        )
        assert "systemctl start auscult" in told
        drop_in(booted, UNIT, "WatchdogSec=8s\nRestartSec=1s\nTimeoutAbortSec=3s\n")
        yield booted


def drop_in(machine: Machine, unit: str, lines: str) -> None:
    """The same service, quicker to lose its patience."""
    folder = machine.root / f"etc/systemd/system/{unit}.d"
    folder.mkdir(parents=True)
    (folder / "test.conf").write_text(f"[Service]\n{lines}")
    machine.run("systemctl", "daemon-reload")


def state(machine: Machine) -> dict:
    return json.loads((machine.root / "var/lib/private/auscult/state/pump.json").read_text())


def active(machine: Machine, unit: str = UNIT) -> bool:
    return machine.show(unit, "ActiveState") == "active"


def start(machine: Machine) -> str:
    """Have it run; its main process."""
    machine.run("systemctl", "start", UNIT, check=False)
    assert active(machine), machine.journal(UNIT)
    return machine.show(UNIT, "MainPID")


def restarted(machine: Machine, old: str) -> None:
    wait_for(lambda: active(machine) and machine.show(UNIT, "MainPID") not in {"0", old}, 60)


def test_start_is_complete_when_the_first_window_is_judged(machine):
    start(machine)
    began, ready = (
        int(machine.show(UNIT, name)) / 1e6
        for name in ("ExecMainStartTimestampMonotonic", "ActiveEnterTimestampMonotonic")
    )
    assert ready - began > 1.0  # a window is a second of sound
    assert "1 machine, " in machine.show(UNIT, "StatusText")
    user = machine.run("stat", "-c", "%U", f"/proc/{machine.show(UNIT, 'MainPID')}")
    assert user == "auscult"
    # Read as that user, from where systemd put it.
    assert "password" not in machine.journal(UNIT)
    shown = machine.run("journalctl", "-u", UNIT, "-o", "json", "--no-pager").splitlines()
    levels = {json.loads(line)["PRIORITY"] for line in shown}
    assert {"4", "6"} <= levels  # the broker is away: a warning


def test_metrics_are_on_loopback(machine):
    start(machine)
    ask = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9464/metrics').read().decode())"
    text = wait_for(lambda: machine.run("/opt/auscult/bin/python", "-c", ask, check=False), 10)
    assert 'auscult_windows_total{machine="pump"} ' in text
    assert "auscult_broker_connected 0" in text
    assert machine.run("ss", "-Hltn", "sport = :9464").split()[3] == "127.0.0.1:9464"


def test_doctor_checks_in_the_service_s_place(machine):
    command = ("/opt/auscult/bin/auscult", "doctor", "--config", "/etc/auscult/agent.yaml")
    pid = start(machine)
    done = machine.run(*command, "--service", "auscult", check=False)
    assert "OK    state directory: /var/lib/auscult: writable" in done
    assert "OK    bundle of pump" in done
    assert "FAIL  broker: 127.0.0.1:18830: not reached" in done  # the password was read
    # The service itself was left alone, and may still write.
    assert machine.show(UNIT, "MainPID") == pid
    machine.run("systemctl", "restart", UNIT)
    assert active(machine), machine.journal(UNIT)
    # Outside of it there is no credential.
    assert "mqtt-password" in machine.run(*command, check=False)


_INSIDE = """
import ctypes, os, socket, time
from pathlib import Path
from cffi import FFI
from agent.core.clock import kernel_synchronised

def fails(act):
    try:
        act()
    except OSError:
        return True
    return False

ffi = FFI()
doubled = ffi.callback("int(int)", lambda n: 2 * n)
print("callback", doubled(21))
print("clock", kernel_synchronised() is not None)
print("set", fails(lambda: time.clock_settime(time.CLOCK_REALTIME, 1e9)))
print("home", fails(lambda: os.listdir("/root")))
print("disk", fails(lambda: open("/etc/auscult/x", "w")))
print("password", fails(lambda: open("/etc/auscult/mqtt-password")))
print("raw", fails(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)))
print("cards", os.path.exists("/proc/version"))
"""


def test_the_service_may_do_what_it_needs_and_no_more(machine):
    place = surroundings(machine.run("systemctl", "cat", UNIT))
    done = machine.run(
        "systemd-run", "--quiet", "--pipe", "--wait", "--collect",
        *(f"--property={line}" for line in place), "/opt/auscult/bin/python", "-c", _INSIDE,
    )  # fmt: skip
    found = dict(line.split() for line in done.splitlines())
    assert found.pop("callback") == "42"
    assert set(found.values()) == {"True"}, found
    assert len(found) == 7


def test_the_watchdog_is_fed_and_a_frozen_process_is_restarted(machine):
    pid = start(machine)
    time.sleep(12)  # longer than WatchdogSec
    assert machine.show(UNIT, "MainPID") == pid
    machine.run("kill", "-STOP", pid)
    restarted(machine, pid)
    journal = machine.journal(UNIT)
    assert "Watchdog timeout" in journal
    # Where each thread stood.
    assert "Fatal Python error: Aborted" in journal
    assert "in wait" in journal


def test_a_killed_process_is_restarted(machine):
    pid = start(machine)
    machine.run("kill", "-KILL", pid)
    restarted(machine, pid)


def test_stop_is_clean_before_systemd_kills(machine):
    start(machine)
    machine.run("systemctl", "stop", UNIT)
    assert machine.show(UNIT, "ActiveState") == "inactive"
    assert machine.show(UNIT, "Result") == "success"
    assert machine.show(UNIT, "ExecMainStatus") == "0"


def test_alarm_and_outbox_survive_a_reboot(machine):
    start(machine)
    before = wait_for(lambda: (found := state(machine))["alarm_id"] and found)
    machine.reboot()
    # Enabled, it starts with the machine, before anybody asks.
    wait_for(lambda: active(machine), 60)
    assert state(machine)["alarm_id"] == before["alarm_id"]
    journal = machine.journal(UNIT)
    assert f"alarm {before['alarm_id']} stood when the agent ended, and stands" in journal
    assert "alarm events of an earlier run" in journal


def test_no_sound_is_told_and_no_reason_to_start_again(machine):
    etc: Path = machine.root / "etc/auscult"
    source = "  source: {kind: replay, paths: [sound], loop: true}\n"
    plain = _CONFIG.partition("metrics:")[0]
    (etc / "mute.yaml").write_text(plain.replace(source, _MUTE))
    second = f"- name: fan\n  bundle: bundle\n{_MUTE}"
    (etc / "half.yaml").write_text(plain + second)
    for name in ("mute", "half"):
        machine.run(
            "/opt/auscult/bin/auscult", "install-service", "--instance", name, "--config", f"/etc/auscult/{name}.yaml",
        )  # fmt: skip
    drop_in(machine, "auscult@mute.service", "WatchdogSec=9s\nRestartSec=1s\n")
    machine.run("systemctl", "start", "--no-block", "auscult@mute", "auscult@half")
    # One deaf machine does not keep the others from being watched over...
    wait_for(lambda: active(machine, "auscult@half"), 30)
    assert "no sound from fan" in machine.show("auscult@half", "StatusText")
    # ...nor is one that hears nothing at all started again and again: that mends no microphone.
    wait_for(lambda: active(machine, "auscult@mute"), 30)
    assert "no sound from pump" in machine.show("auscult@mute", "StatusText")
    time.sleep(20)  # twice its watchdog
    assert active(machine, "auscult@mute")
    assert machine.show("auscult@mute", "NRestarts") == "0"
