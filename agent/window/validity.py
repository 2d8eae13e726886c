"""May a stretch of sound be judged at all? A dead, saturated or interrupted microphone may not.

A detector trained on healthy sound gives such input some score, high or low, that says nothing of
the machine. Everything here is a few passes of numpy over the samples: on a small device it runs
once a hop.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from agent.core.records import Samples, Validity

# Shortest recording that is judged, seconds. Less holds too few turns of a slow machine, and
# repeating it to fill a window would give a click at each joint.
MIN_SECONDS = 1.0

# RMS after removing the mean, dBFS, below which no live microphone is thought to be behind the
# samples. Insensitive digital microphones (-41 dBFS at 94 dB SPL) in a quiet 30 dB SPL room give
# -105; 16-bit sound at -110 is zeros with one sample in a hundred off by one step. A constant
# (DC only) has RMS 0.
SILENT_DBFS = -110.0
# Below this there is only rounding, and no point in printing a level.
_NOTHING = -160.0

# A run of constant samples this long, seconds, is sound that was lost and filled in (or a noise
# gate, which is as bad): a microphone's own noise doesn't stand still.
GAP_SECONDS = 0.5
# "Constant" allows for the rounding that resampling to another rate leaves on a constant: this, and
# this share of the peak. The noise of a quiet room, -105 dBFS, makes steps ten times as large.
_CONSTANT_STEP = 2e-7
_ROUNDING = 4e-7

# Pairs of neighbours looked at in a stretch that long, before all of them are.
_PROBES = 64

# A run of constant samples that is this share of the whole is a dead microphone, not a gap.
_MOSTLY = 0.9

# A driver's buffer that is given again and again: its first samples, its least length (s), how
# alike the rounding of a resampler leaves it, and how flat the spectrum of noise is at least.
_KEY, _SHORTEST_BUFFER, _REPEATED, _NOISY = 32, 0.004, 1e-6, 1e-5
_TIMES = 4  # it comes so often in a window, at least

# Share of samples piled up at the extremes from which a recording counts as clipped. A single peak
# at full scale, or a file normalised to its peak, has next to none.
CLIPPED_SHARE = 1e-3
# Only extremes at this level or above are looked at: lower ones are no converter's limit.
_FULL_LEVEL = 0.99
# Piled up: within 1e-4 of the extreme (3 steps of 16 bits: dither can't hide it), and more of them
# there than in the band of 1 % below it. A round top, even that of a slow sine, has more of its
# samples in the band.
_PILE = 1e-4
_BAND = 1e-2
# Clipped sound that was resampled or filtered rings beyond full scale, where nothing that a
# converter gave can be; a float file recorded at another scale lies there too.
_OVER_LEVEL = 1.001
# No converter or filter rings so far beyond full scale.
_UNSCALED = 100.0


# Samples that are added up in single precision.
_ROW = 1000
_ONES = np.ones(_ROW, np.float32)


def level_dbfs(samples: Samples) -> float:
    """RMS level as training measures it (`trained_on.level_dbfs`), dBFS; -200 for zeros.

    Not finite where a sample isn't.

    The constant part (DC) of a converter is no sound and does not count.

    Args:
        samples: float32, shape `(n,)`, `n > 0`, full scale 1.0.
    """
    power = _power(samples)
    return 10 * float(np.log10(max(power, 1e-20))) if np.isfinite(power) else power


def assess(
    samples: Samples,
    rate: int,
    *,
    min_seconds: float = MIN_SECONDS,
    level: float | None = None,
) -> tuple[Validity, str]:
    """Judge whether a stretch of sound may be judged.

    Args:
        samples: float32, shape `(n,)`, full scale 1.0, any length.
        rate: Samples a second.
        min_seconds: Shortest length accepted; a caller with windows of its own length gives 0.
        level: Its `level_dbfs`; measured when None.

    Returns:
        VALID and an empty text; or, by the first that applies, TOO_SHORT, NOT_FINITE, SILENT,
        GAP (constant samples inside), CLIPPED, and why in words a technician understands. Whether
        its level may be judged (`LevelRange.judge`) is asked after whether the machine is idle.
    """
    seconds = len(samples) / rate
    if len(samples) == 0 or seconds < min_seconds:
        return Validity.TOO_SHORT, f"{seconds:.2f} s of sound, at least {min_seconds:g} s needed"
    level = level_dbfs(samples) if level is None else level
    if not np.isfinite(level) and (bad := len(samples) - int(np.isfinite(samples).sum())):
        return Validity.NOT_FINITE, f"{bad} of {len(samples)} samples are NaN or infinite"
    if level < SILENT_DBFS:
        return Validity.SILENT, _dead(f"{level:.0f} dBFS" if level > _NOTHING else "no signal")
    shortest = math.ceil(min(GAP_SECONDS * rate, _MOSTLY * len(samples)))
    constant = _longest_constant(samples, shortest) / rate
    if constant >= _MOSTLY * seconds:
        return Validity.SILENT, _dead("no signal")
    if constant >= GAP_SECONDS:
        return Validity.GAP, f"{constant:.1f} s of constant samples inside: sound was lost"
    if period := frozen_period(samples, rate):
        return Validity.SILENT, (
            f"the same {period:.2g} s over and over: the microphone or its driver is frozen"
        )
    if (share := clipped_share(samples)) >= CLIPPED_SHARE:
        if (peak := float(np.abs(samples).max())) >= _UNSCALED:
            return Validity.CLIPPED, (
                f"samples reach {peak:.0f} times full scale: numbers that were not scaled to -1..1 "
                "when they were written (divide 16-bit ones by 32768)"
            )
        return Validity.CLIPPED, f"{share:.1%} of the samples are clipped: too loud for the gain"
    return Validity.VALID, ""


def frozen_period(samples: Samples, rate: int) -> float:
    """Length of a buffer that is given over and over, seconds; 0 when none is.

    A buffer of noise never comes twice, sample by sample; a pure tone does, and is none: what is
    repeated has to hold noise (spectral flatness).

    Args:
        samples: float32, shape `(n,)`, as recorded: resampling may blur an odd period.
        rate: Samples a second.
    """
    key = samples[:_KEY]
    least, most = max(_KEY, int(_SHORTEST_BUFFER * rate)), min(len(samples) // _TIMES, rate)
    if most <= least or not np.ptp(key):
        return 0.0
    # Candidates by a few samples; few or none of them in live sound.
    places: npt.NDArray[np.intp] = np.flatnonzero(
        np.abs(samples[least : most + 1] - key[0]) <= _REPEATED
    )
    places = places + least
    for offset in range(1, _KEY):
        if not len(places):
            return 0.0
        places = places[np.abs(samples[places + offset] - key[offset]) <= _REPEATED]
    for period in places[:4]:
        if np.abs(samples[period:] - samples[:-period]).max() <= _REPEATED:
            power = np.abs(np.fft.rfft(samples[:period]))[1:] ** 2 + 1e-20
            flatness = np.exp(np.mean(np.log(power))) / np.mean(power)
            return float(period) / rate if flatness > _NOISY else 0.0
    return 0.0


def clipped_share(samples: Samples) -> float:
    """Share of samples piled up at a limit near full scale, or beyond full scale if that is more.

    Args:
        samples: float32, shape `(n,)`, `n > 0`, finite, full scale 1.0; one channel as recorded
            (averaging channels spreads the pile of one; so does resampling broadband sound).

    Returns:
        0 to 1.
    """
    piled, highest, lowest = 0, float(samples.max()), -float(samples.min())
    for sign, extreme in ((1, highest), (-1, lowest)):
        if extreme < _FULL_LEVEL:
            continue
        height = samples if sign > 0 else -samples
        pile = int(np.count_nonzero(height >= extreme * (1 - _PILE)))
        band = int(np.count_nonzero(height >= extreme * (1 - _BAND))) - pile
        piled += pile if pile > band else 0
    loud = max(highest, lowest) > _OVER_LEVEL
    over = int(np.count_nonzero(np.abs(samples) > _OVER_LEVEL)) if loud else 0
    return max(piled, over) / len(samples)


def _dead(level: str) -> str:
    return f"{level}: the microphone is dead, muted or not connected"


def _power(samples: Samples) -> float:
    """Mean square about the mean; not finite exactly when a sample is not.

    In single precision, which products are quick in: off by a millionth. About a mean that is
    nearly it, what is left of a constant is next to nothing, and taken off as well.
    """
    count = len(samples)
    with np.errstate(invalid="ignore", over="ignore"):  # +inf and -inf
        away = samples - np.float32(_sum(samples) / count)
        power = float(away @ away) / count - (_sum(away) / count) ** 2
        if not np.isfinite(power):  # or too large for single precision
            wide = samples.astype(np.float64)
            power = float(np.mean(np.square(wide - wide.mean())))
    return max(power, 0.0) if np.isfinite(power) else power


def _sum(samples: Samples) -> float:
    """Sum, by rows that single precision adds up well."""
    whole = len(samples) // _ROW * _ROW
    rows = samples[:whole].reshape(-1, _ROW) @ _ONES
    return float(rows.sum(dtype=np.float64)) + float(samples[whole:].sum(dtype=np.float64))


def _longest_constant(samples: Samples, shortest: int) -> int:
    """Samples in the longest stretch in which neighbours are equal; 0 when none has `shortest`."""
    step = _CONSTANT_STEP + _ROUNDING * float(max(samples.max(), -samples.min()))
    # Nearly always there is none, which a few neighbours tell: so long a stretch would hold
    # `least` of them in a row.
    stride = max(1, shortest // _PROBES)
    least = (shortest - 1) // stride
    if least and _longest_still(samples[:-1:stride], samples[1::stride], step) < least:
        return 0
    return _longest_still(samples[:-1], samples[1:], step) + 1


def _longest_still(samples: Samples, neighbours: Samples, step: float) -> int:
    """How many in a row differ from their neighbours by no more than `step`."""
    moved: npt.NDArray[np.intp] = np.flatnonzero(np.abs(neighbours - samples) > step)
    bounds = np.concatenate(([-1], moved, [len(samples)]))
    return int(np.diff(bounds).max()) - 1
