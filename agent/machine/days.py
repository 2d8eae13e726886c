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
from pydantic import Field, FiniteFloat

from agent.core.reasons import UnusualBand, band_words
from agent.core.records import Window
from agent.core.schema import Strict
from agent.core.state_file import StateFile
from agent.explain.spectrum import Floats, HealthySpectrum, levels_of
from agent.explain.unusual import bands_between

_STEP_SECONDS = 10.0
_PRESENT = 30  # windows that "now" is the mean of: five minutes of running
_FEWEST = 3
_KEPT_DAYS = 62
_SAVE_SECONDS = 600.0

_Levels = Annotated[list[FiniteFloat], Field(max_length=1000)]


class Day(Strict):
    """A day of a machine, running."""

    day: Annotated[str, Field(description="The day by UTC, ISO 8601")]
    windows: Annotated[int, Field(ge=1, description="Windows that were measured")]
    levels: Annotated[_Levels, Field(description="Mean level of each band, dB")]


class DaysMemory(Strict):
    """`state/days/<machine>.json`."""

    schema_version: Annotated[int, Field(ge=1, le=1, description="Schema")] = 1
    rate: Annotated[int, Field(ge=0, description="Samples a second: it decides the bands")] = 0
    healthy: Annotated[
        str, Field(description="Which healthy levels it is told against: a digest")
    ] = ""
    accepted: Annotated[
        _Levels | None,
        Field(description="Level of each band when a change was accepted last, dB; null before"),
    ] = None
    days: Annotated[tuple[Day, ...], Field(max_length=_KEPT_DAYS, description="In order")] = ()


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

    def bands(self) -> tuple[UnusualBand, ...]:
        """What has changed against healthy (or accepted) sound, the most changed first."""
        with self._lock:
            present, base = self._present(), self._base()
            healthy = self._healthy
        if present is None or base is None or healthy is None:
            return ()
        return bands_between(present, base, healthy.level_spread, healthy.grid.hertz)

    def words(self) -> str:
        """What has changed, in words: `2.8-3.5 kHz +13 dB since 2026-11-12`; empty for nothing."""
        found = self.bands()
        if not found:
            return ""
        since = self._since(found[0])
        return ", ".join(band_words(one) for one in found) + (f" since {since}" if since else "")

    def accept(self) -> None:
        """The machine is well as it sounds now: changes are told against that from now on."""
        with self._lock:
            present = self._present()
            if present is not None:
                update = {"accepted": [round(float(one), 2) for one in present]}
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
            update = {"healthy": digest, "accepted": None}
            self._memory = self._memory.model_copy(update=update)
        self._healthy = healthy

    def _add(self, wall: float, levels: Floats) -> None:
        day = datetime.fromtimestamp(wall, timezone.utc).date().isoformat()
        days = list(self._memory.days)
        known = days[-1] if days and days[-1].day == day else None
        count = 1 if known is None else known.windows + 1
        mean = (
            levels if known is None else levels / count + np.array(known.levels) * (1 - 1 / count)
        )
        entry = Day(day=day, windows=count, levels=[round(float(one), 3) for one in mean])
        days = [*(days if known is None else days[:-1]), entry][-_KEPT_DAYS:]
        self._memory = self._memory.model_copy(update={"days": tuple(days)})

    def _present(self) -> Floats | None:
        if len(self._latest) < _FEWEST:
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
