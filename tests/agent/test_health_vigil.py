"""What systemd is told, on a real socket, and when: after windows, and only after windows."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from types import SimpleNamespace

import pytest

from agent.monitor.systemd import Notifier
from agent.monitor.watchdog import WatchdogFeeder
from agent.window.condition import ConditionStatus, SensorCondition


class Manager:
    """Systemd's end of the socket."""

    def __init__(self, address: str) -> None:
        self._wire = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._wire.bind("\0" + address[1:] if address.startswith("@") else address)
        self._wire.setblocking(False)
        self.address = address

    def told(self) -> list[dict[str, str]]:
        found = []
        while True:
            try:
                lines = self._wire.recv(4096).decode().splitlines()
            except BlockingIOError:
                return found
            found.append(dict(line.split("=", 1) for line in lines))

    def close(self) -> None:
        self._wire.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    name = f"@auscult-test-{os.getpid()}" if request.param == "abstract" else str(tmp_path / "s")
    manager = Manager(name)
    yield manager
    manager.close()


class Machine:
    """As much of a pipeline as the vigil looks at."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.counters = SimpleNamespace(windows=0)
        self.ended = False
        self.expected = True
        self.missing = ()
        self.attempts = 0
        self.hears(ConditionStatus.GOOD)

    def hears(self, status: ConditionStatus) -> None:
        self.sensor = SensorCondition(status, "", 0.0)

    def window(self, status: ConditionStatus = ConditionStatus.GOOD) -> None:
        self.counters.windows += 1
        self.hears(status)


def vigil_of(manager, **environment):
    return WatchdogFeeder(Notifier({"NOTIFY_SOCKET": manager.address, **environment}))


def kinds(manager):
    return [next(iter(message)) for message in manager.told()]


def test_ready_after_the_first_window_of_each_and_fed_by_windows_alone(manager):
    watchdog, pump, fan = vigil_of(manager), Machine("pump"), Machine("fan")
    both = [pump, fan]
    for _ in range(5):
        watchdog.look(both)
    pump.window()
    watchdog.look(both)
    assert manager.told() == []
    fan.window()
    watchdog.look(both)
    assert manager.told() == [{"READY": "1", "STATUS": "2 machines, 2 windows"}]
    for _ in range(5):
        watchdog.look(both)  # time alone feeds nobody
    assert manager.told() == []
    for _ in range(3):
        pump.window()
        watchdog.look(both)  # nor does one machine for another that hangs
    assert manager.told() == []
    fan.window()
    watchdog.look(both)
    assert manager.told() == [{"WATCHDOG": "1", "STATUS": "2 machines, 6 windows"}]
    watchdog.end()
    assert manager.told()[0]["STOPPING"] == "1"


def test_a_microphone_known_to_be_gone_does_not_deafen_the_others(manager):
    watchdog, pump, fan = vigil_of(manager), Machine("pump"), Machine("fan")
    for machine in (pump, fan):
        machine.window()
    watchdog.look([pump, fan])
    assert kinds(manager) == ["READY"]
    fan.hears(ConditionStatus.FAILURE)  # told without a window: no sound comes
    pump.window()
    watchdog.look([pump, fan])
    (message,) = manager.told()
    assert message["WATCHDOG"] == "1"
    assert message["STATUS"].endswith("; no sound from fan")
    # Where nothing is heard at all, attempts to open each of them stand for windows...
    pump.hears(ConditionStatus.FAILURE)
    for _ in range(3):
        watchdog.look([pump, fan])
    assert manager.told() == []
    fan.attempts += 1
    watchdog.look([pump, fan])
    assert manager.told() == []  # ...not while one hangs in its driver
    pump.attempts += 1
    watchdog.look([pump, fan])
    (message,) = manager.told()
    assert message["STATUS"].endswith("; no sound from fan, pump")
    watchdog.look([pump, fan])
    assert manager.told() == []


def test_a_microphone_that_is_missing_from_the_start_is_no_reason_to_start_again(manager):
    watchdog, pump = vigil_of(manager), Machine("pump")
    pump.attempts = 2
    watchdog.look([pump])
    assert manager.told() == []  # whether it will come is not known yet
    pump.hears(ConditionStatus.FAILURE)
    for _ in range(3):
        pump.attempts += 1
        watchdog.look([pump])
    assert kinds(manager) == ["READY", "WATCHDOG", "WATCHDOG"]


def test_a_dead_microphone_s_machine_that_hangs_is_not_excused(manager):
    watchdog, pump, fan = vigil_of(manager), Machine("pump"), Machine("fan")
    for _ in range(2):
        pump.window()
        fan.window(ConditionStatus.FAILURE)  # windows of silence: honestly invalid
        watchdog.look([pump, fan])
    assert kinds(manager) == ["READY", "WATCHDOG"]
    for _ in range(3):
        pump.window()
        watchdog.look([pump, fan])
    assert manager.told() == []


def test_a_machine_begun_anew_counts_from_zero(manager):
    watchdog, pump = vigil_of(manager), Machine("pump")
    pump.counters.windows = 500
    watchdog.look([pump])
    manager.told()
    again = Machine("pump")
    watchdog.look([again])
    assert manager.told() == []
    again.window()
    watchdog.look([again])
    assert kinds(manager) == ["WATCHDOG"]


def test_a_recording_that_is_over_is_not_waited_for(manager):
    watchdog, pump, fan = vigil_of(manager), Machine("pump"), Machine("fan")
    fan.ended = True
    pump.window()
    watchdog.look([pump, fan])
    assert kinds(manager) == ["READY"]


def test_slow_windows_lengthen_the_watchdog(manager):
    watchdog = vigil_of(manager, WATCHDOG_USEC="120000000", WATCHDOG_PID=str(os.getpid()))
    watchdog.begin(20.0)
    assert manager.told() == []
    watchdog.begin(60.0)
    assert manager.told() == [{"WATCHDOG_USEC": "240000000"}]
    watchdog.begin(11.0, 200.0)
    assert manager.told() == [{"WATCHDOG_USEC": "300000000"}]


def test_another_process_s_watchdog_is_not_ours(manager):
    environment = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "1000000"}
    assert Notifier(environment).watchdog_seconds == 1.0
    assert Notifier({**environment, "WATCHDOG_PID": "1"}).watchdog_seconds is None
    assert Notifier({**environment, "WATCHDOG_USEC": "?"}).watchdog_seconds is None


def test_a_line_break_in_a_status_smuggles_nothing_in(manager):
    Notifier({"NOTIFY_SOCKET": manager.address}).ready("a\nMAINPID=1")
    assert manager.told() == [{"READY": "1", "STATUS": "a MAINPID=1"}]


def test_without_systemd_nothing_is_said_and_a_lost_socket_is_survived(tmp_path, caplog):
    Notifier({}).ready("x")
    assert not caplog.records
    lost = Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")})
    lost.ready("x")
    lost.alive("x")
    assert len(caplog.records) == 1


def test_a_manager_that_does_not_read_holds_nobody_up_for_long(tmp_path):
    manager = Manager(str(tmp_path / "s"))
    notifier = Notifier({"NOTIFY_SOCKET": manager.address})
    thread = threading.Thread(
        target=lambda: [notifier.alive("x" * 2000) for _ in range(2)], daemon=True
    )
    wire = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    with contextlib.suppress(BlockingIOError):
        while True:
            wire.sendto(b"x", manager.address)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    wire.close()
    manager.close()


def test_a_machine_without_a_bundle_is_awake_and_said_not_to_be_judged(manager):
    watchdog, pump, fan = vigil_of(manager), Machine("pump"), Machine("fan")
    fan.missing = ("bundle",)
    pump.window()
    watchdog.look([pump, fan])
    assert manager.told() == []  # its microphone must be heard all the same
    fan.window()
    watchdog.look([pump, fan])
    (told,) = manager.told()
    assert told["READY"] == "1"
    assert "no bundle yet for fan" in told["STATUS"]


def test_an_agent_with_no_microphone_chosen_is_ready_for_somebody_to_choose_one(
    manager, monkeypatch
):
    watchdog, pump = vigil_of(manager), Machine("pump")
    pump.expected, pump.missing = False, ("microphone", "bundle")
    watchdog.look([pump])
    (told,) = manager.told()
    assert "no microphone yet for pump" in told["STATUS"]
    watchdog.look([pump])
    assert manager.told() == []  # not at every look
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 1.5)
    watchdog.look([pump])
    assert kinds(manager) == ["WATCHDOG"]
    # Once one is chosen, only its windows count.
    monkeypatch.setattr(time, "monotonic", lambda: now + 3)
    pump.expected = True
    watchdog.look([pump])
    assert manager.told() == []
