"""Several machines on one microphone, and several microphones, through real PortAudio and PulseAudio."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from support.bundles import tone, write
from support.sound_server import NAME, SoundServer

from agent.capture import hub
from agent.config.capture import MicrophoneSource
from agent.core.errors import AudioError

# Sound is played and heard in real time here: on a machine busy with other tests it can come late.
pytestmark = pytest.mark.flaky(reruns=2)

TESTS = Path(__file__).parent.parent


@pytest.fixture
def server(tmp_path):
    with SoundServer(tmp_path / "home", channels=2) as server:
        yield server


class Listening:
    def __init__(self, folder, server, seconds, *configs) -> None:
        self.cards = folder / "cards"
        self.cards.write_text("")
        self._out, self._log = folder / "out.jsonl", folder / "log.txt"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "support.listen", self.cards, str(seconds), json.dumps(configs)],
            env={**server.env, "PYTHONPATH": str(TESTS)},
            stdout=self._out.open("wb"), stderr=self._log.open("wb"), cwd=TESTS.parent,
        )  # fmt: skip

    @property
    def log(self):
        return self._log.read_text()

    def lines(self, **wanted):
        lines = [json.loads(line) for line in self._out.read_text().splitlines() if line[-1] == "}"]
        return [line for line in lines if all(line.get(k) == v for k, v in wanted.items())]

    def heard(self, who, hertz=None, since=0.0):
        return [
            line
            for line in self.lines(who=who)
            if line["at"] > since and (hertz is None or abs(line["hertz"] - hertz) < 25)
        ]

    def opened(self):
        return [line for line in self.lines() if "opened" in line]

    def wait(self, wanted, seconds=60):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if wanted():
                return
            assert self.process.poll() is None, self.log
            time.sleep(0.05)
        raise AssertionError(self.log + str(self.lines()[-5:]))


@pytest.fixture
def listen(tmp_path, server):
    started = []

    def start(seconds, *configs):
        started.append(Listening(tmp_path, server, seconds, *configs))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()


def test_machines_share_a_device_a_channel_each_and_it_is_reopened_once_for_all(
    tmp_path, server, listen
):
    quick = {"stall_seconds": 3, "reopen_max_seconds": 1, "warm_up_seconds": 0.5}
    # The second spells the name in another way: it is the same device all the same.
    both = listen(
        60, {"device": NAME, "channel": 0, **quick}, {"device": "VMI", "channel": 1, **quick}
    )
    sound = np.stack([tone(40, 440, rate=48000), tone(40, 1000, rate=48000)], axis=1)
    file = write(tmp_path / "stereo.wav", sound, rate=48000)
    server.play(file)
    both.wait(lambda: len(both.heard(0, 440)) > 5 and len(both.heard(1, 1000)) > 5)
    assert not both.heard(0, 1000)
    assert not both.heard(1, 440)
    assert [line["channels"] for line in both.opened()] == [2]
    first = both.lines(who=0)
    settled = sum(line["seconds"] for line in first if line["settling"])
    assert 0.2 < settled < 0.9
    assert not any(line["gap"] for line in first)

    server.unplug()
    both.wait(lambda: both.log.count("opening it again") >= 2)
    server.plug()
    back = time.time()
    server.play(file)
    both.wait(lambda: len(both.heard(0, 440, back)) > 5 and len(both.heard(1, 1000, back)) > 5)
    assert [line["channels"] for line in both.opened()] == [2, 2]
    for who in (0, 1):
        assert sum(line["gap"] for line in both.lines(who=who)) == 1
        assert both.lines(who=who)[-1]["faults"]["reopened"] == 1


def test_a_microphone_that_appears_later_is_found_by_a_short_pause_of_the_others(
    tmp_path, server, listen
):
    quick = {"stall_seconds": 3, "reopen_max_seconds": 2, "warm_up_seconds": 0}
    both = listen(60, {"device": NAME, **quick}, {"device": "second", **quick})
    server.play(write(tmp_path / "a.wav", tone(60, 440, rate=48000), rate=48000))
    both.wait(lambda: both.heard(0, 440) and "second: there is no such microphone" in both.log)
    assert f"Found: 'pulse', '{NAME}'" in both.log or f"'{NAME}'" in both.log
    # PortAudio's list is frozen: that it is there now is of no help, until the cards change.
    server.announce("second")
    server.plug("second", "mic2")
    server.play(write(tmp_path / "b.wav", tone(60, 1000, rate=48000), rate=48000), "mic2")
    time.sleep(5)
    assert not both.heard(1)
    assert not any(line["gap"] for line in both.lines(who=0))
    both.cards.write_text(" 1 [second         ]: USB-Audio - second\n")
    both.wait(lambda: len(both.heard(1, 1000)) > 5)
    since = time.time()
    both.wait(lambda: len(both.heard(0, 440, since)) > 5)
    first = both.lines(who=0)
    assert sum(line["gap"] for line in first) == 1
    # The pause of the first was short.
    walls = [line["wall"] for line in first]
    assert 0.2 < max(np.diff(walls)) < 6
    assert [line["opened"] for line in both.opened()].count(NAME) == 2


def test_a_stream_that_is_open_and_gives_nothing_is_opened_again(tmp_path, server, listen):
    one = listen(60, {"device": NAME, "stall_seconds": 2, "reopen_max_seconds": 1})
    file = write(tmp_path / "a.wav", tone(40, 440, rate=48000), rate=48000)
    server.play(file)
    one.wait(lambda: one.heard(0, 440))
    server.suspend(True)
    one.wait(lambda: "no sound came for 2 s; opening" in one.log)
    server.suspend(False)
    back = time.time()
    one.wait(lambda: len(one.heard(0, 440, back)) > 5)
    assert "listening after" in one.log
    assert sum(line["gap"] for line in one.lines(who=0)) == 1
    assert one.lines(who=0)[-1]["faults"]["reopened"] == 1


def test_sound_lost_because_this_process_was_late_is_a_gap_and_is_counted(tmp_path, server, listen):
    one = listen(60, {"device": NAME})
    server.play(write(tmp_path / "a.wav", tone(40, 440, rate=48000), rate=48000))
    one.wait(lambda: len(one.heard(0, 440)) > 10)
    one.process.send_signal(signal.SIGSTOP)
    time.sleep(6)
    one.process.send_signal(signal.SIGCONT)
    one.wait(lambda: any(line["gap"] for line in one.lines(who=0)))
    since = time.time()
    one.wait(lambda: len(one.heard(0, 440, since)) > 12)
    lines = one.lines(who=0)
    faults = lines[-1]["faults"]
    assert sum(faults.get(cause, 0) for cause in ("overruns", "missing", "reopened")) >= 1
    # After the gap the clock is right again.
    last = lines[-1]
    assert last["wall"] + last["seconds"] == pytest.approx(last["at"], abs=1.5)


@pytest.mark.parametrize("pieces", [50, 150])
def test_a_listener_that_is_late_loses_its_own_sound_and_knows(pieces):
    listener = hub.Listener(MicrophoneSource(device="x"))
    frames = np.zeros((10, 1), np.float32)
    for n in range(pieces):
        listener.put(hub.Piece(frames, 100.0, n / 10, n / 10, lost="", device=None))
    kept = listener.pieces.qsize()
    for _ in range(kept):
        assert not listener.pieces.get_nowait().lost
    listener.put(hub.Piece(frames, 100.0, 99.0, 99.0, lost="", device=None))
    assert listener.pieces.get_nowait().lost == ("overruns" if pieces > kept else "")
    assert listener.losses["overruns"] == pieces - kept
    assert kept == min(pieces, 100)


def test_two_rates_of_one_device_are_refused_before_listening():
    one = MicrophoneSource(device="USB", rate=48000)
    hub.expect(one)
    try:
        with pytest.raises(AudioError, match="48000 Hz for one machine and 16000"):
            hub.expect(MicrophoneSource(device="USB", rate=16000))
        hub.expect(MicrophoneSource(device="USB", channel=1))
        hub.forget(MicrophoneSource(device="USB", channel=1))
    finally:
        hub.forget(one)
    hub.expect(MicrophoneSource(device="USB", rate=16000))
    hub.forget(MicrophoneSource(device="USB", rate=16000))
