"""How a machine's spectrum changes over days: what its drift is told by, in Hz and dB."""

from __future__ import annotations

import threading
import time
from collections import deque
from datetime import datetime, timezone
from hashlib import sha256
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from agent.core.reasons import UnusualBand, band_words
from agent.core.records import Window
from agent.core.schema import Strict
from agent.core.state_file import StateFile
from agent.explain.spectrum import Floats, HealthySpectrum, levels_of
from agent.explain.unusual import bands_between
from agent.machine.passed import FEWEST, Day, Hour, Levels, Passed, latest_passed

_STEP_SECONDS = 10.0
_PRESENT = 30  # windows that "now" is the mean of: five minutes of running
_KEPT_DAYS, _KEPT_HOURS = 62, 24
_SAVE_SECONDS = 600.0


class DaysMemory(Strict):
    """`state/days/<machine>.json`."""

    schema_version: Annotated[int, Field(ge=1, le=1, description="Schema")] = 1
    rate: Annotated[int, Field(ge=0, description="Samples a second: it decides the bands")] = 0
    healthy: Annotated[
        str, Field(description="Which healthy levels it is told against: a digest")
    ] = ""
    accepted: Annotated[
        Levels | None,
        Field(description="Level of each band when a change was accepted last, dB; null before"),
    ] = None
    accepted_day: Annotated[
        str, Field(description="The day by UTC when that was; empty before")
    ] = ""
    days: Annotated[tuple[Day, ...], Field(max_length=_KEPT_DAYS, description="In order")] = ()
    hours: Annotated[
        tuple[Hour, ...],
        Field(max_length=_KEPT_HOURS, description="The latest hours in which it ran, in order"),
    ] = ()


class SoundDays:
    """Follows one machine's spectrum; taken by one thread, asked by any.

    Args:
        path: Where it is kept; None for nowhere.
    """

    def __init__(self, path: Path | None) -> None:
        self._lock = threading.Lock()
        self._file = StateFile(
            path, DaysMemory, what="the spectrum of days", otherwise="its days begin anew"
        )
        self._memory = self._file.load_or_new()
        self._healthy: HealthySpectrum | None = None
        self._latest: deque[Floats] = deque(maxlen=_PRESENT)
        self._due = 0.0
        self._saved = time.monotonic()

    def take(self, window: Window, healthy: HealthySpectrum | None) -> None:
        """Take a valid window of the running machine, if its time has come.

        Args:
            window: The window, as it was judged.
            healthy: Levels of healthy sound of the bundle in use; None when it has none.
        """
        if healthy is None or window.monotonic < self._due:
            return
        self._due = window.monotonic + _STEP_SECONDS
        levels = levels_of(window.samples, healthy.grid)
        with self._lock:
            if self._healthy is not healthy:
                self._compare_with(healthy)
            self._latest.append(levels)
            self._add(window.end_wall, levels)
        if time.monotonic() - self._saved >= _SAVE_SECONDS:
            self.close()

    def again(self) -> None:
        """It is heard in another way from now on: the latest minutes say nothing of it."""
        with self._lock:
            self._latest.clear()
            self._memory = self._memory.model_copy(update={"hours": ()})

    def bands(self) -> tuple[UnusualBand, ...]:
        """What has changed against healthy (or accepted) sound, the most changed first."""
        with self._lock:
            present, base = self._present(), self._base()
            healthy = self._healthy
        if present is None or base is None or healthy is None:
            return ()
        return bands_between(present, base, healthy.level_spread, healthy.grid.hertz)

    def words(self) -> str:
        """What has changed, in words: `2.8-3.5 kHz +13 dB since 2026-11-12`; empty for nothing.

        Of a change of the last hours that has gone again: its bands, and from when to when.
        """
        found = self.bands()
        if not found:
            passed = self.passed()
            return "" if passed is None or passed.days else passed.words()
        since = self._since(found[0])
        return ", ".join(band_words(one) for one in found) + (f" since {since}" if since else "")

    def passed(self) -> Passed | None:
        """What had changed a while ago and has not now, by the hour where that is still known."""
        if self.bands():
            return None
        with self._lock:
            base, healthy, memory = self._base(), self._healthy, self._memory
        if base is None or healthy is None:
            return None
        days = [one for one in memory.days if one.day > memory.accepted_day]
        by_hour = latest_passed(memory.hours, base, healthy)
        return latest_passed(days, base, healthy) if by_hour is None else by_hour

    def accept(self) -> None:
        """The machine is well as it sounds now: changes are told against that from now on."""
        with self._lock:
            present = self._present()
            if present is not None:
                days = self._memory.days
                update = {
                    "accepted": [round(float(one), 2) for one in present],
                    # What was before is no change from it.
                    "accepted_day": days[-1].day if days else "",
                    "hours": (),
                }
                self._memory = self._memory.model_copy(update=update)
        self.close()

    def told(self) -> tuple[HealthySpectrum, Floats | None, Floats | None, tuple[Day, ...]] | None:
        """Healthy levels, those accepted and those now, dB, and the days; None before a window."""
        with self._lock:
            if self._healthy is None:
                return None
            accepted = self._memory.accepted
            kept = None if accepted is None else np.array(accepted)
            return self._healthy, kept, self._present(), self._memory.days

    def close(self) -> None:
        """Write it down."""
        self._saved = time.monotonic()
        with self._lock:
            memory = self._memory
        self._file.save(memory)

    def _compare_with(self, healthy: HealthySpectrum) -> None:
        """Another bundle is in use, or the agent has begun: what was accepted is of one alone."""
        rate, digest = healthy.grid.rate, sha256(healthy.table().tobytes()).hexdigest()[:16]
        if self._memory.rate != rate:
            self._memory = DaysMemory(rate=rate, healthy=digest)
            self._latest.clear()
        elif self._memory.healthy != digest:
            update = {"healthy": digest, "accepted": None, "accepted_day": ""}
            self._memory = self._memory.model_copy(update=update)
        self._healthy = healthy

    def _add(self, wall: float, levels: Floats) -> None:
        now = datetime.fromtimestamp(wall, timezone.utc)
        days, hours = list(self._memory.days), list(self._memory.hours)
        day, hour = now.date().isoformat(), f"{now:%Y-%m-%dT%H}"
        known = days.pop() if days and days[-1].day == day else None
        windows, mean = _with(known, levels)
        days.append(Day(day=day, windows=windows, levels=mean))
        latest = hours.pop() if hours and hours[-1].hour == hour else None
        windows, mean = _with(latest, levels)
        hours.append(Hour(hour=hour, windows=windows, levels=mean))
        update = {"days": tuple(days[-_KEPT_DAYS:]), "hours": tuple(hours[-_KEPT_HOURS:])}
        self._memory = self._memory.model_copy(update=update)

    def _present(self) -> Floats | None:
        if len(self._latest) < FEWEST:
            return None
        found: Floats = np.mean(self._latest, axis=0)
        return found

    def _base(self) -> Floats | None:
        accepted = self._memory.accepted
        if self._healthy is None:
            return None
        return self._healthy.level if accepted is None else np.array(accepted)

    def _since(self, band: UnusualBand) -> str:
        """The first of the days without a break on which a band differed half as much as now."""
        with self._lock:
            base, healthy, days = self._base(), self._healthy, self._memory.days
        if base is None or healthy is None:
            return ""
        middle = (band.low_hz + band.high_hz) / 2.0
        place = int(np.clip(np.searchsorted(healthy.grid.hertz, middle) - 1, 0, len(base) - 1))
        since = ""
        for day in reversed(days):
            if abs(day.levels[place] - base[place]) < abs(band.decibels) / 2.0:
                break
            since = day.day
        return since


def _with(known: Day | Hour | None, levels: Floats) -> tuple[int, list[float]]:
    """Windows and mean levels with one window more, dB, `(bands,)`."""
    count = 1 if known is None else known.windows + 1
    mean = levels
    if known is not None:
        mean = levels / count + np.array(known.levels) * (1 - 1 / count)
    return count, [round(float(one), 3) for one in mean]
