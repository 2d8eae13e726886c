"""How warm the device is, and how fast its cores are let run, where the kernel tells."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from agent.core.schema import Strict

_ZONES = Path("/sys/class/thermal")
_CORES = Path("/sys/devices/system/cpu")
# A sensor whose part is switched off may answer with a number that is none.
_LEAST_CELSIUS = -55.0
# Zones of Jetsons that say the same whatever the heat.
_CONSTANT = ("PMIC",)


class Heat(Strict):
    """What the sensors say at one moment."""

    celsius: Annotated[
        dict[str, float], Field(description="Degrees by sensor (kind and number of its zone)")
    ] = {}
    mhz: Annotated[
        tuple[float, ...], Field(description="Frequency of each core now, MHz; empty if not told")
    ] = ()
    highest_mhz: Annotated[
        float | None, Field(description="The highest that a core may run at, MHz")
    ] = None
    throttled: Annotated[
        int | None, Field(description="How often cores were slowed for their heat since the start")
    ] = None
    cooling: Annotated[
        dict[str, int],
        Field(
            description="State of each cooling device at work (fan, slowing of processor or GPU) "
            "by kind and number; those at rest are left out"
        ),
    ] = {}

    @property
    def warmest(self) -> float | None:
        """The highest temperature, degrees; None where no sensor can be read."""
        told = [value for name, value in self.celsius.items() if not name.startswith(_CONSTANT)]
        return max(told, default=None)


def read_heat(zones: Path = _ZONES, cores: Path = _CORES) -> Heat:
    """Read every sensor; what cannot be read is left out.

    Args:
        zones: Where the kernel has its thermal zones.
        cores: Where it has its cores.
    """
    celsius = {}
    for zone in sorted(zones.glob("thermal_zone*")):
        value = _number(zone / "temp")
        if value is not None and value / 1e3 > _LEAST_CELSIUS:
            kind = _text(zone / "type") or "unknown"
            celsius[f"{kind} {zone.name.removeprefix('thermal_zone')}"] = value / 1e3
    cooling = {}
    for device in sorted(zones.glob("cooling_device*")):
        state = _number(device / "cur_state")
        if state:
            number = device.name.removeprefix("cooling_device")
            cooling[f"{_text(device / 'type') or 'unknown'} {number}"] = int(state)
    found = sorted(cores.glob("cpu[0-9]*"))
    now = [_number(core / "cpufreq" / "scaling_cur_freq") for core in found]
    most = [_number(core / "cpufreq" / "scaling_max_freq") for core in found]
    counts = [_number(core / "thermal_throttle" / "core_throttle_count") for core in found]
    known = [count for count in counts if count is not None]
    return Heat(
        celsius=celsius,
        mhz=tuple(value / 1e3 for value in now if value is not None),
        highest_mhz=max((value / 1e3 for value in most if value is not None), default=None),
        throttled=int(sum(known)) if known else None,
        cooling=cooling,
    )


def _number(path: Path) -> float | None:
    try:
        return float(_text(path))
    except ValueError:
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:  # a sensor that sleeps answers with an error
        return ""
