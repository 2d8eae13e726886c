"""Views of a sound's spectrum: how loud, what shape, what peaks, what rhythm; nothing to train."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from trainer.encoders.base import Encoder, Framing, View
from trainer.encoders.spectrum import BandSpectrogram, Spectrogram, Spectrum

_RATE = 16000
_FRAME = 512  # samples, 32 ms: bins of 31 Hz, short enough to tell a knock from its surroundings
_HOP = 250  # samples: 64 frames a second, so that windows a whole second apart share their frames
# Below lie hum of the recording chain and its DC offset, above the edges that resamplers, codecs
# and drivers shape: the same sound through another of them must be the same sound.
LOW_HZ, HIGH_HZ = 60.0, 7000.0
_BANDS = 64  # at most: mel bands narrower than a bin are left out
# Groups of bands whose envelopes are heard for rhythm, and where rhythm lies.
_GROUPS, _RHYTHMS, _SLOWEST_HZ, _FASTEST_HZ = 8, 12, 0.4, 30.0
_SILENCE = 1e-11  # power of a band, full scale 1: -110 dB, below the noise of any microphone
_STILL = 1e-7  # of an envelope's spectrum, relative to its mean squared: a steady sound's
_NOTHING = 1e-9  # keeps digital silence from dividing by zero
# Shares of the frames that lie below.
_QUIET, _MEDIAN, _LOUD = 0.05, 0.5, 0.95


class SoundViews(Encoder):
    """Statistics over time of the band levels of one spectrogram, each a view to judge by itself.

    `profile` is the shape of four order statistics of each band's level over time (5 %, median,
    95 %, maximum), each less its own mean over bands, so that a gain changes nothing; `quiet` and
    `peaks` are its first and last. `median_level` is the median with its level, `loudness` one
    number for the whole: both in dB, and rising by g dB with a gain of g dB. `rhythm` is the
    spectrum of the envelopes of eight groups of bands, from 0.4 to 30 Hz in twelve logarithmic
    steps, relative to their means: chatter, beats, strokes.

    The median is deaf to what passes by in less than half of a window, the maximum hears what
    happens once, 5 % hears what is always there below all else.

    Args:
        window_seconds: Length of the waveform, seconds.
    """

    def __init__(self, *, window_seconds: float) -> None:
        super().__init__()
        self.kind = "sound_views"
        self.sample_rate = _RATE
        self.window_samples = round(window_seconds * _RATE)
        self.front_end = _BandFrames()
        self.statistics = _Statistics(self.window_samples, self.front_end.bands)
        bands = self.front_end.bands
        self.dim = 5 * bands + 1 + _GROUPS * _RHYTHMS

    @property
    def views(self) -> tuple[View, ...]:
        """Where each view lies in the embedding."""
        bands = self.front_end.bands

        def view(name: str, start: int, stop: int, *, level: bool = False) -> View:
            return View(name, start, stop, level=level, low_hz=LOW_HZ, high_hz=HIGH_HZ)

        return (
            view("profile", 0, 4 * bands),
            view("quiet", 0, bands),
            view("peaks", 3 * bands, 4 * bands),
            view("median_level", 4 * bands, 5 * bands, level=True),
            view("loudness", 5 * bands, 5 * bands + 1, level=True),
            view("rhythm", 5 * bands + 1, self.dim),
        )

    @property
    def framing(self) -> Framing:
        """A frame reaches 512 samples ahead: the last two of a stretch lack some of theirs."""
        return Framing(self.front_end, hop=_HOP, head=0, tail=_TAIL)

    def forward(self, waveform: Tensor) -> Tensor:
        """Turn `(batch, window_samples)` into `(batch, dim)`."""
        found: Tensor = self.statistics(self.front_end(waveform))
        return found

    def with_frames(self, frames: Tensor, waveform: Tensor) -> tuple[Tensor, None]:  # noqa: ARG002
        """The embedding of frames that were made before."""
        return self.statistics(frames), None

    def quantization_excludes(self) -> tuple[type[nn.Module], ...]:
        """Everything: order statistics of levels in dB do not survive 8 bits."""
        return (_BandFrames, _Statistics)


# Frames at the end of a stretch of whole hops that reach beyond it.
_TAIL = -(-(_FRAME - _HOP) // _HOP)


class _BandFrames(nn.Module):
    """Waveform `(batch, n)` to power in bands and in groups, `(batch, bands + groups, n / hop)`."""

    def __init__(self) -> None:
        super().__init__()
        bands, groups = band_matrix(_BANDS), band_matrix(_GROUPS)
        self.bands = bands.shape[1]
        # Scaled so that the bands' powers add up to the mean square within them (Parseval).
        window = np.hanning(_FRAME + 1)[:-1]
        scale = 2.0 / (_FRAME * float(np.sum(window**2)))
        both = torch.tensor(scale * np.concatenate([bands, groups], axis=1), dtype=torch.float32)
        self.summed = BandSpectrogram(Spectrogram(_FRAME, _HOP, power=True), both)

    def forward(self, waveform: Tensor) -> Tensor:
        ahead = nn.functional.pad(waveform, (0, _FRAME - _HOP))
        found: Tensor = self.summed(ahead)
        return found.transpose(1, 2)


class _Statistics(nn.Module):
    """Frames `(batch, bands + groups, count)` to the embedding."""

    def __init__(self, window_samples: int, bands: int) -> None:
        super().__init__()
        self.count = max(1, window_samples // _HOP - _TAIL)
        self.bands = bands
        # Order statistics, not interpolated: so many frames are no louder than the quiet one, so
        # many at least as loud as the median and the loud one, themselves among them.
        quiet, median, loud = (
            min(self.count - 1, int(share * self.count)) for share in (_QUIET, _MEDIAN, _LOUD)
        )
        self.quietest, self.upper, self.loudest = quiet + 1, self.count - median, self.count - loud
        taper = np.hanning(self.count)
        self.taper: Tensor
        self.register_buffer("taper", torch.tensor(taper, dtype=torch.float32), persistent=False)
        self.spectrum = Spectrum(self.count, power=True)
        steps = rhythm_matrix(self.spectrum.length) / max(float((taper**2).sum()), 1e-9)
        self.steps: Tensor
        self.register_buffer("steps", torch.tensor(steps, dtype=torch.float32), persistent=False)

    def forward(self, frames: Tensor) -> Tensor:
        frames = frames[:, :, : self.count]
        powers, groups = frames[:, : self.bands], frames[:, self.bands :]
        levels = _decibels(self._ordered(powers))
        shapes = (levels - levels.mean(dim=2, keepdim=True)).flatten(1)
        loudness = _decibels(powers.sum(dim=1).mean(dim=1, keepdim=True))
        return torch.cat([shapes, levels[:, 1], loudness, self._rhythm(groups)], dim=1)

    def _ordered(self, powers: Tensor) -> Tensor:
        """Quiet, median, loud and loudest of each band, `(batch, 4, bands)`.

        Each is the end of a selection that nobody sorts: half the time of ordering all frames.
        """
        quietest = torch.topk(powers, self.quietest, dim=2, largest=False, sorted=False).values
        upper = torch.topk(powers, self.upper, dim=2, sorted=False).values
        loudest = torch.topk(upper, self.loudest, dim=2, sorted=False).values
        found = (quietest.amax(2), upper.amin(2), loudest.amin(2), loudest.amax(2))
        return torch.stack(found, dim=1)

    def _rhythm(self, groups: Tensor) -> Tensor:
        envelope = torch.sqrt(groups)
        mean = envelope.mean(dim=2, keepdim=True) + _NOTHING
        swing = (envelope / mean - 1.0) * self.taper
        return 10.0 * torch.log10(torch.matmul(self.spectrum(swing), self.steps) + _STILL).flatten(
            1
        )


def _decibels(power: Tensor) -> Tensor:
    return 10.0 * torch.log10(power + _SILENCE)


def band_matrix(count: int) -> npt.NDArray[np.float64]:
    """Which bin of the spectrum is in which band, shape `(bins, bands)`, ones and zeros.

    Bands are evenly spaced in mel (1127 ln(1 + f / 700)) from `LOW_HZ` to `HIGH_HZ`; those that
    hold no bin are left out.

    Args:
        count: Bands, at most.
    """
    hertz = np.arange(_FRAME // 2 + 1) * _RATE / _FRAME
    inside = np.flatnonzero((hertz >= LOW_HZ) & (hertz <= HIGH_HZ))
    low, high = 1127.0 * np.log1p(np.array([LOW_HZ, HIGH_HZ]) / 700.0)
    edges = 700.0 * np.expm1(np.linspace(low, high, count + 1) / 1127.0)
    place = np.clip(np.searchsorted(edges, hertz[inside], side="right") - 1, 0, count - 1)
    _, place = np.unique(place, return_inverse=True)
    matrix = np.zeros((len(hertz), int(place.max()) + 1))
    matrix[inside, place] = 1.0
    return matrix


def rhythm_matrix(length: int) -> npt.NDArray[np.float64]:
    """Averages an envelope's power spectrum over each step of rhythm, shape `(bins, steps)`.

    Args:
        length: Length of the transform, frames.
    """
    hertz = np.arange(length // 2 + 1) * (_RATE / _HOP / length)
    edges = np.geomspace(_SLOWEST_HZ, _FASTEST_HZ, _RHYTHMS + 1)
    matrix = np.zeros((len(hertz), _RHYTHMS))
    for step, (low, high) in enumerate(pairwise(edges)):
        inside = np.flatnonzero((hertz >= low) & (hertz < high))
        if not len(inside):  # a short window resolves less
            inside = np.array([np.argmin(np.abs(hertz - np.sqrt(low * high)))])
        matrix[inside, step] = 1.0 / len(inside)
    return matrix
