"""How badly a machine needs a look: the order of the page, the worst first."""

from __future__ import annotations

from plant.watch.reading import Alarm, Drift, Sensor

_LEVELS = {"normal": 0.0, "alert": 30.0, "alarm": 50.0}
_UNSEEN, _SHELVED = 10.0, 8.0
_FAILED, _DOUBTFUL = 28.0, 12.0
_DRIFTING = 14.0
#: A machine whose device is offline: nobody says that it is well.
OFFLINE = 26.0


def alarm_rank(alarm: Alarm) -> float:
    """Of the alarm: its level, more while nobody has seen it, less while it is shelved."""
    if alarm.alarm_id is None:
        return 0.0
    if alarm.shelving != "unshelved":
        return _SHELVED
    # A level that a newer agent adds is taken for an alarm.
    return _LEVELS.get(alarm.level, 50.0) + (0.0 if alarm.acknowledged else _UNSEEN)


def sensor_rank(sensor: Sensor) -> float:
    """Of the microphone's condition."""
    if sensor.status == "good":
        return 0.0
    return _FAILED if sensor.status == "failure" else _DOUBTFUL


def drift_rank(drift: Drift) -> float:
    """Of a drift warning."""
    return _DRIFTING if drift.active else 0.0
