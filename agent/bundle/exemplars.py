"""A few healthy windows as sound, carried by a bundle: what an alarm is played beside.

One FLAC file holds them in a row, `healthy_sound.json` says which they are, and which of them is
the likest to each window that the bundle was made from. Nothing is judged by them.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import soundfile
from pydantic import Field, ValidationError

from agent.bundle.manifest import HEALTHY_SOUND, HEALTHY_SOUND_INDEX, Manifest
from agent.bundle.plain import held_folder, sealed_bytes
from agent.core.errors import BundleError
from agent.core.records import Samples
from agent.core.schema import Strict, explain

log = logging.getLogger(__name__)

_LIMIT = 64 * 2**20  # bytes of either file
# A start is written to a millisecond in places.
_SAME_SECONDS = 0.002


class Exemplar(Strict):
    """A healthy window that can be played."""

    source: Annotated[str, Field(description="Recording it was cut from")]
    start: Annotated[float, Field(ge=0, description="Where in that recording, seconds")]
    at: Annotated[float, Field(ge=0, description="Where in `healthy_sound.flac`, seconds")]
    seconds: Annotated[float, Field(gt=0, le=3600, description="Length")]


class HealthyWindow(Strict):
    """A window that the bundle was made from."""

    source: Annotated[str, Field(description="Its recording")]
    start: Annotated[float, Field(ge=0, description="Where in it, seconds")]
    like: Annotated[int, Field(ge=0, description="The exemplar whose embedding is nearest")]


class Exemplars(Strict):
    """`healthy_sound.json`."""

    exemplars: tuple[Exemplar, ...]
    windows: tuple[HealthyWindow, ...]

    def likest(self, source: str, start: float | None) -> tuple[Exemplar, bool] | None:
        """What to play for a healthy window.

        Args:
            source: Its recording.
            start: Where in it, seconds; None for any place of it.

        Returns:
            The exemplar, and whether it is that very window; None for one the bundle does not know.
        """
        for one in self.windows:
            if one.source == source and (start is None or abs(one.start - start) < _SAME_SECONDS):
                if one.like >= len(self.exemplars):
                    return None
                found = self.exemplars[one.like]
                return found, found.source == source and found.start == one.start
        return None


def read_exemplars(bundle: Path, manifest: Manifest | None = None) -> Exemplars | None:
    """What a bundle can play; None for one without, or a damaged one, which is logged.

    Args:
        bundle: Its folder.
        manifest: What the file is held to, where more than playing depends on it.
    """
    place = bundle / HEALTHY_SOUND_INDEX
    try:
        return Exemplars.model_validate_json(_bytes(bundle, HEALTHY_SOUND_INDEX, manifest))
    except FileNotFoundError:
        return None
    except ValidationError as fault:
        log.warning("%s: %s", place, explain(fault))
    except BundleError as fault:
        log.warning("%s", fault)
    return None


def exemplar_sounds(
    bundle: Path, exemplars: Sequence[Exemplar], manifest: Manifest | None = None
) -> tuple[list[Samples], int]:
    """The sound of several exemplars, each float32 `(n,)`, and their rate; the file is read once.

    Args:
        bundle: The bundle's folder.
        exemplars: Which.
        manifest: As of `read_exemplars`.

    Raises:
        BundleError: One of them cannot be read.
    """
    place = bundle / HEALTHY_SOUND
    try:
        with soundfile.SoundFile(io.BytesIO(_bytes(bundle, HEALTHY_SOUND, manifest))) as file:
            rate = int(file.samplerate)
            found = [_cut(file, exemplar) for exemplar in exemplars]
    except (OSError, soundfile.SoundFileError) as fault:
        raise BundleError(f"cannot be played: {fault}", where=place) from fault
    if any(not len(samples) or samples.ndim != 1 for samples in found):
        raise BundleError("is not the sound that was exported", where=place)
    return found, rate


def _cut(file: soundfile.SoundFile, exemplar: Exemplar) -> Samples:
    file.seek(min(file.frames, round(exemplar.at * file.samplerate)))
    samples = file.read(round(exemplar.seconds * file.samplerate), dtype="float32")
    return np.asarray(samples, np.float32)


def _bytes(bundle: Path, name: str, manifest: Manifest | None) -> bytes:
    """Bytes of a plain file."""
    if manifest is not None:
        if name not in manifest.files:
            raise FileNotFoundError(name)
        return sealed_bytes(bundle, name, manifest.files[name], _LIMIT)
    with held_folder(bundle) as folder:
        return folder.read(name, _LIMIT)
