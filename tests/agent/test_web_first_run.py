"""The whole loop from the page, in a real browser: from an unknown microphone to a judged machine."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import httpx
import pytest
import yaml
from support.browser import click, find, open_browser, photograph, shown
from support.bundles import tone, write
from support.page import until
from support.sound_server import SoundServer

pytestmark = pytest.mark.slow

SECONDS = 48
# Nobody else's bundle may lie where the commands put this one on their way.
NAME = f"pump-{os.getpid()}"
CLI = [sys.executable, "-m", "agent.cli"]


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound")
    server = SoundServer(folder / "server")
    server.announce("vmic2")
    with server:
        server.plug("vmic2", "mic2")
        write(folder / "healthy.wav", tone(600, 440, rate=16000, seed=1), rate=16000)
        write(folder / "broken.wav", tone(600, 2900, rate=16000, seed=2), rate=16000)
        server.folder = folder
        yield server


@pytest.fixture(scope="module")
def browser():
    found = open_browser()
    yield found
    found.quit()


class Device:
    """The agent as a process of its own, which hears what the sound server plays."""

    def __init__(self, folder, server):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.folder, self.env, self.url = folder, server.env, f"http://127.0.0.1:{port}"
        self.config = folder / "agent.yaml"
        self.config.write_text(
            "# The plant's own notes stay.\n"
            + yaml.safe_dump(
                {
                    "state_dir": "state",
                    "machines": [{"name": NAME, "decide": {"raise_windows": 2, "of_windows": 3}}],
                    "bundles": {"watch_seconds": 0.5, "trial_windows": 2},
                    "evidence": {"before_seconds": 3, "during_seconds": 2, "free_share": 0},
                    "collect": {"free_share": 0, "segment_seconds": 4, "rate": 16000},
                    "web": {"enabled": True, "port": port},
                }
            )
        )
        self.process = None

    def start(self):
        env = {key: value for key, value in self.env.items() if key != "STATE_DIRECTORY"}
        self.process = subprocess.Popen(
            [*CLI, "run", "--config", str(self.config)], env=env,
            stderr=(self.folder / "log").open("ab"), stdout=subprocess.DEVNULL,
        )  # fmt: skip
        until(self._answers)

    def _answers(self):
        try:
            return httpx.get(f"{self.url}/api/session").status_code == 200
        except httpx.TransportError:
            return False

    def get(self, path):
        return httpx.get(f"{self.url}/api/{path}", timeout=20).json()

    def stop(self):
        if self.process is not None:
            self.process.terminate()
            assert self.process.wait(60) == 0
            self.process = None


@pytest.fixture(scope="module")
def device(tmp_path_factory, sound):
    found = Device(tmp_path_factory.mktemp("device"), sound)
    found.start()
    yield found
    if found.process is not None:
        found.process.kill()
        found.process.wait()


def missing(device):
    return device.get("health")["machines"][NAME]["missing"]


def test_from_an_unknown_microphone_to_an_alarm(browser, device, sound, tmp_path):
    sound.play(sound.folder / "healthy.wav", sink="mic2")
    browser.get(device.url)
    # The page leads: no microphone, so no window, and nothing is claimed.
    shown(browser, "h2", "Set this machine up")
    shown(browser, ".steps li[aria-current=step]", "Choose the microphone")
    assert missing(device) == ["microphone", "bundle"]
    assert device.get("health")["machines"][NAME]["windows"] == 0
    # The level tells which of the microphones hears the machine.
    loud = shown(browser, "#microphones li", "vmic2", seconds=30)
    until(lambda: "dBFS" in loud.text, 60)
    quiet = next(one for one in find(browser, "#microphones li") if "vmic\n" in one.text + "\n"
                 and "vmic2" not in one.text)  # fmt: skip
    until(lambda: "silent" in quiet.text, 60)
    assert _level(loud) > _level(quiet) + 20
    photograph(browser, "1-microphones")
    click(browser, "[data-device=vmic2]")
    until(lambda: missing(device) == ["bundle"])
    shown(browser, "[data-device=vmic2]", "in use")
    # It survives a restart, and the user's own file was not touched.
    before = device.config.read_text()
    device.stop()
    device.start()
    assert device.get(f"machines/{NAME}/setup")["device"] == "vmic2"
    assert device.config.read_text() == before
    browser.get("about:blank")
    browser.get_log("browser")  # that the device was away was no fault of the page's
    browser.get(device.url)
    shown(browser, "[role=status]", "Heard, not judged", seconds=30)
    shown(browser, ".steps li.done", "See that it hears", seconds=30)
    _record(browser)
    _download_train_and_put_back(browser, device, tmp_path)
    # It takes over while it runs, without a restart; the page tells.
    pid = device.process.pid
    shown(browser, ".steps a", "See it judged", seconds=60)
    photograph(browser, "3-taken-over")
    click(browser, ".steps a")
    shown(browser, ".tile.good", "Normal", seconds=40)
    shown(browser, ".list .badge", "bundle swapped")
    until(lambda: browser.execute_script(
        "return Number(document.querySelector('#score').dataset.points || 0)") > 2, 40)  # fmt: skip
    photograph(browser, "4-judged")
    # And it judges: another sound is an alarm.
    sound.hush()
    sound.play(sound.folder / "broken.wav", sink="mic2")
    shown(browser, ".tile.alarm", "Alarm", seconds=60)
    photograph(browser, "5-alarm")
    _hear_its_healthy_neighbour(browser, device)
    assert device.process.pid == pid
    assert device.process.poll() is None
    assert [one for one in browser.get_log("browser") if one["level"] == "SEVERE"] == []


def _level(row):
    return float(row.find_element("css selector", "meter").get_attribute("value"))


def _record(browser):
    field = shown(browser, "[name=seconds]")
    field.clear()
    field.send_keys(str(SECONDS))
    click(browser, "#record button.main")
    shown(browser, "#running", f"of {SECONDS} s healthy")
    shown(browser, "#sessions tbody tr", "healthy", seconds=SECONDS + 40)
    photograph(browser, "2-recorded")


def _download_train_and_put_back(browser, device, folder):
    """Type what the page shows; only the network between two computers is left out."""
    link = shown(browser, "a[download]", "Download as training folder").get_attribute("href")
    (folder / f"{NAME}-training.zip").write_bytes(httpx.get(link, timeout=60).content)
    with zipfile.ZipFile(folder / f"{NAME}-training.zip") as archive:
        assert sum("/normal/" in name for name in archive.namelist()) >= SECONDS // 4 - 1
    lines = find(browser, "pre")[0].text.splitlines()
    assert lines == [line.replace("HOST", "127.0.0.1")
                     for line in device.get(f"machines/{NAME}/setup")["commands"]]  # fmt: skip
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path.cwd())}
    try:
        for line in lines:
            typed = shlex.split(line)[-1] if line.startswith("ssh") else line
            typed = typed.replace(" 127.0.0.1:", " ").replace("scp ", "cp ", 1)
            if typed.startswith("auscult "):
                typed = typed.replace("auscult", shlex.join(CLI), 1)
            subprocess.run(["bash", "-ec", typed], cwd=folder, env=env, check=True)
    finally:
        subprocess.run(["rm", "-rf", f"/tmp/{NAME}.bundle"], check=True)


def _hear_its_healthy_neighbour(browser, device):
    """What it was compared with was collected here: it plays beside the alarm."""
    place = device.folder / "state" / "evidence" / NAME
    until(lambda: list(place.glob("*/evidence.json")), 30)
    time.sleep(1)
    browser.get(f"{device.url}/#alarms/{NAME}")
    click(browser, "#alarms a")
    shown(browser, "h2", "What was heard")
    sounds = until(
        lambda: (
            len(find(browser, "audio")) > 1
            and browser.execute_script(
                "const all = [...document.querySelectorAll('audio')];"
                "all.forEach((one) => { if (one.preload !== 'auto') {"
                " one.preload = 'auto'; one.load(); } });"
                "return all.every((one) => one.duration > 1) && all.map((one) => one.duration)"
            )
        ),
        30,
    )
    assert len(sounds) >= 2
    picture = shown(browser, "canvas[aria-label^='Spectrogram of the healthy']")
    browser.execute_script("arguments[0].scrollIntoView()", picture)
    until(lambda: browser.execute_script("return arguments[0].dataset.drawn", picture))
    photograph(browser, "6-compared")
