"""Every byte region of a bundle altered: each must be refused, by name, and nothing loaded."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from faults.plant import AUSCULT, FaultFoundError

from agent.bundle.manifest import MANIFEST
from agent.core.errors import AuscultError
from agent.deploy.load import open_bundle

# A refusal takes no longer than a look at every byte, seconds.
_LONGEST = 5.0


@dataclass(frozen=True)
class Damage:
    """One way in which a file was altered."""

    what: str
    data: bytes


def damages(data: bytes, regions: int) -> Iterator[Damage]:
    """Regions from header to end: a bit flipped, zeroed, cut; and the file emptied or lengthened."""
    size = len(data)
    regions = min(regions, size)
    for number in range(regions):
        begin, end = number * size // regions, (number + 1) * size // regions
        middle = (begin + end) // 2
        flipped = bytes([data[middle] ^ (1 << number % 8)])
        yield Damage(f"bit at {middle}", data[:middle] + flipped + data[middle + 1 :])
        if any(data[begin:end]):
            yield Damage(f"zeros {begin}-{end}", data[:begin] + bytes(end - begin) + data[end:])
        yield Damage(f"cut at {begin}", data[:begin])
        yield Damage(f"twice {begin}-{end}", data[:end] + data[begin:])
    yield Damage("a byte more", data + b"\n")


def digits(text: str) -> Iterator[Damage]:
    """Every digit of the manifest replaced by another, one at a time."""
    for found in re.finditer(r"\d", text):
        other = str((int(found[0]) + 1) % 10)
        yield Damage(
            f"digit at {found.start()}",
            (text[: found.start()] + other + text[found.end() :]).encode(),
        )


def in_process(bundle: Path, copy: Path, regions: int) -> int:
    """Open every damaged version; how many there were.

    Raises:
        FaultFoundError: One was opened, or refused in other than words that name the file.
    """
    shutil.copytree(bundle, copy)
    number = 0
    for file in sorted(copy.iterdir()):
        whole = file.read_bytes()
        every = list(damages(whole, regions))
        if file.name == MANIFEST:
            every += digits(whole.decode())
        for damage in every:
            if file.name == MANIFEST and damage.data.strip() == whole.strip():
                continue  # white space at the end says nothing else
            number += 1
            file.write_bytes(damage.data)
            begun = time.monotonic()
            try:
                open_bundle(copy).close()
            except AuscultError as fault:
                if file.name not in str(fault):
                    raise FaultFoundError(f"{file.name}, {damage.what}: {fault}") from fault
            except Exception as fault:
                raise FaultFoundError(f"{file.name}, {damage.what}: {fault!r}") from fault
            else:
                raise FaultFoundError(f"{file.name}, {damage.what}: it was opened")
            if time.monotonic() - begun > _LONGEST:
                raise FaultFoundError(f"{file.name}, {damage.what}: took too long")
        file.write_bytes(whole)
    open_bundle(copy).close()
    return number


def by_command(bundle: Path, folder: Path) -> int:
    """`auscult run` with each file damaged in the middle, or gone; how many there were.

    Raises:
        FaultFoundError: It started, or ended in other than words that name the file.
    """
    number = 0
    # Paths are looked at before the bundle is: this one must be there.
    sound = folder / "sound.wav"
    soundfile.write(sound, np.zeros(16000), 16000)
    for name in sorted(file.name for file in bundle.iterdir()):
        for gone in (False, True):
            number += 1
            copy = folder / f"{name}-{gone}"
            shutil.copytree(bundle, copy)
            data = bytearray((copy / name).read_bytes())
            data[len(data) // 2] ^= 1
            if gone:
                (copy / name).unlink()
            else:
                (copy / name).write_bytes(data)
            config = folder / f"{name}-{gone}.yaml"
            config.write_text(
                f"state_dir: {folder / 'state'}\nmachines:\n"
                f"- {{name: p, bundle: {copy}, source: 'replay:{sound}'}}\n"
            )
            done = subprocess.run(
                [*AUSCULT, "--config", config],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            said = done.stderr
            if done.returncode != 2 or name not in said or "Traceback" in said:
                raise FaultFoundError(f"{name}: code {done.returncode}: {said[-500:]}")
    return number


if __name__ == "__main__":
    print(in_process(Path(sys.argv[1]), Path(sys.argv[2]), 64))
