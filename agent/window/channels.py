"""Are the channels of a recording fit to be averaged? What their average would hide.

A channel that is wired the other way round takes the machine out of the average, one that is dead
or open adds nothing or hum, one that clips is drowned by the others. Each is told by its number.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from agent.core.records import ChannelFault, Matrix, Validity
from agent.core.taper import hann
from agent.window.validity import CLIPPED_SHARE, SILENT_DBFS, clipped_share

# Channels of one array hear the machine within a few dB of each other.
QUIETER_DB = 25.0
# The average of unlike channels has 1/n of their mean power; of inverted ones next to nothing.
_CANCELLED = 0.1
# Share of a channel's power at multiples of the mains' frequency that makes it an open input...
_HUM = 0.9
# ...while another has at most this share.
_NO_HUM = 0.5
_MAINS = (50, 60)
_HARMONICS = 20
_WIDTH_HZ = 2.5


class ChannelMeter:
    """Levels of the channels of a recording, and of their average, piece by piece.

    Args:
        rate: Samples a second.
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._count = 0
        self._sum: npt.NDArray[np.float64] = np.zeros(0)
        self._square = self._clipped = self._humming = self._sum
        self._mixed = np.zeros(2)
        self._hums = 0

    def push(self, frames: Matrix) -> None:
        """Take a piece, float32 `(n, channels)`."""
        if not len(frames):
            return
        channels = frames.shape[1]
        if not self._count:
            self._sum, self._square = np.zeros(channels), np.zeros(channels)
            self._clipped, self._humming = np.zeros(channels), np.zeros(channels)
        self._count += len(frames)
        if channels == 1:
            only = frames[:, 0].astype(np.float64)
            self._sum += only.sum()
            self._square += only @ only
            return
        self._sum += frames.sum(axis=0, dtype=np.float64)
        self._square += np.square(frames, dtype=np.float64).sum(axis=0)
        mean = frames.mean(axis=1, dtype=np.float64)
        self._mixed += (mean.sum(), np.square(mean).sum())
        for channel in range(channels):
            self._clipped[channel] += clipped_share(frames[:, channel]) * len(frames)
        if len(frames) >= self._rate // 2:
            piece = frames[: self._rate].astype(np.float64)
            self._humming += [_hum_share(piece[:, n], self._rate) for n in range(channels)]
            self._hums += 1

    @property
    def levels_dbfs(self) -> tuple[float, ...]:
        """RMS level of each without its constant part, dBFS; -200 for none."""
        return tuple(
            _level(square, total, self._count)
            for square, total in zip(self._square, self._sum, strict=True)
        )

    def faults(self, usual_db: tuple[float, ...] | None = None) -> tuple[ChannelFault, ...]:
        """What is wrong with averaging them.

        Args:
            usual_db: Level of each in training, relative to the loudest, dB; a channel that was as
                quiet then is no news.
        """
        levels = np.array(self.levels_dbfs)
        if len(levels) < 2 or not np.isfinite(levels).all():
            return ()
        found = []
        top = float(levels.max())
        usual = np.array(usual_db) if usual_db and len(usual_db) == len(levels) else levels * 0.0
        dead = [
            n
            for n in range(len(levels))
            if levels[n] < SILENT_DBFS or levels[n] - top < usual[n] - QUIETER_DB
        ]
        if top > SILENT_DBFS and dead and len(dead) < len(levels):
            which = int(dead[0])
            how = (
                "gives nothing"
                if levels[which] < SILENT_DBFS
                else f"is {top - levels[which]:.0f} dB quieter than the loudest"
            )
            new = [n for n in dead if usual[n] > -QUIETER_DB]
            if new:
                found.append(
                    ChannelFault(
                        Validity.SILENT,
                        tuple(new),
                        f"{_named(new)} {how}: dead, muted or not connected",
                    )
                )
        mixed = _level(self._mixed[1], self._mixed[0], self._count)
        power = 10.0 ** (levels / 10.0)
        if top > SILENT_DBFS and 10.0 ** (mixed / 10.0) < _CANCELLED * power.mean() / len(levels):
            found.append(
                ChannelFault(
                    Validity.SILENT,
                    tuple(range(len(levels))),
                    f"{_named(range(len(levels)))} cancel each other in the average "
                    f"({top - mixed:.0f} dB are lost): one is wired the other way round",
                    cancels=True,
                )
            )
        loud = np.flatnonzero(self._clipped >= CLIPPED_SHARE * self._count)
        if len(loud):
            share = self._clipped[loud].max() / self._count
            found.append(
                ChannelFault(
                    Validity.CLIPPED,
                    tuple(int(n) for n in loud),
                    f"{share:.1%} of {_named(loud)} is clipped",
                )
            )
        found += self._hum(dead)
        return tuple(found)

    def _hum(self, dead: list[int]) -> list[ChannelFault]:
        if not self._hums:
            return []
        shares = self._humming / self._hums
        open_ = [int(n) for n in np.flatnonzero(shares >= _HUM) if int(n) not in dead]
        if not open_ or shares.min() > _NO_HUM:
            return []
        return [
            ChannelFault(
                Validity.SILENT,
                tuple(open_),
                f"{_named(open_)} holds nothing but mains hum: an open input",
            )
        ]


def _level(square: float, total: float, count: int) -> float:
    power = float(square) / max(1, count) - (float(total) / max(1, count)) ** 2
    return 10.0 * float(np.log10(max(power, 1e-20))) if np.isfinite(power) else float("nan")


def _hum_share(samples: npt.NDArray[np.float64], rate: int) -> float:
    """Share of a channel's power at multiples of 50 or of 60 Hz, 0 to 1."""
    samples = samples - samples.mean()
    power = np.abs(np.fft.rfft(samples * hann(len(samples)))) ** 2
    total = float(power.sum())
    if not np.isfinite(total) or total <= 0.0:
        return 0.0
    hertz = np.fft.rfftfreq(len(samples), 1.0 / rate)
    shares = []
    for mains in _MAINS:
        order = np.clip(np.round(hertz / mains), 1, _HARMONICS)
        at = np.abs(hertz - order * mains) <= _WIDTH_HZ
        shares.append(float(power[at].sum()) / total)
    return max(shares)


def _named(channels: object) -> str:
    numbers = [str(int(n)) for n in channels]  # type: ignore[attr-defined]
    if len(numbers) == 1:
        return f"channel {numbers[0]}"
    return f"channels {', '.join(numbers[:-1])} and {numbers[-1]}"
