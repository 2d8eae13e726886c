"""The windows that a bundle is held to: made up from a seed, and a few of its own healthy ones."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from agent.bundle.facts import ParityInfo
from agent.bundle.manifest import HEALTHY_SOUND, MANIFEST
from agent.core.errors import BundleError
from agent.core.records import Matrix

Pcm = npt.NDArray[np.int16]

_FULL = 2**15


def made_up(seed: int, count: int, samples: int) -> Pcm:
    """Windows of noise, hum and clicks in turn, the same to the last bit on every device.

    Integers throughout: a sine's last bit depends on the processor, and NumPy promises its raw
    generators for ever but not its distributions.

    Args:
        seed: Of the generator, PCG64.
        count: How many.
        samples: Length of each.

    Returns:
        int16, shape `(count, samples)`.
    """
    source = np.random.PCG64(seed)
    windows = np.empty((count, samples), np.int16)
    time = np.arange(samples, dtype=np.int64)
    for index in range(count):
        noise = (source.random_raw(samples) >> np.uint64(48)).astype(np.int64) - _FULL
        if index % 3 == 0:  # noise, duller than white
            smooth = np.convolve(noise, np.ones(4, np.int64))[:samples]
            window = smooth // 32
        elif index % 3 == 1:  # a hum of five triangle waves, whose loudness swells
            window = noise // 256
            for step in (source.random_raw(5) % np.uint64(2**28)).astype(np.int64) + 2**22:
                window = window + _triangle(time * step) // 16
            window = window * (2 * _FULL + _triangle(time * (2**32 // samples * 3))) // (3 * _FULL)
        else:  # clicks that die away
            every = max(16, samples // 9)
            window = noise // 512 + ((noise // 2) >> np.minimum(30, time % every // (every // 16)))
        windows[index] = np.clip(window, -_FULL, _FULL - 1)
    return windows


def _triangle(phase: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """From -2^15 to 2^15, once every 2^32 of phase."""
    height: npt.NDArray[np.int64] = np.abs((phase & (2**32 - 1)) - 2**31) >> 15
    return height - _FULL


def sha256_of(windows: Pcm) -> str:
    """SHA-256 of windows as int16, little-endian."""
    return hashlib.sha256(windows.astype("<i2").tobytes()).hexdigest()


def parity_windows(folder: Path, parity: ParityInfo, samples: int) -> Matrix:
    """The windows that a bundle is held to.

    Args:
        folder: The bundle.
        parity: What its manifest says.
        samples: Length of a window.

    Returns:
        float32, shape `(parity.made_up + parity.healthy, samples)`.

    Raises:
        BundleError: They cannot be made or read.
    """
    windows = made_up(parity.seed, parity.made_up, samples)
    if sha256_of(windows) != parity.made_up_sha256:
        raise BundleError(
            f"parity: NumPy {np.__version__} makes other windows of seed {parity.seed} than at "
            "export",
            where=folder / MANIFEST,
            remedy="Install the NumPy of constraints.txt, and report this.",
        )
    if parity.healthy:
        place, wanted = folder / HEALTHY_SOUND, parity.healthy * samples
        try:
            healthy, _ = soundfile.read(place, frames=wanted, dtype="int16")
        except (OSError, soundfile.SoundFileError) as fault:
            raise BundleError(f"parity: cannot be read: {fault}", where=place) from fault
        if healthy.shape != (wanted,):
            raise BundleError(f"parity: holds no {parity.healthy} windows", where=place)
        windows = np.concatenate([windows, healthy.reshape(parity.healthy, samples)])
    return windows.astype(np.float32) / np.float32(_FULL)
