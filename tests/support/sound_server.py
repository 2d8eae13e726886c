"""A real PulseAudio of its own, with a microphone that can be unplugged and that hears files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

NAME = "vmic"
_NEEDED = ("pulseaudio", "pactl", "paplay")


class SoundServer:
    """Use as a context manager; `env` is for the processes that shall listen."""

    def __init__(self, folder: Path, *, channels: int = 1) -> None:
        self._channels = channels
        absent = [tool for tool in _NEEDED if shutil.which(tool) is None]
        if absent:
            pytest.skip(
                f"{', '.join(absent)} not installed (apt-get install pulseaudio pulseaudio-utils libasound2-plugins)"
            )
        folder.mkdir(parents=True)
        runtime = folder / "run"
        runtime.mkdir(mode=0o700)
        self._asoundrc = folder / ".asoundrc"
        self._asoundrc.write_text("pcm.!default { type pulse }\n")
        self.announce(NAME)
        self.env = {
            **os.environ,
            "HOME": str(folder),
            "XDG_RUNTIME_DIR": str(runtime),
            "PULSE_RUNTIME_PATH": str(runtime),
        }
        self._server: subprocess.Popen[bytes] | None = None
        self._players: list[subprocess.Popen[bytes]] = []

    def __enter__(self):
        self.start()
        probe = subprocess.run(
            [sys.executable, "-c", "import sounddevice; print(sounddevice.query_devices())"],
            env=self.env, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if NAME not in probe.stdout:
            self.stop()
            pytest.skip(
                f"PortAudio does not see PulseAudio (libportaudio2, libasound2-plugins): {probe.stderr[-200:]}"
            )
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        arguments = [
            "pulseaudio",
            "--daemonize=no",
            "--exit-idle-time=-1",
            "-n",
            "--load=module-native-protocol-unix",
        ]
        self._server = subprocess.Popen(arguments, env=self.env, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while subprocess.run(
            ["pactl", "info"], env=self.env, capture_output=True, check=False
        ).returncode:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        self.plug()

    def hush(self) -> None:
        """End all that is played."""
        for player in self._players:
            player.kill()
            player.wait()
        self._players.clear()

    def stop(self) -> None:
        self.hush()
        if self._server is not None:
            self._server.kill()
            self._server.wait()
            self._server = None

    def announce(self, name: str) -> None:
        """Let ALSA know of a microphone, which PortAudio then sees when next initialised."""
        with self._asoundrc.open("a") as file:
            file.write(
                f'pcm.{name} {{ type pulse device "{name}" hint {{ show on description "{name}" }} }}\n'
            )

    def plug(self, name: str = NAME, sink: str = "mic") -> None:
        self._pactl(
            "load-module", "module-null-sink", f"sink_name={sink}", "rate=48000",
            f"channels={self._channels}",
        )  # fmt: skip
        self._pactl(
            "load-module", "module-remap-source", f"source_name={name}", f"master={sink}.monitor"
        )

    def unplug(self) -> None:
        """Both modules: while any source is left, PulseAudio moves the listener to it."""
        self._pactl("unload-module", "module-remap-source")
        self._pactl("unload-module", "module-null-sink")

    def suspend(self, suspended: bool, sink: str = "mic") -> None:
        """The microphone stays, and so do streams from it, but gives nothing."""
        self._pactl("suspend-source", NAME, str(int(suspended)))
        self._pactl("suspend-sink", sink, str(int(suspended)))

    def freeze(self, signal_number: int) -> None:
        assert self._server is not None
        self._server.send_signal(signal_number)

    def play(self, file: Path, sink: str = "mic") -> None:
        self._players.append(
            subprocess.Popen(
                ["paplay", "-d", sink, str(file)], env=self.env, stderr=subprocess.DEVNULL
            )
        )

    def _pactl(self, *arguments: str) -> None:
        subprocess.run(["pactl", *arguments], env=self.env, check=True, capture_output=True)
