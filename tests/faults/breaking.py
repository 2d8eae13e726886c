"""The faults of the campaign, one function each. Each breaks something, and gives the count."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import soundfile
from faults.plant import HERE, Count, FaultFoundError, Plant, Site, sound, wait_until
from support.broker import mosquitto
from support.sound_server import NAME, SoundServer

# Hours that the wall clock is set to, from the right time; the last is right again.
_JUMPS = (1, -1, 24 * 400, -24 * 3650, 0, 24 * 7, 0.02, -0.02, 0)


class NotPossibleError(Exception):
    """This machine lacks what the fault needs; says what."""


def need(campaign: str) -> None:
    """Raises NotPossibleError where the fault cannot be made here."""
    lacking = {
        "broker": lambda: None,
        "kill": lambda: None,
        "microphone": _lacks_sound,
        "disk": _lacks_mount,
        "clock": _lacks_compiler,
    }[campaign]()
    if lacking:
        raise NotPossibleError(lacking)
    mosquitto()


def _lacks_sound() -> str | None:
    absent = [tool for tool in ("pulseaudio", "pactl", "paplay") if shutil.which(tool) is None]
    return f"{', '.join(absent)} not installed" if absent else None


def _lacks_mount() -> str | None:
    return None if os.geteuid() == 0 else "mounting a small disk needs root"


def _lacks_compiler() -> str | None:
    return None if _compiler() else "no C compiler (apt-get install g++)"


def _compiler() -> str | None:
    return next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)


@contextlib.contextmanager
def _running(plant: Plant) -> Iterator[Plant]:
    try:
        plant.start()
        yield plant
    finally:
        plant.end()


def broker_outages(site: Site, times: int) -> Count:
    """The broker stopped and started under load."""
    with _running(Plant(site, "broker")) as plant:
        plant.more(3)
        for _ in range(times):
            site.broker.stop()
            time.sleep(site.chance.uniform(0.0, 0.8))
            site.broker.start()
            came = len(site.received(plant.name))
            wait_until(
                lambda came=came: len(site.received(plant.name)) > came,
                30,
                "nothing is delivered after the broker's return",
            )
            time.sleep(site.chance.uniform(0.0, 0.5))
        return plant.settle()


def kills(site: Site, times: int) -> Count:
    """`kill -9` at random instants, from the first moments of the start on; every tenth time the
    broker is away as well, and comes back after the next start."""
    plant = Plant(site, "kill")
    away = False
    try:
        for number in range(times):
            plant.start()
            if site.chance.random() < 0.7:
                # After it began to work: between an event's saving and its delivery, or so.
                aim = plant.note() + 1
                with contextlib.suppress(FaultFoundError):
                    wait_until(lambda aim=aim: plant.note() >= aim, 15, "no event")
                time.sleep(site.chance.uniform(0.0, 0.5))
            else:
                time.sleep(site.chance.uniform(0.0, 2.5))
            if away:
                site.broker.start()
                away = False
            elif number % 10 == 5:
                site.broker.stop()
                away = True
                time.sleep(site.chance.uniform(0.0, 1.0))
            plant.kill()
        if away:
            site.broker.start()
        plant.start()
        plant.more(1)
        return plant.settle()
    finally:
        plant.end()


def unplugging(site: Site, times: int) -> Count:
    """The microphone removed and returned: real PortAudio on a real PulseAudio."""
    recording = site.folder / "microphone.wav"
    # Longer turns: a sound server has its delays.
    soundfile.write(recording, sound(60.0, rate=48_000, turn=0.4), 48_000)
    source = {
        "kind": "microphone",
        "device": NAME,
        "stall_seconds": 2,
        "reopen_max_seconds": 1,
        "warm_up_seconds": 0.2,
    }
    with SoundServer(site.folder / "home") as server:
        plant = Plant(site, "microphone", source=source, env=server.env)
        with _running(plant):
            server.play(recording)
            plant.more(1)
            for _ in range(times):
                time.sleep(site.chance.uniform(0.0, 0.5))
                server.unplug()
                server.hush()
                time.sleep(site.chance.uniform(0.3, 1.5))
                before = plant.note()
                server.plug()
                server.play(recording)
                wait_until(
                    lambda before=before: plant.note() > before,
                    30,
                    "the microphone is not heard again after its return",
                )
            server.hush()
            return plant.settle()


@contextlib.contextmanager
def _small_disk(place: Path, size: str) -> Iterator[Path]:
    place.mkdir(parents=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "auscult-faults", place],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise NotPossibleError(f"no small disk can be mounted: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=False)


def _fill(disk: Path, ballast: Path) -> None:
    """To the last byte."""
    with ballast.open("ab", buffering=0) as file:
        for size in (65_536, 4096, 512, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * size)
    usage = os.statvfs(disk)
    if usage.f_bavail * usage.f_frsize > 4096:
        raise FaultFoundError(f"{disk} could not be filled")


def full_disk(site: Site, times: int) -> Count:
    """The state directory's disk filled under load: with the broker there, and without it.

    While it is full, events are in memory: they must reach the broker if it is there, the disk as
    soon as there is room again if it isn't, and outlive a kill from then on.
    """
    with _small_disk(site.folder / "small-disk", "4m") as disk:
        plant = Plant(site, "disk", state=disk / "state")
        ballast = disk / "ballast"
        try:
            plant.start()
            plant.more(3)
            for number in range(times):
                absent = number % 2 == 1
                if absent:
                    site.broker.stop()
                _fill(disk, ballast)
                plant.more(5)
                if not absent:
                    aim = list(plant.raised)[-2]
                    wait_until(
                        lambda aim=aim: aim in plant.delivered(),
                        20,
                        "what was raised on a full disk is not delivered",
                    )
                ballast.unlink()
                if absent:
                    # The next try of the disk is at most some seconds away; then even a kill
                    # may come.
                    time.sleep(7)
                    plant.note()
                    plant.kill()
                    site.broker.start()
                    plant.start()
                plant.more(2)
            return plant.settle()
        finally:
            plant.end()


def clock_jumps(site: Site, times: int) -> Count:
    """The wall clock set forwards and back under the agent, and while it is killed."""
    setting = site.folder / "clock-offset"
    shim = site.folder / "wall_clock.so"
    subprocess.run(
        [_compiler(), "-shared", "-fPIC", "-O2", "-o", shim, HERE / "wall_clock.c"],
        check=True,
    )

    def be(hours: float) -> None:
        # In one step: it is read at every look at the clock.
        new = setting.with_suffix(".new")
        new.write_text(f"{hours * 3600:.0f}\n")
        new.replace(setting)

    be(0)
    env = {"LD_PRELOAD": str(shim), "WALL_CLOCK_OFFSET": str(setting)}
    plant = Plant(site, "clock", env=env)
    with _running(plant):
        plant.more(2)
        for number in range(times):
            hours = _JUMPS[number % len(_JUMPS)]
            be(hours)
            plant.more(2)
            wait_until(
                lambda hours=hours: (
                    plant.note() and abs(plant.clock - time.time() - 3600 * hours) < 15
                ),
                30,
                f"the agent does not notice a clock {hours:+g} h off",
            )
            if number % 3 == 2:
                plant.kill()
                plant.start()
                plant.more(1)
        be(0)
        return plant.settle()
