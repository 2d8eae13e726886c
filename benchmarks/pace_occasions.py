"""Doubled gain, knocks that pass, quiet starts, and faults that come slowly, one in a stream."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np
from service_sounds import LEAD, RATE, Event, Stream, joined, passing

# Healthy seconds before anything happens, how long it lasts, and how long a slow fault takes to
# come.
_BEFORE, _LASTS, _COMES = 120.0, 150.0, 300.0
_KNOCKS, _APART = 4, 60.0
_STARTS, _REST, _RISES, _RUNS = 3, 60.0, 20.0, 150.0
_HALL_DB, _FROM_DB = -35.0, -25.0
_STRONGEST, _FAULTS = ("1", "real"), 3


class Occasions:
    """Collects one machine's sound that nothing learnt from, and makes such streams of it."""

    def __init__(self, name: str) -> None:
        self._rng = np.random.default_rng([zlib.crc32(name.encode()), 0xCA])
        self._healthy, self._runs = np.zeros(0, np.float32), False
        self._sick: dict[str, tuple[np.ndarray, str]] = {}

    def take(self, stream: Stream) -> None:
        """Keep what can be used of a stream."""
        if stream.kind == "healthy" and not len(self._healthy):
            self._healthy = stream.sound
        self._runs = self._runs or stream.kind == "cycles"
        if stream.kind == "fault" and stream.events[0].start == LEAD:
            event = stream.events[0]
            if event.strength in _STRONGEST and len(self._sick) < _FAULTS:
                self._sick[stream.name] = stream.sound[int(event.start * RATE) :], event.strength

    def streams(self) -> Iterator[Stream]:
        """One thing happens in each."""
        yield _gained(self._healthy, self._rng)
        yield _knocked(self._healthy, self._rng)
        if self._runs:
            yield _started(self._healthy, self._rng)
        for name, (sound, strength) in self._sick.items():
            yield _slowly(self._healthy, sound, name, strength, self._rng)


def _some(sound: np.ndarray, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """A stretch of so many seconds from anywhere in a sound, repeated where that is shorter."""
    first = int(rng.integers(max(1, len(sound) - int(seconds * RATE))))
    parts = [sound[first:]]
    while sum(map(len, parts)) < seconds * RATE + RATE * len(parts):
        parts.append(sound)
    return joined(parts)[: int(seconds * RATE)]


def _gained(healthy: np.ndarray, rng: np.random.Generator) -> Stream:
    start = _BEFORE + float(rng.uniform(0.0, 5.0))
    sound = _some(healthy, start + _LASTS, rng)
    sound[int(start * RATE) :] *= 2.0
    event = Event("gain +6 dB", start, start + _LASTS)
    return Stream("doubled gain", "gain", np.clip(sound, -1, 1), (event,))


def _knocked(healthy: np.ndarray, rng: np.random.Generator) -> Stream:
    sound = _some(healthy, _APART * (_KNOCKS + 1), rng)
    rms, events = float(np.sqrt(np.mean(sound**2))), []
    for number in range(_KNOCKS):
        start = _APART * (number + 1) + float(rng.uniform(0.0, 5.0))
        knock = passing("slam", number, rng) * rms * 10 ** (rng.uniform(6, 12) / 20)
        sound[int(start * RATE) :][: len(knock)] += knock
        events.append(Event("knock", start, start + len(knock) / RATE))
    return Stream("knocks", "knocks", np.clip(sound, -1, 1), tuple(events))


def _started(healthy: np.ndarray, rng: np.random.Generator) -> Stream:
    """A quiet hall, then the machine, which takes a while to be as loud as it is."""
    parts, events, at = [], [], 0.0
    level = float(np.sqrt(np.mean(healthy**2)))
    for _ in range(_STARTS):
        hall = rng.standard_normal(int(_REST * RATE)) * level * 10 ** (_HALL_DB / 20)
        run = _some(healthy, _RUNS, rng)
        rising = int(_RISES * RATE)
        run[:rising] *= 10 ** (np.linspace(_FROM_DB, 0.0, rising) / 20)
        parts += [hall.astype(np.float32), run.astype(np.float32)]
        events.append(Event("start", at + _REST, at + _REST + _RUNS))
        at += _REST + _RUNS
    return Stream("quiet starts", "starts", np.concatenate(parts), tuple(events))


def _slowly(
    healthy: np.ndarray, sick: np.ndarray, name: str, strength: str, rng: np.random.Generator
) -> Stream:
    """A fault that comes over minutes: its sound takes the place of the healthy one, in power."""
    start = _BEFORE + float(rng.uniform(0.0, 5.0))
    seconds = start + _COMES + _LASTS
    well, ill = _some(healthy, seconds, rng), _some(sick, seconds, rng)
    share = np.clip((np.arange(len(well)) / RATE - start) / _COMES, 0.0, 1.0).astype(np.float32)
    event = Event(name, start, seconds, strength)
    return Stream(
        f"{name}, slowly", "fault, slow",
        np.sqrt(1.0 - share**2) * well + share * ill, (event,),
    )  # fmt: skip
