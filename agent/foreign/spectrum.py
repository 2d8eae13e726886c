"""What passes, told from the spectrum alone: weaker than a model, and free of any file.

Healthy sound is known by the levels of its cells (a fifth of a second in a band). A second is as
strange as its bands are above what such cells have. A fault is about as strange in every second;
what passes is not: it comes, goes, pauses. Of that, speech has most of its envelope's movement at
about 4 Hz (Houtgast and Steeneken 1985) and a pitch that moves; blows begin within a frame or two
and are over soon.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.core.foreign import ForeignKind, ForeignSound
from agent.core.records import Samples
from agent.explain.spectrum import Floats, HealthySpectrum, cell_levels

# A band is strange from so many spreads of healthy cells on, and counts for so many at most.
_FROM, _MOST = 2.0, 8.0
# Cells joined to about a second.
_CELLS = 5
# So strange, in the mean over the bands, is the strange part of a window that varies; and so much
# less its quiet part, as a share.
_STRANGE, _QUIET = 0.15, 0.5

_VOICE_HZ = (300.0, 3400.0)
_FRAME_SECONDS, _STEP_SECONDS = 0.032, 0.016
_SPEECH_HZ, _MOVEMENT_HZ = (2.5, 8.0), (0.5, 16.0)
_SPEECH_SHARE, _DEPTH_DB = 0.4, 3.0
_PITCH_HZ, _VOICED, _VOICED_SHARE = (75.0, 350.0), 0.45, 0.15
# A blow: so far above the median frame within so many frames.
_BLOW_DB, _RISE_FRAMES, _BLOW_SHARE = 10.0, 2, 0.3


@dataclass(frozen=True, slots=True)
class Variation:
    """How strange the seconds of a window are.

    Attributes:
        most: Its strange part (the second strangest second).
        least: Its quiet part (the second least strange).
    """

    most: float
    least: float

    @property
    def varies(self) -> bool:
        """Whether what is strange is not there all the time."""
        return self.most >= _STRANGE and self.least < _QUIET * self.most

    @property
    def share(self) -> float:
        """How much less strange the quiet part is, 0 to 1."""
        return 0.0 if self.most <= 0 else 1.0 - self.least / self.most


class SpectrumEar:
    """Tells what passes, for one machine.

    Args:
        healthy: What its cells are like.
        windows: Some healthy windows, float32 `(n,)` each: what the machine does itself is not
            told.
    """

    def __init__(self, healthy: HealthySpectrum, windows: Sequence[Samples] = ()) -> None:
        self._healthy = healthy
        self._rate = healthy.grid.rate
        # A machine's own strokes and modulation count as much as its healthy windows have.
        self._strangest = max((self._strangeness(one).max() for one in windows), default=0.0)
        heard = [movement(one, self._rate) for one in windows]
        self._own_speech = (
            max((share for share, _ in heard), default=0.0),
            max((depth for _, depth in heard), default=0.0),
        )
        self._own_blows = max((self._blows(one)[0] for one in windows), default=0)

    def variation(self, samples: Samples) -> Variation:
        """How much what is strange in a window comes and goes."""
        strange = np.sort(np.maximum(self._strangeness(samples) - self._strangest, 0.0))
        if len(strange) < 4:
            return Variation(0.0, 0.0)
        return Variation(float(strange[-2]), float(strange[1]))

    def hear(self, samples: Samples, variation: Variation) -> tuple[ForeignSound, ...]:
        """What is recognised in a window that exceeds.

        Args:
            samples: float32 `(n,)`.
            variation: Of it.
        """
        if not variation.varies:
            return ()
        found = []
        if sounds_like_speech(samples, self._rate, self._own_speech):
            found.append(ForeignSound(ForeignKind.SPEECH, variation.share, "spectrum"))
        blows, loud = self._blows(samples)
        if not found and blows > self._own_blows and loud < _BLOW_SHARE:
            found.append(ForeignSound(ForeignKind.IMPULSES, loud, "spectrum"))
        if not found:
            found.append(ForeignSound(ForeignKind.PASSING, variation.share, "spectrum"))
        return tuple(found)

    def _strangeness(self, samples: Samples) -> Floats:
        """How strange each second is, mean over the bands of spreads beyond healthy, `(n,)`."""
        cells = cell_levels(samples, self._healthy.grid)
        whole = len(cells) // _CELLS * _CELLS
        if not whole:
            return np.zeros(1)
        power = 10.0 ** (cells[:whole] / 10.0)
        seconds = 10.0 * np.log10(power.reshape(-1, _CELLS, power.shape[1]).mean(axis=1))
        beyond = (seconds - self._healthy.cell) / self._healthy.cell_spread
        found: Floats = np.clip(beyond - _FROM, 0.0, _MOST).mean(axis=1)
        return found

    def _blows(self, samples: Samples) -> tuple[int, float]:
        """Sudden onsets, and the share of frames that are loud."""
        frames = frames_of(samples, self._rate)
        level = 10.0 * np.log10(np.mean(frames.astype(np.float64) ** 2, axis=1) + 1e-12)
        level = level - np.median(level)
        loud = level > _BLOW_DB
        before = np.concatenate([np.zeros(_RISE_FRAMES), level[:-_RISE_FRAMES]])
        onset = loud & (level - before > 0.6 * _BLOW_DB)
        starts = np.flatnonzero(np.diff(np.concatenate(([0], onset.astype(np.int8)))) > 0)
        return len(starts), float(loud.mean())


def frames_of(samples: Samples, rate: int) -> npt.NDArray[np.float32]:
    """Overlapping frames of 32 ms, 16 ms apart, `(n, samples)`."""
    frame, step = round(_FRAME_SECONDS * rate), round(_STEP_SECONDS * rate)
    if len(samples) < frame:
        samples = np.pad(samples, (0, frame - len(samples)))
    return np.lib.stride_tricks.sliding_window_view(samples, frame)[::step]


def movement(samples: Samples, rate: int) -> tuple[float, float]:
    """Share of the voice band's movement at the rhythm of speech, and its depth, dB."""
    frames = frames_of(samples, rate)
    size = frames.shape[1]
    spectrum = np.abs(np.fft.rfft(frames * np.hanning(size).astype(np.float32), axis=1)) ** 2
    hertz = np.fft.rfftfreq(size, 1.0 / rate)
    band = (hertz >= _VOICE_HZ[0]) & (hertz <= _VOICE_HZ[1])
    envelope = 10.0 * np.log10(spectrum[:, band].sum(axis=1) + 1e-12)
    depth = float(np.percentile(envelope, 95) - np.percentile(envelope, 30))
    taper = np.hanning(len(envelope))
    moved = np.abs(np.fft.rfft((envelope - envelope.mean()) * taper)) ** 2
    rates = np.fft.rfftfreq(len(envelope), _STEP_SECONDS)

    def within(low: float, high: float) -> float:
        return float(moved[(rates >= low) & (rates < high)].sum())

    return within(*_SPEECH_HZ) / max(within(*_MOVEMENT_HZ), 1e-12), depth


def voiced(samples: Samples, rate: int) -> float:
    """Share of the frames whose sound has a pitch."""
    size = 1 << round(np.log2(0.064 * rate))
    frames = np.lib.stride_tricks.sliding_window_view(samples, size)[:: size // 2]
    frames = (frames - frames.mean(axis=1, keepdims=True)) * np.hanning(size)
    power = np.abs(np.fft.rfft(frames, 2 * size, axis=1)) ** 2
    # The machine's own part is taken off: tones that are always there are no pitch.
    fresh = np.maximum(power - 2.0 * np.median(power, axis=0), 0.0)
    lags = np.fft.irfft(fresh, axis=1)
    first, last = int(rate / _PITCH_HZ[1]), int(rate / _PITCH_HZ[0])
    peaks = lags[:, first:last].max(axis=1) / np.maximum(lags[:, 0], 1e-12)
    return float(np.mean(peaks > _VOICED))


def sounds_like_speech(samples: Samples, rate: int, own: tuple[float, float] = (0.0, 0.0)) -> bool:
    """Whether some seconds have the rhythm and the pitch of speech.

    Args:
        samples: float32 `(n,)`, a second at least.
        rate: Samples a second.
        own: The machine's own `movement`, which speech exceeds; zeros where it isn't known.
    """
    share, depth = movement(samples, rate)
    return (
        share > max(_SPEECH_SHARE, own[0])
        and depth > max(_DEPTH_DB, own[1])
        and voiced(samples, rate) > _VOICED_SHARE
    )
