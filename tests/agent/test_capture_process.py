"""Sound through real programs: ffmpeg over HTTP, commands, named pipes."""

from __future__ import annotations

import functools
import http.server
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError
from support.broker import free_port
from support.bundles import tone, write

from agent.capture.pcm import PcmFormat, decode
from agent.capture.program import command_line
from agent.capture.source import open_source
from agent.config.capture import FfmpegSource, PipeSource, SourceConfig
from agent.core.errors import AudioError
from agent.core.text import redacted

RATE = 8000
needs_ffmpeg = pytest.mark.skipif(
    shutil.which("ffmpeg") is None, reason="ffmpeg not installed (apt-get install ffmpeg)"
)


def hertz(samples):
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return spectrum.argmax() * RATE / len(samples)


class Heard:
    """A source heard by a thread of its own."""

    def __init__(self, config) -> None:
        self.source = open_source(config, RATE)
        self.blocks, self.fault = [], None
        self.source.start()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self):
        try:
            for block in self.source.blocks():
                self.blocks.append(block)
        except AudioError as fault:
            self.fault = fault

    @property
    def samples(self):
        return np.concatenate([block.samples for block in list(self.blocks)] or [np.empty(0)])

    def wait(self, wanted, seconds=60):
        deadline = time.monotonic() + seconds
        while not wanted():
            assert time.monotonic() < deadline, (len(self.blocks), self.fault)
            time.sleep(0.02)

    def join(self, seconds=60):
        self._thread.join(seconds)
        assert not self._thread.is_alive()
        return self

    def stop(self):
        began = time.monotonic()
        self.source.stop()
        self.join(30)
        return time.monotonic() - began


@pytest.fixture
def hear():
    heard = []

    def start(config):
        heard.append(Heard(config))
        return heard[-1]

    yield start
    for one in heard:
        one.source.stop()
        one.join()


@pytest.fixture
def site(tmp_path):
    """A web server over `tmp_path`."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    handler.log_message = lambda *_: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@needs_ffmpeg
def test_ffmpeg_reads_http_to_its_end(tmp_path, site, hear):
    left, right = tone(6, 440, rate=44100), tone(6, 1000, rate=44100)
    write(tmp_path / "a.flac", np.stack([left, right], axis=1), rate=44100)
    heard = hear(FfmpegSource(input=f"{site}/a.flac", live=False, channel=1)).join()
    assert heard.fault is None
    assert len(heard.samples) == pytest.approx(6 * RATE, abs=20)
    assert hertz(heard.samples) == pytest.approx(1000, abs=1)
    # The level is that of the file, not that of some mix.
    assert np.std(heard.samples[RATE:-RATE]) == pytest.approx(np.std(right), rel=0.02)
    position = 0
    for block in heard.blocks:
        assert block.monotonic - heard.blocks[0].monotonic == pytest.approx(position / RATE)
        position += len(block.samples)
    assert not any(block.gap_before for block in heard.blocks)


@needs_ffmpeg
def test_ffmpeg_hears_rtsp(tmp_path, hear):
    """A camera that announces its stream: the other way round than usual, as ffmpeg is no server."""
    write(tmp_path / "a.wav", tone(8, 700, rate=16000), rate=16000)
    place = f"rtsp://127.0.0.1:{free_port()}/live"
    options = ("-rtsp_flags", "listen", "-timeout", "20")
    heard = hear(FfmpegSource(input=place, input_options=options, live=False))
    camera = ["ffmpeg", "-nostdin", "-loglevel", "error", "-re", "-i", str(tmp_path / "a.wav"),
              "-c:a", "pcm_s16be", "-ac", "1", "-f", "rtsp", "-rtsp_transport", "tcp", place]  # fmt: skip
    deadline = time.monotonic() + 60
    while not heard.blocks and time.monotonic() < deadline:
        # Until the other side listens, it is refused.
        sending = subprocess.Popen(camera)
        while sending.poll() is None and time.monotonic() < deadline and len(heard.samples) < RATE:
            time.sleep(0.05)
        sending.terminate()
        sending.wait(5)
        time.sleep(0.2)
    assert len(heard.samples) >= RATE
    assert hertz(heard.samples[:RATE]) == pytest.approx(700, abs=2)
    heard.stop()


@needs_ffmpeg
def test_a_live_stream_that_ends_is_opened_again_with_a_gap(tmp_path, site, hear, caplog):
    caplog.set_level(logging.INFO)
    write(tmp_path / "a.wav", tone(2))
    options = ("-re",)  # as a live stream would, no faster than time
    heard = hear(FfmpegSource(input=f"{site}/a.wav", input_options=options, reopen_max_seconds=0.2))
    heard.wait(lambda: sum(block.gap_before for block in heard.blocks) >= 2)
    assert not heard.blocks[0].gap_before
    assert heard.source.faults()["reopened"] >= 2
    assert "ended with code 0" in caplog.text
    assert hertz(heard.samples[:RATE]) == pytest.approx(440, abs=2)
    for before, after in zip(heard.blocks, heard.blocks[1:], strict=False):
        # Clocks are those of the arrival.
        assert after.monotonic > before.monotonic
        assert after.monotonic + len(after.samples) / RATE <= time.monotonic() + 60
    assert heard.stop() < 20


@needs_ffmpeg
def test_what_ffmpeg_says_is_told_and_it_is_tried_for_ever(site, hear, caplog):
    url = f"{site}/none.wav".replace("//", "//operator:secret@")
    heard = hear(FfmpegSource(input=url, reopen_max_seconds=0.1))
    heard.wait(lambda: caplog.text.count("opening it again") >= 2)
    assert "404" in caplog.text
    assert "secret" not in caplog.text
    assert not heard.blocks


@needs_ffmpeg
def test_a_missing_file_that_is_not_live_is_a_fault(tmp_path, hear):
    heard = hear(FfmpegSource(input=str(tmp_path / "none.wav"), live=False)).join()
    assert "No such file" in str(heard.fault)


def test_missing_programs_are_told_before_listening_with_a_remedy():
    with pytest.raises(AudioError, match="apt install ffmpeg"):
        open_source(FfmpegSource(input="rtsp://x", executable="no-ffmpeg"), RATE).start()
    with pytest.raises(AudioError, match=r"no-such.*full path"):
        open_source(PipeSource(command=("no-such",), rate=RATE), RATE).start()


def speaker(folder, body):
    """A command that writes PCM: Python of our own."""
    script = folder / "speak.py"
    script.write_text(f"import os, sys, time\nout = sys.stdout.buffer\n{body}")
    return (sys.executable, str(script))


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A zombie is as good as gone.
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_a_command_and_all_it_started_are_ended_with_the_source(tmp_path, hear):
    command = speaker(
        tmp_path,
        "import signal, subprocess\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen(['sleep', '100'])\n"
        f"open({str(tmp_path / 'pids')!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')\n"
        "while True:\n    out.write(bytes(800)); out.flush(); time.sleep(0.05)\n",
    )
    heard = hear(PipeSource(command=command, rate=RATE))
    heard.wait(lambda: heard.blocks)
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert all(map(alive, pids))
    assert heard.stop() < 20
    assert not any(map(alive, pids))


def test_a_command_that_stalls_or_is_killed_is_started_anew(tmp_path, hear, caplog):
    runs = tmp_path / "runs"
    command = speaker(
        tmp_path,
        f"open({str(runs)!r}, 'a').write(f'{{os.getpid()}}\\n')\n"
        "print('the line is bad', file=sys.stderr, flush=True)\n"
        "for _ in range(8):\n    out.write(b'\\x01\\x02' * 800); out.flush(); time.sleep(0.1)\n"
        f"if len(open({str(runs)!r}).readlines()) > 1: os.kill(os.getpid(), 9)\n"
        "time.sleep(100)\n",
    )
    config = PipeSource(command=command, rate=RATE, stall_seconds=1, reopen_max_seconds=0.1)
    heard = hear(config)
    heard.wait(lambda: sum(block.gap_before for block in heard.blocks) >= 2)
    assert "no sound came for 1 s; it said: the line is bad" in caplog.text
    assert "ended by signal 9" in caplog.text
    first, second, *_ = map(int, runs.read_text().split())
    assert not alive(first)
    assert not alive(second)


def test_a_named_pipe_waits_for_writers_and_takes_up_the_next(tmp_path, hear):
    path = tmp_path / "fifo"
    os.mkfifo(path)
    sound = tone(1.5, 700, rate=16000)
    data = (np.stack([sound, 0 * sound], axis=1) * 32767).astype("<i2").tobytes()
    heard = hear(
        PipeSource(path=path, rate=16000, channels=2, channel=0, warm_up_seconds=0.5, stall_seconds=2)
    )  # fmt: skip
    time.sleep(0.3)
    for turn in (1, 2):
        with path.open("wb") as file:
            for at in range(0, len(data), 6401):  # odd: pieces need not be whole frames
                file.write(data[at : at + 6401])
                file.flush()
                time.sleep(0.1)
        heard.wait(lambda turn=turn: len(heard.samples) > turn * 1.4 * RATE)
        time.sleep(0.5)  # a writer on the heels of another is one with it
    gaps = [n for n, block in enumerate(heard.blocks) if block.gap_before]
    assert len(gaps) == 1
    for blocks in (heard.blocks[: gaps[0]], heard.blocks[gaps[0] :]):
        part = np.concatenate([block.samples for block in blocks])
        assert hertz(part) == pytest.approx(700, abs=3)
        assert np.std(part) == pytest.approx(np.std(sound), rel=0.05)
        settling = [block.settling for block in blocks]
        assert settling[0]
        assert not settling[-1]


def test_standard_input_is_heard_once(tmp_path):
    script = (
        "from agent.config.capture import PipeSource; from agent.capture.source import open_source\n"
        "source = open_source(PipeSource(path='-', rate=8000, format='f32le'), 8000)\n"
        "source.start(); print(sum(len(block.samples) for block in source.blocks()))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], input=tone(2).tobytes(), capture_output=True, timeout=30, check=True
    )  # fmt: skip
    assert int(run.stdout) == 16000


@pytest.mark.parametrize("kind", ["s16le", "s24le", "s32le", "f32le", "f32be"])
def test_every_format_gives_the_same_samples(kind):
    wanted = np.array([[0.5, -0.5], [-1.0, 0.25], [0.0, 2**-15]], np.float32)
    whole = np.round(wanted.astype(np.float64) * 2**31).clip(-(2**31), 2**31 - 1).astype("<i4")
    data = {
        "s16le": (whole >> 16).astype("<i2").tobytes(),
        "s24le": whole.view(np.uint8).reshape(-1, 4)[:, 1:].tobytes(),
        "s32le": whole.tobytes(),
        "f32le": wanted.astype("<f4").tobytes(),
        "f32be": wanted.astype(">f4").tobytes(),
    }[kind]
    form = PcmFormat(kind, RATE, 2)
    assert len(data) == 3 * form.frame_bytes
    np.testing.assert_array_equal(decode(data, form), wanted)


def test_configuration_of_streams():
    read = TypeAdapter(SourceConfig).validate_python
    config = read("ffmpeg:rtsp://user:pw@cam/1")
    assert isinstance(config, FfmpegSource)
    assert "tcp" in command_line(config)
    assert "tcp" not in command_line(read("ffmpeg:http://cam/1"))
    assert redacted("open rtsp://user:pw@cam/1 failed") == "open rtsp://cam/1 failed"
    for wrong in (
        {"kind": "pipe", "rate": 8000},
        {"kind": "pipe", "rate": 8000, "path": "-", "command": ["a"]},
        {"kind": "pipe", "rate": 8000, "path": "-", "channels": 2, "channel": 2},
        {"kind": "pipe", "rate": 8000, "command": "a shell line"},
    ):
        with pytest.raises(ValidationError):
            read(wrong)
