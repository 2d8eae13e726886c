"""What an alarm is about: its reason, and the series of alarms that it is one of."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from agent.core.reasons import Circumstance, Reason, UnusualBand
from agent.core.records import Level
from agent.core.scale import Zone
from agent.decide.log import AlarmLog
from agent.decide.memory import AlarmMemory, AlarmSeries
from agent.decide.reason import MOST_BANDS, same_band, what_is_new


class AlarmAbout(AlarmLog):
    """An alarm's log that also knows why, how often and since when.

    Args:
        memory: Where an earlier run stopped; None begins at normal.
        new_id: Makes the id of a new alarm.
        series_seconds: Alarms no longer apart than this are of one series.
    """

    def __init__(
        self, memory: AlarmMemory | None, new_id: Callable[[], str], series_seconds: float
    ) -> None:
        super().__init__(memory, new_id)
        self._series_seconds = series_seconds

    @property
    def told_of(self) -> tuple[Zone | None, tuple[UnusualBand, ...]]:
        """The worst zone, and the bands, that were told of the present alarm."""
        return self._memory.told_zone, self._memory.told_bands

    def explained(
        self,
        zone: Zone | None,
        bands: Sequence[UnusualBand],
        context: Sequence[Circumstance] = (),
    ) -> None:
        """Take why the alarm was raised just now.

        Args:
            zone: Severity zone of the window that did.
            bands: What stands out in it.
            context: What else was so.
        """
        memory = self._memory
        if not memory.alarm_id:
            return
        series = memory.series
        first = series.count <= 1 and not memory.told_bands and memory.told_zone is None
        new = () if first else what_is_new(zone, bands, series.zone, series.bands)
        self._reason(zone, bands, new, context)

    def _count(self, known: Level) -> None:
        """An alert or alarm is told: its reason begins, and it counts where it is a new one."""
        memory, wall = self._memory, self._wall
        series = memory.series
        if known is Level.NORMAL:
            # A clock set back since then tells nothing of how long ago that was.
            apart = wall - series.last_wall
            if not series.count or not 0 <= apart <= self._series_seconds:
                series = AlarmSeries(since_wall=wall)
            series = series.model_copy(update={"count": series.count + 1, "last_wall": wall})
        reason = Reason(count=series.count, since_wall=series.since_wall)
        self._update(series=series, reason=reason, spoke_wall=wall)

    def _reason(
        self,
        zone: Zone | None,
        bands: Sequence[UnusualBand],
        new: tuple[str, ...],
        context: Sequence[Circumstance],
    ) -> None:
        """What the alarm is about from now on."""
        memory = self._memory
        series, told = memory.series, memory.told_bands
        worst = _worst(memory.told_zone, zone)
        self._update(
            reason=Reason(
                zone, tuple(bands), series.count, series.since_wall, new, tuple(context)
            ),
            told_zone=worst,
            told_bands=_joined(told, bands),
            series=series.model_copy(
                update={
                    "zone": _worst(series.zone, worst), "bands": _joined(series.bands, bands)
                }
            ),
        )  # fmt: skip


def _worst(one: Zone | None, other: Zone | None) -> Zone | None:
    zones = [zone for zone in (one, other) if zone is not None]
    return max(zones, key=lambda zone: zone.rank, default=None)


def _joined(told: tuple[UnusualBand, ...], bands: Sequence[UnusualBand]) -> tuple[UnusualBand, ...]:
    """Bands told of, with those that are told of now; the latest `MOST_BANDS`."""
    new = tuple(band for band in bands if not any(same_band(band, one) for one in told))
    return (*told, *new)[-MOST_BANDS:]
