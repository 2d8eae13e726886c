"""A microphone heard through real PortAudio and PulseAudio; and its clock and names, alone."""

from __future__ import annotations

import builtins
import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from support.bundles import FAULTY_HZ, tone, write
from support.sound_server import NAME, SoundServer

from agent.capture.clock import ArrivalClock
from agent.capture.microphone import Microphone
from agent.config.capture import MicrophoneSource
from agent.core.errors import AudioError

# Sound is played and heard in real time here: on a machine busy with other tests it can come late.
pytestmark = pytest.mark.flaky(reruns=2)

AUSCULT = (sys.executable, "-m", "agent.cli", "run")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with SoundServer(tmp_path_factory.mktemp("sound") / "home") as server:
        yield server


class Agent:
    """A running `auscult run` that listens to the virtual microphone."""

    def __init__(self, folder, bundle, server) -> None:
        self.log, self.lines = folder / "log.txt", folder / "out.jsonl"
        (folder / "agent.yaml").write_text(
            f"device: dev\njsonl: {self.lines}\nmachines:\n- name: pump\n  bundle: {bundle}\n  hop_seconds: 0.5\n"
            f"  source: {{kind: microphone, device: {NAME}, stall_seconds: 3, reopen_max_seconds: 2}}\n"
        )
        self.process = subprocess.Popen(
            [*AUSCULT, "--config", folder / "agent.yaml"],
            env=server.env,
            stderr=self.log.open("wb"),
            stdout=subprocess.DEVNULL,
        )

    def messages(self, kind):
        text = self.lines.read_text() if self.lines.exists() else ""
        found = [json.loads(line) for line in text.splitlines() if line.endswith("}")]
        return [message for message in found if message["kind"] == kind]

    def wait(self, wanted, seconds=25):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if wanted():
                return
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)
        raise AssertionError(self.log.read_text() + str(self.messages("score")[-5:]))

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(60)
        finally:
            self.process.kill()


@pytest.fixture
def listening(tmp_path, tiny_bundle, server):
    agent = Agent(tmp_path, tiny_bundle, server)
    yield agent
    agent.process.kill()
    agent.process.wait()


def valid(agent):
    return [message for message in agent.messages("score") if message["validity"] == "valid"]


def test_what_is_played_is_heard_at_the_encoders_rate_and_judged(tmp_path, server, listening):
    server.play(write(tmp_path / "healthy.wav", tone(30, rate=48000), rate=48000))
    listening.wait(lambda: len(valid(listening)) >= 4)
    # Resampled rightly, the tone is the one the bundle knows.
    assert min(message["score"] for message in valid(listening)) < 0.05
    server.hush()
    server.play(write(tmp_path / "faulty.wav", tone(30, FAULTY_HZ, rate=48000), rate=48000))
    listening.wait(
        lambda: any("raised" in json.dumps(event) for event in listening.messages("event"))
    )
    assert listening.stop() == 0
    log = listening.log.read_text()
    assert f"{NAME}: listening" in log
    assert "Traceback" not in log


def test_an_unplugged_microphone_is_taken_up_again_without_a_window_over_the_gap(
    tmp_path, server, listening
):
    sound = write(tmp_path / "long.wav", tone(60, rate=48000), rate=48000)
    server.play(sound)
    listening.wait(lambda: len(valid(listening)) >= 3)
    server.unplug()
    gone = time.time()
    listening.wait(lambda: "opening it again" in listening.log.read_text())
    time.sleep(1)
    server.plug()
    back = time.time()
    server.play(sound)
    count = len(valid(listening))
    listening.wait(lambda: len(valid(listening)) >= count + 3)
    assert listening.stop() == 0
    from datetime import datetime

    for message in valid(listening):
        start = datetime.fromisoformat(message["start"].replace("Z", "+00:00")).timestamp()
        # Either all of it was heard before the gap, or all after it.
        assert start + 1 < gone + 0.5 or start > back - 0.5, message
    log = listening.log.read_text()
    assert f"{NAME}: listening after" in log
    assert "Traceback" not in log


def test_a_sound_server_that_dies_is_taken_up_again(tmp_path, server, listening):
    sound = write(tmp_path / "long.wav", tone(60, rate=48000), rate=48000)
    server.play(sound)
    listening.wait(lambda: len(valid(listening)) >= 2)
    server.stop()
    listening.wait(lambda: "opening it again" in listening.log.read_text())
    server.start()
    server.play(sound)
    count = len(valid(listening))
    listening.wait(lambda: len(valid(listening)) >= count + 2)
    assert listening.stop() == 0


def test_a_sound_driver_that_hangs_ends_the_agent_for_its_service_manager_to_restart(
    tmp_path, server, listening
):
    server.play(write(tmp_path / "long.wav", tone(60, rate=48000), rate=48000))
    listening.wait(lambda: len(valid(listening)) >= 2)
    server.freeze(signal.SIGSTOP)
    try:
        assert listening.process.wait(20) == 1, listening.log.read_text()
    finally:
        server.freeze(signal.SIGCONT)
    log = listening.log.read_text()
    assert "the audio system has not answered" in log
    assert "Traceback" not in log
    assert listening.messages("status")[-1]["status"] == "offline"


def test_a_hanging_sound_driver_does_not_hold_up_the_end(tmp_path, server, listening):
    server.play(write(tmp_path / "long.wav", tone(60, rate=48000), rate=48000))
    listening.wait(lambda: len(valid(listening)) >= 2)
    server.freeze(signal.SIGSTOP)
    try:
        time.sleep(0.5)
        assert listening.stop() == 0
    finally:
        server.freeze(signal.SIGCONT)


def test_without_the_library_the_remedy_is_told(monkeypatch):
    real = builtins.__import__

    def fail(name, *arguments):
        if name == "sounddevice":
            raise OSError("PortAudio library not found")
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", fail)
    with pytest.raises(AudioError, match="apt install libportaudio2"):
        Microphone(MicrophoneSource(), 8000).start()


def arrivals(seconds, *, rate=16000.0, ppm=0.0, lost_at=None, late_at=None):
    """Blocks of 0.1 s whose sound card is `ppm` fast, with random lateness; (frames, true start, arrival)."""
    rng = np.random.default_rng(1)
    true = 100.0
    last = 0.0
    for n in range(int(seconds * 10)):
        if lost_at is not None and n == lost_at:
            true += 1.0
        length = 0.1 / (1 + ppm * 1e-6)
        arrival = true + length + rng.exponential(0.005) + (0.6 if n == late_at else 0)
        last = max(last, arrival)
        yield 1600, true, last
        true += length


@pytest.mark.parametrize("ppm", [-200, 0, 200])
def test_clock_follows_a_drifting_sound_card_smoothly(ppm):
    clock = ArrivalClock(16000.0)
    before = None
    for frames, true, arrived in arrivals(3600, ppm=ppm):
        start, lost = clock.place(frames, arrived)
        assert not lost
        assert start == pytest.approx(true, abs=0.05)
        if before is not None:
            assert start - before == pytest.approx(0.1, abs=0.04)
        before = start


def test_clock_is_not_fooled_by_one_late_block_but_notices_lost_sound():
    clock = ArrivalClock(16000.0)
    assert not any(clock.place(frames, at)[1] for frames, _, at in arrivals(60, late_at=300))
    clock = ArrivalClock(16000.0)
    found = [
        (n, *clock.place(frames, at), true)
        for n, (frames, true, at) in enumerate(arrivals(60, lost_at=300))
    ]
    lost = [n for n, _, lost, _ in found if lost]
    assert len(lost) == 1
    assert 300 < lost[0] < 340
    assert found[-1][1] == pytest.approx(found[-1][3], abs=0.05)
