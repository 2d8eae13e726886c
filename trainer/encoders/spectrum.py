"""Spectra as a handful of small matrix products, so that they export to any ONNX runtime.

ONNX has DFT and STFT operators, but TensorRT and many runtimes lack them, and a dense basis for a
1024-point frame already weighs 4 MB. Here a transform of length N = N1 * N2 is two short ones with
a table of twiddle factors between them (Cooley & Tukey 1965; Bailey 1990 calls it four-step):

    n = N2 n1 + n2,  k = k1 + N1 k2
    X[k1 + N1 k2] = sum_n2 W_N2^(n2 k2) . W_N^(n2 k1) . sum_n1 W_N1^(n1 k1) x[N2 n1 + n2]

and the second sum may be split again. The input is real, so k1 runs over its first half only: the
other half is the mirror image. Operators used: Reshape, MatMul, Mul, Add, Sub, Sqrt, Transpose,
Slice, Concat, Gather.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

# The longest short transform: its two tables hold 64 x 64 values.
MAX_FACTOR = 64


@lru_cache(maxsize=1024)
def _split(length: int, parts: int) -> tuple[int, ...] | None:
    """The `parts` factors of `length`, none above MAX_FACTOR, with the smallest sum; or None."""
    if parts == 1:
        return (length,) if length <= MAX_FACTOR else None
    best: tuple[int, ...] | None = None
    for first in range(1, min(length, MAX_FACTOR) + 1):
        if length % first:
            continue
        rest = _split(length // first, parts - 1)
        if rest is not None and (best is None or first + sum(rest) < sum(best)):
            best = (first, *rest)
    return best


def factors_of(length: int) -> tuple[int, ...] | None:
    """As few factors of at most 64 as `length` has, evenly sized, an even one first.

    Returns:
        The factors (product `length`, the first even), or None when `length` is odd or has a prime
        factor above 64.
    """
    if length < 2 or length % 2:
        return None
    parts = max(1, math.ceil(math.log(length, MAX_FACTOR) - 1e-9))
    # One or two parts more than the least, so that the short transforms are about 32 long.
    for count in range(max(parts, 2) if length > MAX_FACTOR else 1, parts + 4):
        found = _split(length, count)
        if found is not None:
            return tuple(sorted(found, key=lambda factor: (factor % 2, -factor)))
    return None


def good_length(length: int) -> int:
    """The smallest transform length not below `length` that factors well (see `factors_of`)."""
    while factors_of(length) is None:
        length += 1
    return length


def _angles(rows: int, columns: int, period: int) -> npt.NDArray[np.float64]:
    """2 pi (row * column mod period) / period: reduced as integers, so exact for long signals."""
    product = np.outer(np.arange(rows, dtype=np.int64), np.arange(columns, dtype=np.int64))
    return 2 * np.pi * (product % period) / period


class _Fourier(nn.Module):
    """Discrete Fourier transform along the last axis of a complex tensor kept as two real ones."""

    def __init__(self, factors: tuple[int, ...]) -> None:
        super().__init__()
        first, *rest = factors
        self.first, self.rest = first, math.prod(rest)
        table = _angles(first, first, first)
        # (n, 2 k): cosines beside sines; symmetric in n and k, so usable from either side.
        self.basis: Tensor
        basis = np.concatenate([np.cos(table), np.sin(table)], axis=1)
        self.register_buffer("basis", torch.tensor(basis, dtype=torch.float32), persistent=False)
        self.inner: _Fourier | None = None
        if rest:
            self.twiddle = _Twiddle(first, self.rest)
            self.inner = _Fourier(tuple(rest))

    def forward(self, real: Tensor, imag: Tensor) -> tuple[Tensor, Tensor]:
        lead = real.shape[:-1]
        if self.inner is not None:
            # (..., n1, n2) -> (..., n2, n1): the sum over n1 comes first.
            real = real.reshape(*lead, self.first, self.rest).transpose(-1, -2)
            imag = imag.reshape(*lead, self.first, self.rest).transpose(-1, -2)
        count = self.first
        a, b = torch.matmul(real, self.basis), torch.matmul(imag, self.basis)
        out_real = a[..., :count] + b[..., count:]
        out_imag = b[..., :count] - a[..., count:]
        if self.inner is None:
            return out_real, out_imag
        out_real, out_imag = self.twiddle(out_real.transpose(-1, -2), out_imag.transpose(-1, -2))
        out_real, out_imag = self.inner(out_real, out_imag)  # (..., k1, k2), k = k1 + first k2
        size = self.first * self.rest
        return (
            out_real.transpose(-1, -2).reshape(*lead, size),
            out_imag.transpose(-1, -2).reshape(*lead, size),
        )


class _Twiddle(nn.Module):
    """Multiplies by exp(-2 pi i n2 k1 / N) between two short transforms, shape `(k1, n2)`."""

    def __init__(self, first: int, rest: int, rows: int | None = None) -> None:
        super().__init__()
        table = _angles(first if rows is None else rows, rest, first * rest)
        self.cos: Tensor
        self.sin: Tensor
        self.register_buffer("cos", torch.tensor(np.cos(table), dtype=torch.float32), False)
        self.register_buffer("sin", torch.tensor(np.sin(table), dtype=torch.float32), False)

    def forward(self, real: Tensor, imag: Tensor) -> tuple[Tensor, Tensor]:
        return real * self.cos + imag * self.sin, imag * self.cos - real * self.sin


class Spectrum(nn.Module):
    """Power or magnitude spectrum of a real signal along the last axis.

    A length without small factors is zero-padded to the next one that has them (`length`), which
    samples the same spectrum more densely.

    Args:
        samples: Length of the signal.
        power: Give |X|^2 instead of |X|.

    Attributes:
        length: Transform length, `samples` or a little more.
        bins: Frequencies given: `length / 2 + 1`, from 0 to half the sample rate.
    """

    def __init__(self, samples: int, *, power: bool = False) -> None:
        super().__init__()
        self.samples, self.power = samples, power
        self.length = good_length(samples)
        self.bins = self.length // 2 + 1
        first, *rest = factors_of(self.length) or (0,)
        self.first, self.rest = first, math.prod(rest)
        self.kept = first // 2 + 1
        table = _angles(self.kept, first, first)
        self.basis: Tensor
        self.upper: Tensor
        self.mirror: Tensor
        basis = np.concatenate([np.cos(table), -np.sin(table)])  # (2 k1, n1)
        self.register_buffer("basis", torch.tensor(basis, dtype=torch.float32), persistent=False)
        self.twiddle = _Twiddle(first, self.rest, self.kept)
        self.inner = _Fourier(tuple(rest)) if rest else None
        # |X[N - k]| = |X[k]|: bin k1 > first / 2 of column k2 is bin first - k1 of column
        # rest - 1 - k2.
        columns = self.rest // 2 + 1
        self.columns = columns
        upper = torch.arange(first // 2 - 1, 0, -1)
        mirror = torch.arange(self.rest - 1, self.rest - 1 - columns, -1)
        self.register_buffer("upper", upper, persistent=False)
        self.register_buffer("mirror", mirror, persistent=False)

    @property
    def places(self) -> Tensor:
        """Where each bin is among those of `unordered`, shape `(bins,)`."""
        bins = torch.arange(self.bins)
        mirrored = bins % self.first >= self.kept
        index = torch.where(mirrored, self.length - bins, bins)
        return index % self.first * self.rest + index // self.first

    def unordered(self, signal: Tensor) -> Tensor:
        """Transform `(..., samples)` to `(..., kept * rest)`: the bins as they come, some twice."""
        return self._values(signal).flatten(-2)

    def forward(self, signal: Tensor) -> Tensor:
        """Transform `(..., samples)` to `(..., bins)`."""
        value = self._values(signal)
        lead = value.shape[:-2]
        if self.inner is None:
            return value.reshape(*lead, self.bins)
        mirrored = value.index_select(-2, self.upper).index_select(-1, self.mirror)
        whole = torch.cat([value[..., : self.columns], mirrored], dim=-2)  # (..., first, columns)
        flat = whole.transpose(-1, -2).reshape(*lead, self.columns * self.first)
        return flat[..., : self.bins]

    def _values(self, signal: Tensor) -> Tensor:
        """Bin `k1 + first k2` at `(..., k1, k2)`, of the first half of k1."""
        if self.length > self.samples:
            signal = nn.functional.pad(signal, (0, self.length - self.samples))
        lead = signal.shape[:-1]
        product = torch.matmul(self.basis, signal.reshape(*lead, self.first, self.rest))
        real, imag = product[..., : self.kept, :], product[..., self.kept :, :]
        if self.inner is not None:
            real, imag = self.inner(*self.twiddle(real, imag))
        value = real * real + imag * imag
        return value if self.power else torch.sqrt(value)


def frame(signal: Tensor, size: int, hop: int) -> Tensor:
    """Overlapping frames, by slicing the signal into hops and laying them side by side.

    Args:
        signal: Shape `(batch, samples)`, `samples >= size`.
        size: Samples a frame.
        hop: Samples from one frame to the next.

    Returns:
        Shape `(batch, frames, size)`, `frames = (samples - size) // hop + 1`.
    """
    batch, samples = signal.shape[0], signal.shape[1]
    count = (samples - size) // hop + 1
    blocks = math.ceil(size / hop)
    need = (count + blocks - 1) * hop
    signal = nn.functional.pad(signal, (0, need - samples)) if need > samples else signal[:, :need]
    hops = signal.reshape(batch, count + blocks - 1, hop)
    last = size - (blocks - 1) * hop
    parts = [hops[:, i : i + count] for i in range(blocks - 1)]
    parts.append(hops[:, blocks - 1 : blocks - 1 + count, :last])
    return torch.cat(parts, dim=-1)


class Spectrogram(nn.Module):
    """Short-time power or magnitude spectra with a Hann window.

    Args:
        size: Samples a transform.
        hop: Samples between frames.
        window: Samples of the Hann window, centred in the frame; `size` when None.
        periodic: Periodic rather than symmetric window.
        power: Give |X|^2 instead of |X|.
    """

    def __init__(
        self,
        size: int,
        hop: int,
        *,
        window: int | None = None,
        periodic: bool = True,
        power: bool = False,
    ) -> None:
        super().__init__()
        self.size, self.hop = size, hop
        self.spectrum = Spectrum(size, power=power)
        width = size if window is None else window
        before = (size - width) // 2
        hann = torch.hann_window(width, periodic=periodic, dtype=torch.float64)
        hann = nn.functional.pad(hann, (before, size - width - before)).float()
        self.window: Tensor
        self.register_buffer("window", hann, persistent=False)

    def forward(self, signal: Tensor) -> Tensor:
        """Turn `(batch, samples)` into `(batch, frames, size / 2 + 1)`; frames aren't centred."""
        spectra: Tensor = self.spectrum(self._frames(signal))
        return spectra

    def unordered(self, signal: Tensor) -> Tensor:
        """Spectra of the frames, the bins in the order of `Spectrum.unordered`."""
        return self.spectrum.unordered(self._frames(signal))

    def _frames(self, signal: Tensor) -> Tensor:
        return frame(signal, self.size, self.hop) * self.window


class BandSpectrogram(nn.Module):
    """Short-time spectra summed into bands; what is summed need not be put in order first.

    Args:
        spectrogram: Makes the spectra.
        filters: What each bin counts in each band, float32 `(size / 2 + 1, bands)`.
    """

    def __init__(self, spectrogram: Spectrogram, filters: Tensor) -> None:
        super().__init__()
        self.spectrogram = spectrogram
        spectrum = spectrogram.spectrum
        rows = torch.zeros(spectrum.kept * spectrum.rest, filters.shape[1])
        rows[spectrum.places] = filters
        self.filters: Tensor
        self.register_buffer("filters", rows, persistent=False)

    def forward(self, signal: Tensor) -> Tensor:
        """Turn `(batch, samples)` into `(batch, frames, bands)`; frames aren't centred."""
        return torch.matmul(self.spectrogram.unordered(signal), self.filters)


def mel_filters(
    *,
    rate: int,
    size: int,
    mels: int,
    low: float,
    high: float,
    scale: str = "slaney",
    area: bool = False,
) -> Tensor:
    """Triangular mel filters.

    Args:
        rate: Sample rate, Hz.
        size: Transform length, samples.
        mels: Filters.
        low: Lower edge of the first filter, Hz.
        high: Upper edge of the last, Hz.
        scale: `kaldi` (1127 ln(1 + f / 700), triangles linear in mel, the bin at half the sample
            rate left out) or `slaney` (linear below 1 kHz, triangles linear in Hz, unit height).
        area: Divide each slaney filter by its area in Hz (librosa's default), so that white noise
            is level across bands.

    Returns:
        float32, shape `(size / 2 + 1, mels)`.
    """
    hertz = np.arange(size // 2 + 1) * rate / size
    if scale == "kaldi":
        axis = _log(hertz)
        ends = _log(np.array([low, high]))
        points = np.linspace(ends[0], ends[1], mels + 2)
    else:
        axis = hertz
        ends = _slaney(np.array([low, high]))
        points = _slaney_inverse(np.linspace(ends[0], ends[1], mels + 2))
    left, centre, right = points[:-2], points[1:-1], points[2:]
    rise = (axis[:, None] - left) / (centre - left)
    fall = (right - axis[:, None]) / (right - centre)
    filters = np.maximum(0.0, np.minimum(rise, fall))
    if scale == "kaldi":
        filters[-1] = 0.0
    elif area:
        filters = filters * (2.0 / (right - left))
    return torch.tensor(filters, dtype=torch.float32)


def mel_edges(*, mels: int, rows: int, low: float, high: float, scale: str) -> tuple[float, ...]:
    """Edges of equal groups of mel filters, Hz, `rows + 1`: half-way between their centres.

    Args:
        mels: Filters.
        rows: Groups.
        low: Lower edge of the first filter, Hz.
        high: Upper edge of the last, Hz.
        scale: `slaney`, or the logarithmic one that Kaldi and HTK share.
    """
    to_mel, to_hertz = (_slaney, _slaney_inverse) if scale == "slaney" else (_log, _log_inverse)
    ends = to_mel(np.array([low, high]))
    places = np.arange(rows + 1) * (mels // rows) + 0.5
    found = to_hertz(ends[0] + places * (ends[1] - ends[0]) / (mels + 1))
    return tuple(float(hertz) for hertz in found)


def _log(hertz: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return 1127.0 * np.log1p(hertz / 700.0)


def _log_inverse(mel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return 700.0 * np.expm1(mel / 1127.0)


_KNEE = 1000.0  # Hz, where Slaney's scale turns from linear (200/3 Hz a mel) to logarithmic
_STEP = math.log(6.4) / 27.0


def _slaney(hertz: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    above = 15.0 + np.log(np.maximum(hertz, _KNEE) / _KNEE) / _STEP
    return np.where(hertz < _KNEE, hertz * 3.0 / 200.0, above)


def _slaney_inverse(mel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.where(mel < 15.0, mel * 200.0 / 3.0, _KNEE * np.exp(_STEP * (mel - 15.0)))
