"""Sounds of a report: a small spectrogram by Pillow, and a player's file."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import soundfile

from agent.core.records import Samples
from agent.evidence.spectrogram import palette_of_sound, power_db

WIDTH, HEIGHT = 400, 160
_RANGE_DB = 70.0
# Players begin at the same loudness, whatever the recording's.
_PEAK = 0.8


def flac(sound: Samples, rate: int) -> bytes:
    """A sound as a 16-bit FLAC file, which browsers play."""
    target = io.BytesIO()
    soundfile.write(target, sound, rate, format="FLAC", subtype="PCM_16")
    return target.getvalue()


def player(sound: Samples, rate: int) -> bytes:
    """A sound brought to a usual loudness, as `flac`."""
    return flac(sound * (_PEAK / max(1e-6, float(np.abs(sound).max(initial=0.0)))), rate)


def top_of(sounds: Sequence[Samples], rate: int) -> float:
    """The level that is brightest in the pictures of several sounds, dB."""
    return max((float(power_db(one, rate, WIDTH).max()) for one in sounds), default=0.0)


def small_spectrogram(sound: Samples, rate: int, top: float) -> bytes:
    """A PNG: time to the right, frequency upwards, bright is loud; without axes.

    Args:
        sound: Mono, float32 `(n,)`.
        rate: Its rate, Hz.
        top: Level that is brightest, from `top_of`.
    """
    from PIL import Image  # noqa: PLC0415 - loaded with the first picture

    table = power_db(sound, rate, WIDTH)
    starts = np.arange(HEIGHT) * len(table) // HEIGHT
    rows = np.maximum.reduceat(table, starts, axis=0)[::-1]
    colours = palette_of_sound()
    shade = np.clip((rows - top + _RANGE_DB) / _RANGE_DB, 0, 1) * (len(colours) - 1)
    image = Image.fromarray(shade.astype(np.uint8))
    image.putpalette(colours.tobytes())
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()
