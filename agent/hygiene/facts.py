"""What was measured of a recording as JSON, and kept in the user's cache by the file's bytes."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

import agent
from agent.core.byte_cache import UserCache, key_of
from agent.core.fourier import by_scipy
from agent.core.records import ChannelFault, Validity
from agent.hygiene.measure import Measured

# Code that decodes, judges and measures: what it gave before another version of it is unknown.
_ROOMS = ("capture", "chain", "core", "explain", "hygiene", "recordings", "window")
_LIBRARIES = ("numpy", "soundfile", "soxr")
_BLOCK = 1 << 20


class FactsCache(UserCache):
    """Facts of recordings that were found fit, by their bytes; any thread may ask."""

    file, what = "recordings.sqlite", "recording"

    def find(self, paths: Sequence[Path], keys: Sequence[bytes]) -> dict[int, Measured]:
        """What is known.

        Args:
            paths: The files.
            keys: From `file_key`, of each.

        Returns:
            By place in `paths`.
        """
        return {
            place: from_json(paths[place], json.loads(value))
            for place, value in self._bytes.find(keys).items()
        }

    def keep(self, keys: Sequence[bytes], found: Sequence[Measured]) -> None:
        """Keep facts; what is over the limit goes, the longest unused first."""
        values = [json.dumps(to_json(one), separators=(",", ":")).encode() for one in found]
        self._bytes.keep(keys, values)


def file_key(path: Path, channel: int | None) -> bytes:
    """What the facts of a file are found by: its bytes, how it is read, and what reads it.

    Args:
        path: The file.
        channel: Channel in use; None for the average.

    Raises:
        OSError: It cannot be read.
    """
    # By its suffix ffmpeg or libsndfile is chosen, and SciPy's transforms round otherwise.
    how = f"{_code_digest()} {path.suffix.lower()} {channel} {by_scipy()}"
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return key_of(how.encode(), digest.digest())


@cache
def _code_digest() -> str:
    libraries = [f"{name} {version(name)}" for name in _LIBRARIES]
    digest = hashlib.sha256(" ".join([*libraries, soundfile.__libsndfile_version__]).encode())
    root = Path(agent.__file__).parent
    for room in _ROOMS:
        for path in sorted((root / room).rglob("*.py")):
            digest.update(path.relative_to(root).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def to_json(found: Measured) -> dict[str, Any]:
    """Facts but for the file's place, as JSON takes them; every number keeps its bits."""
    return {
        "seconds": found.seconds,
        "rate": found.rate,
        "channels": found.channels,
        "codec": found.codec,
        "note": found.note,
        "digest": found.digest,
        "words": _packed(found.words),
        "shape": [*found.shape.shape, _packed(found.shape)],
        "levels_dbfs": found.levels_dbfs,
        "offset": found.offset,
        "bandwidth_hz": found.bandwidth_hz,
        "channel_levels_dbfs": found.channel_levels_dbfs,
        "channel_faults": [
            [one.validity.value, one.channels, one.text, one.cancels]
            for one in found.channel_faults
        ],
    }


def from_json(path: Path, told: Mapping[str, Any]) -> Measured:
    """The facts of a file from what `to_json` gave."""
    rows, columns, shape = told["shape"]
    return Measured(
        path=path,
        seconds=told["seconds"],
        rate=told["rate"],
        channels=told["channels"],
        codec=told["codec"],
        note=told["note"],
        digest=told["digest"],
        words=np.frombuffer(base64.b64decode(told["words"]), "<u4").astype(np.uint32),
        shape=np.frombuffer(base64.b64decode(shape), "<f4")
        .astype(np.float32)
        .reshape(rows, columns),
        levels_dbfs=tuple(told["levels_dbfs"]),
        offset=told["offset"],
        bandwidth_hz=told["bandwidth_hz"],
        channel_levels_dbfs=tuple(told["channel_levels_dbfs"]),
        channel_faults=tuple(
            ChannelFault(Validity(validity), tuple(channels), text, cancels)
            for validity, channels, text, cancels in told["channel_faults"]
        ),
    )


def _packed(values: npt.NDArray[Any]) -> str:
    little = values.astype(values.dtype.newbyteorder("<"))
    return base64.b64encode(little.tobytes()).decode("ascii")
