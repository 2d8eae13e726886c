"""Whether a bundle's encoder is one for the device: told at export, not found out there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from agent.bundle.manifest import Manifest
from agent.config.encode import InferenceConfig
from agent.tune.choose import KEEPING_UP
from agent.tune.forms import MEMORY_SHARE
from agent.tune.measure import Cost, Work, measure
from agent.tune.profile import DeviceProfile, reference_ms

# A small device that nobody has measured: an Orin Nano or a Raspberry Pi has this or more.
USUAL_MB = 4000.0
_WINDOWS = 3


@dataclass(frozen=True, slots=True)
class Fit:
    """What a bundle takes, here and on the device.

    Attributes:
        cost: Of a window on this machine, with the agent's usual settings.
        hop_seconds: Step between windows.
        device: The device in words; empty where no profile was given.
        memory_mb: The device's; that of a small device without a profile.
        times: How many times slower the device is than this machine; None without a profile.
    """

    cost: Cost
    hop_seconds: float
    device: str
    memory_mb: float
    times: float | None

    @property
    def load(self) -> float:
        """Share of the time that windows take, of one machine; here, where no device is known."""
        return (self.times or 1.0) * self.cost.slow_ms / 1e3 / self.hop_seconds

    @property
    def faults(self) -> tuple[str, ...]:
        """Why it is too large; empty when it is not."""
        found = []
        where = self.device or f"a device of {USUAL_MB / 1e3:.0f} GB"
        if self.cost.memory_mb > MEMORY_SHARE * self.memory_mb:
            found.append(
                f"its encoder takes {self.cost.memory_mb:.0f} MB of memory, more than half of what "
                f"{where} has"
            )
        if self.load > KEEPING_UP:
            on = (
                f"about {self.load:.0%} of the time on {self.device}"
                if self.device
                else (f"{self.load:.0%} of the time even on this machine")
            )
            found.append(
                f"windows every {self.hop_seconds:g} s take {on}, and half of it is what one "
                "machine may take"
            )
        return tuple(found)

    def words(self) -> str:
        """What it takes, in a line."""
        here = (
            f"a window takes {self.cost.wall_ms:.0f} ms and {self.cost.cpu_ms:.0f} ms of processor "
            f"here (one thread), the encoder {self.cost.memory_mb:.0f} MB of memory"
        )
        if self.times is None:
            return (
                f"{here}; `auscult tune --profile FILE` on the device and --device FILE here "
                "tell what it takes there"
            )
        there = self.times * self.cost.wall_ms
        return f"{here}; about {there:.0f} ms on {self.device}, {self.load:.0%} of the time"


def judge_fit(bundle: Path, manifest: Manifest, profile: DeviceProfile | None) -> Fit:
    """Measure a bundle here, and reckon what it takes on the device.

    Args:
        bundle: The bundle's folder.
        manifest: Its manifest.
        profile: The device's, from `auscult tune --profile`; None where it is not known.

    Raises:
        BundleError: Its encoder does not run here.
        ConfigError: The reference could not be timed.
    """
    hop = manifest.hop_seconds
    cost = measure(Work(bundle, 1.0 / hop, hop), InferenceConfig(), _WINDOWS)
    if profile is None:
        return Fit(cost, hop, "", USUAL_MB, None)
    times = profile.reference_ms / reference_ms()
    return Fit(cost, hop, profile.device, profile.memory_mb, times)
