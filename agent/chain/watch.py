"""Watches a microphone's chain while the machine runs: against training, and against its own past.

A quiet microphone is none that is broken. One is doubted when it hums (the mains' lines are nearly
all there is, which they were not) or is muffled (its upper bands have fallen while the rest has
not), against what it itself heard before. How it differs from training is told as a remark.
"""

from __future__ import annotations

import logging
from collections import deque
from functools import lru_cache
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import soxr
from pydantic import Field

from agent.bundle.facts import ConditionsInfo
from agent.chain.compare import compare_chain
from agent.chain.stream import StreamMeter
from agent.core.records import Recorded, Samples, Window
from agent.core.schema import Strict
from agent.core.state_file import StateFile
from agent.core.taper import hann
from agent.explain.spectrum import Floats, Grid, HealthySpectrum, levels_of
from agent.window.conditions import compare_conditions

log = logging.getLogger(__name__)

# The present is the median of so many windows (five minutes at 10 s). What leaves it undoubted
# becomes past, with which it is compared once that holds as many.
_PRESENT, _PAST = 30, 30
# From then on the past follows slowly: a day of running at 10 s.
_FOLLOWS = 1.0 / 8640
_SAVED_EVERY = 360

_MUFFLED_DB, _REST_DB, _SPREADS, _BANDS = 10.0, 4.0, 4.0, 4
_NOTHING_DB = -115.0
_MAINS_HZ, _HARMONICS, _LINE_HZ = (50.0, 60.0), 6, 0.6
_HUMS, _HUMMED = 0.9, 0.5
_SLOW_RATE = 1000  # holds the mains' harmonics, and what a resampler needs beyond


class ChainPast(Strict):
    """What a microphone heard of the running machine so far."""

    origin: Annotated[str, Field(description="The microphone")]
    rate: Annotated[int, Field(gt=0, description="Samples a second")]
    windows: Annotated[int, Field(ge=0, description="Windows heard")] = 0
    levels_db: Annotated[tuple[float, ...], Field(description="Mean level of each band, dB")] = ()
    squares: Annotated[
        tuple[float, ...], Field(description="Mean squared deviation of each band, dB squared")
    ] = ()
    hum: Annotated[float, Field(ge=0, le=1, description="Mean share of mains lines")] = 0.0


class ChainWatch:
    """One machine's chain. Called by the thread that judges, but for the two texts.

    Args:
        machine: The machine, for the log.
        path: Where the past is kept; None for nowhere.
    """

    def __init__(self, machine: str, path: Path | None = None) -> None:
        self._machine = machine
        self._file = StateFile(
            path, ChainPast, what="what a microphone heard so far", otherwise="its past begins anew"
        )
        self._past = self._file.load()
        self._present: deque[tuple[Floats, float]] = deque(maxlen=_PRESENT)
        self._end = float("-inf")
        self._anew = False
        self._meter: StreamMeter | None = None
        self._heard = 0
        self._of: HealthySpectrum | None = None
        self._trained: ConditionsInfo | None = None
        self._recorded: Recorded | None = None
        self._form: tuple[str, ...] = ()
        self._chain: tuple[str, ...] = ()
        #: Why the microphone is doubted; empty when it isn't.
        self.doubt = ""
        #: How what is heard differs from training, in sentences.
        self.differences: tuple[str, ...] = ()

    def take(
        self, window: Window, healthy: HealthySpectrum | None, trained: ConditionsInfo | None
    ) -> None:
        """Take a window in which the machine runs; those that overlap an earlier one are left out.

        Args:
            window: Valid.
            healthy: What its bundle learnt of healthy sound; None compares with nothing.
            trained: How its recordings were made.
        """
        if window.monotonic < self._end - 1e-3:
            return
        self._end = window.end_monotonic
        if self._anew:
            self._past, self._anew, self.doubt = None, False, ""
            self._present.clear()
            self._begin(healthy, trained)
        if healthy is not self._of or trained != self._trained:
            self._begin(healthy, trained)
        if window.recorded is not None and window.recorded != self._recorded:
            self._recorded = window.recorded
            self._form = _form(window.recorded, trained)
            self._tell()
        level = levels_of(window.samples, Grid.of(window.rate))
        self._remember(window, len(level))
        self._present.append((level, hum_share(window.samples, window.rate)))
        self._judge(window.rate)
        if healthy is not None:
            self._compare(window, healthy, trained)

    def again(self) -> None:
        """Compare anew: it is heard in another way from now on. Any thread."""
        self._anew = True

    def close(self) -> None:
        """Keep the past."""
        if self._past is not None:
            self._file.save(self._past)

    def _begin(self, healthy: HealthySpectrum | None, trained: ConditionsInfo | None) -> None:
        """Compare with another bundle from now on: what differed from the last one's is over."""
        self._of, self._trained = healthy, trained
        self._meter, self._heard, self._recorded = None, 0, None
        self._form = self._chain = self.differences = ()

    def _remember(self, window: Window, bands: int) -> None:
        """Take what leaves the present into the past; another microphone has one of its own."""
        past = self._past
        fits = past is not None and (past.origin, past.rate) == (window.origin, window.rate)
        if past is None or not fits or len(past.levels_db) not in {0, bands}:
            self._past = past = ChainPast(origin=window.origin, rate=window.rate)
            self._present.clear()
            self.doubt = ""
        if len(self._present) < _PRESENT or self.doubt:
            return  # what is broken is no past to compare with
        level, heard = self._present[0]
        share = max(1.0 / (past.windows + 1), _FOLLOWS)
        mean = np.array(past.levels_db or level)
        squares = np.array(past.squares or np.zeros(len(level)))
        away = level - mean
        mean = mean + share * away
        squares = squares + share * (away * (level - mean) - squares)
        hum = past.hum + share * (heard - past.hum)
        self._past = past.model_copy(
            update={
                "windows": past.windows + 1,
                "levels_db": tuple(mean.tolist()),
                "squares": tuple(squares.tolist()),
                "hum": min(max(hum, 0.0), 1.0),
            }
        )
        if self._past.windows % _SAVED_EVERY == 0 or self._past.windows == _PAST:
            self.close()

    def _judge(self, rate: int) -> None:
        past = self._past
        if past is None or past.windows < _PAST or len(self._present) < _PRESENT:
            return
        levels = np.median([level for level, _ in self._present], axis=0)
        hum = float(np.median([share for _, share in self._present]))
        doubt = ""
        if hum >= _HUMS and past.hum <= _HUMMED:
            doubt = (
                f"it hums: lines of the mains are {100 * hum:.0f} % of what it hears "
                f"({100 * past.hum:.0f} % before): check its cable, shield and supply"
            )
        else:
            doubt = muffled(
                levels, np.array(past.levels_db), np.sqrt(past.squares), Grid.of(rate).hertz
            )
        if bool(doubt) != bool(self.doubt):
            log.warning("%s: microphone: %s", self._machine, doubt or "as before again")
        self.doubt = doubt

    def _compare(
        self, window: Window, healthy: HealthySpectrum, trained: ConditionsInfo | None
    ) -> None:
        self._meter = self._meter or StreamMeter(window.rate)
        self._meter.push(window.samples)
        self._heard += 1
        # After five minutes of running, and now and then later: the machine has its own moods.
        rounds, rest = divmod(self._heard, _PRESENT)
        if rest or (rounds & (rounds - 1) and rounds % 64):
            return
        facts = self._meter.facts()
        if facts is None or facts.rate != healthy.grid.rate:
            return
        bandwidth = None if trained is None else trained.bandwidth_hz
        told = list(compare_chain(facts, healthy, bandwidth).text)
        told += [
            one.text
            for one in compare_conditions(
                trained, bandwidth_hz=facts.bandwidth_hz, encoder_rate=window.rate
            )
        ]
        self._chain = tuple(told)
        self._tell()

    def _tell(self) -> None:
        told = (*self._form, *self._chain)
        if told and told != self.differences:
            log.warning("%s: heard otherwise than in training: %s", self._machine, "; ".join(told))
        self.differences = told


def _form(recorded: Recorded, trained: ConditionsInfo | None) -> tuple[str, ...]:
    """How a stream's form differs from that of the training recordings."""
    found = compare_conditions(
        trained, channels=recorded.channels, channel=recorded.channel, rate=recorded.rate
    )
    return tuple(one.text for one in found)


def muffled(present: Floats, past: Floats, spread: Floats, edges: Floats) -> str:
    """Whether upper bands have fallen while the rest has not, in words; empty when not.

    Args:
        present: Levels of the bands, dB, `(bands,)`.
        past: Their levels before.
        spread: How much they moved then, dB.
        edges: Edges of the bands, Hz, `(bands + 1,)`.
    """
    fit = np.flatnonzero((past > _NOTHING_DB) & (edges[1:] <= 0.9 * edges[-1]))
    if len(fit) < 2 * _BANDS:
        return ""
    change = (present - past)[fit]
    fallen = change <= -np.maximum(_MUFFLED_DB, _SPREADS * spread[fit])
    # The highest bands, down to the first that has not fallen.
    kept = np.flatnonzero(~fallen)
    first = 0 if not len(kept) else int(kept[-1]) + 1
    rest = change[:first]
    if len(fit) - first < _BANDS or len(rest) < _BANDS or abs(np.median(rest)) > _REST_DB:
        return ""
    decibels, hertz = -float(np.median(change[first:])), float(edges[fit[first]])
    return (
        f"it is muffled: above {hertz / 1000:.2g} kHz {decibels:.0f} dB lower than in its own "
        "past, while the rest is as loud: look for dirt, water or a cover"
    )


def hum_share(samples: Samples, rate: int) -> float:
    """Share of a sound's power in the lines of 50 or 60 Hz mains, 0 to 1."""
    tapered = ((samples - samples.mean()) * hann(len(samples))).astype(np.float32)
    # All of the spectrum's power, by Parseval.
    total = (len(tapered) * float(tapered @ tapered) + float(tapered.sum()) ** 2) / 2.0
    if total <= 0:
        return 0.0
    slow, slow_rate, scale = tapered, rate, 1.0
    if rate > 2 * _SLOW_RATE:
        # The lines lie far below: the transform of all that a window holds would find nothing else.
        slow, slow_rate = soxr.resample(tapered, rate, _SLOW_RATE, quality="MQ"), _SLOW_RATE
        scale = (len(tapered) / len(slow)) ** 2
    spectrum = np.fft.rfft(slow)
    power = scale * (np.square(spectrum.real) + np.square(spectrum.imag))
    shares = [float(power[lines].sum()) / total for lines in _mains_lines(len(slow), slow_rate)]
    return min(1.0, max(shares))


@lru_cache(maxsize=4)
def _mains_lines(count: int, rate: int) -> tuple[npt.NDArray[np.intp], ...]:
    """Bins of so many samples' spectrum in which the lines of each mains lie."""
    hertz = np.fft.rfftfreq(count, 1.0 / rate)
    width = max(_LINE_HZ, 2.5 * rate / count)
    found = []
    for mains in _MAINS_HZ:
        lines = np.zeros(len(hertz), bool)
        for harmonic in range(1, _HARMONICS + 1):
            lines |= np.abs(hertz - harmonic * mains) <= width
        found.append(np.flatnonzero(lines))
    return tuple(found)


def chain_file(state: Path, machine: str) -> Path:
    """Where a machine's past is kept, in the folder of the agent's `state`."""
    return state / "chain" / f"{machine}.json"
