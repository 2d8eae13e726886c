"""Speech in an alarm's sound: found, and blurred or dropped before anything is written.

Found by the detector that a machine's `foreign.speech` names; without one by its rhythm and pitch
(`agent.foreign.spectrum`), which is weaker: it misses quiet or short speech. Blurred speech keeps
the spectrum of each half second and loses what is said: its frames become noise of that spectrum.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from agent.config.evidence import SpeechHandling
from agent.config.foreign import ForeignConfig
from agent.core.errors import ConfigError
from agent.core.records import Samples
from agent.evidence.record import EvidenceRecord, JudgedWindow, RemovedSpeech
from agent.evidence.ring import Clip
from agent.foreign.ear import speech_model
from agent.foreign.spectrum import sounds_like_speech

log = logging.getLogger(__name__)

Stretch = tuple[float, float]
"""Start and end, seconds."""

# Less than a detector's usual half: what is doubtful goes.
_SURE = 0.3
_DETECTOR_SECONDS = 512 / 16_000
# Around what is found, and between what is one sentence, seconds.
_AROUND, _PAUSE = 0.5, 1.0
# Without a detector: windows of this are asked, so far apart, seconds.
_WINDOW, _HOP = 4.0, 1.0
# Blurred: the spectrum of so much is kept, seconds.
_BLUR = 0.5


class SpeechRemover:
    """Takes speech out of one machine's evidence.

    Args:
        handling: What becomes of it.
        foreign: Names the detector, if there is one.
    """

    def __init__(self, handling: SpeechHandling, foreign: ForeignConfig) -> None:
        self.handling = handling
        self._foreign = foreign

    def __call__(self, clip: Clip, record: EvidenceRecord) -> tuple[Clip, EvidenceRecord]:
        """Take it out, and write down where; windows with any are not whole any more."""
        if self.handling == "keep":
            return clip, record
        found, by = self.find(clip.samples, clip.rate)
        if not found:
            return clip, record.model_copy(update={"speech_by": by})
        change = _blurred if self.handling == "blur" else np.zeros_like
        samples = _changed(clip.samples, clip.rate, found, change)
        removed = tuple(
            RemovedSpeech(at=round(begin, 3), seconds=round(end - begin, 3)) for begin, end in found
        )
        windows = tuple(_without(window, found) for window in record.windows)
        update = {"speech": removed, "speech_by": by, "windows": windows}
        return replace(clip, samples=samples), record.model_copy(update=update)

    def find(self, samples: Samples, rate: int) -> tuple[list[Stretch], str]:
        """Where speech is, and who found it: `detector` or `rhythm`.

        Args:
            samples: float32 `(n,)`.
            rate: Samples a second.
        """
        seconds = len(samples) / rate
        if self._foreign.speech is not None:
            try:
                sure = speech_model(self._foreign.speech).hear(samples, rate)
            except ConfigError as fault:
                log.warning("speech is looked for by its rhythm alone: %s", fault)
            else:
                step = _DETECTOR_SECONDS
                hits = [(n * step, (n + 1) * step) for n in np.flatnonzero(sure >= _SURE)]
                return _joined(hits, seconds), "detector"
        hits = []
        for start in np.arange(0.0, max(seconds - _WINDOW, 0.0) + _HOP / 2, _HOP):
            part = samples[round(start * rate) : round((start + _WINDOW) * rate)]
            if len(part) >= rate and sounds_like_speech(part, rate):
                hits.append((float(start), float(start) + _WINDOW))
        return _joined(hits, seconds), "rhythm"


def _joined(hits: Sequence[Stretch], seconds: float) -> list[Stretch]:
    found: list[Stretch] = []
    for first, last in hits:
        begin, end = max(0.0, first - _AROUND), min(seconds, last + _AROUND)
        if found and begin <= found[-1][1] + _PAUSE:
            found[-1] = found[-1][0], max(found[-1][1], end)
        else:
            found.append((begin, end))
    return found


def _changed(
    samples: Samples, rate: int, found: Sequence[Stretch], change: Callable[[Samples], Samples]
) -> Samples:
    changed = samples.copy()
    size = round(_BLUR * rate)
    for begin, end in found:
        first, last = round(begin * rate), min(round(end * rate), len(samples))
        for start in range(first, last, size):
            stop = min(start + size, last)
            changed[start:stop] = change(samples[start:stop])
    return changed


def _blurred(block: Samples) -> Samples:
    """Noise with a block's coarse spectrum: 30 Hz apart at least, so that no pitch is left either.

    Seeded by the block, so that writing the same evidence again gives the same sound.
    """
    size = len(block)
    power = np.abs(np.fft.rfft(block)) ** 2
    wide = max(1, round(30.0 * _BLUR))
    smooth = np.convolve(power, np.ones(wide) / wide, mode="same")
    rng = np.random.default_rng(size)
    phase = rng.uniform(0.0, 2.0 * np.pi, len(smooth))
    noise = np.fft.irfft(np.sqrt(smooth) * np.exp(1j * phase), n=size)
    found: Samples = noise.astype(np.float32)
    return found


def _without(window: JudgedWindow, found: Sequence[Stretch]) -> JudgedWindow:
    """A window; not whole when something of it was changed."""
    end = window.start + window.seconds
    if any(begin < end and stop > window.start for begin, stop in found):
        return window.model_copy(update={"whole": False})
    return window
