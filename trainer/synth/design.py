"""What a synthetic machine is: its geometry, its loads, where it stands, and how it can fail.

Every number is drawn from a range found on small industrial fans, so that each seed is another
machine: no method can be tuned to all of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

FaultKind = Literal["imbalance", "bearing", "belt"]
Valve = Literal["open", "half"]


@dataclass(frozen=True, slots=True)
class Bearing:
    """A rolling bearing with a fixed outer race.

    Attributes:
        balls: Number of rolling elements, `n`.
        diameter_ratio: Ball diameter over pitch diameter, `d / D`.
        contact_angle: Contact angle `a`, radians.
        resonance_hz: What an impact excites: a mode of housing and race.
        decay_seconds: Time in which that ringing falls to 1/e.
        jitter: Random slip of the cage: standard deviation of the spacing of impacts, as a
            fraction of that spacing (1 to 2 % is usual).
    """

    balls: int
    diameter_ratio: float
    contact_angle: float
    resonance_hz: float
    decay_seconds: float
    jitter: float

    def outer_race_order(self) -> float:
        """Impacts a revolution of a dent in the outer race: `n / 2 * (1 - d / D * cos a)`.

        BPFO is this times the shaft's frequency (e.g. Randall & Antoni 2011, equation 1).
        """
        return self.balls / 2 * (1 - self.diameter_ratio * math.cos(self.contact_angle))


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """A load the machine runs at.

    Attributes:
        name: Its name in file names.
        speed: Shaft speed as a fraction of the rated one.
        torque: Motor torque as a fraction of the rated one.
    """

    name: str
    speed: float
    torque: float


@dataclass(frozen=True, slots=True)
class Site:
    """Where the machine stands and what else is heard there.

    Attributes:
        name: Domain: `source` or `target`.
        reverberation_seconds: Time for a sound to fall by 60 dB.
        direct_db: Direct sound over reverberant sound, dB.
        noise_db: Background over the machine at rated load, dB.
        noise_slope_db: Slope of the background's spectrum, dB an octave.
        neighbour_hz: Pitch of another machine in the room.
        neighbour_db: That machine over the background noise, dB.
    """

    name: str
    reverberation_seconds: float
    direct_db: float
    noise_db: float
    noise_slope_db: float
    neighbour_hz: float
    neighbour_db: float


@dataclass(frozen=True, slots=True)
class Fault:
    """Something broken.

    Attributes:
        kind: What.
        severity: 1 is a fault a technician hears at once; its sound grows in proportion.
    """

    kind: FaultKind
    severity: float = 1.0


@dataclass(frozen=True, slots=True)
class MachineDesign:
    """One fan. Levels are dB relative to its flow noise at rated load.

    Attributes:
        seed: What it was drawn from.
        shaft_hz: Rated shaft frequency.
        blades: Blades of the impeller.
        line_hz: Mains frequency; the motor hums at twice that.
        shaft_db: Levels of the shaft's harmonics 1, 2, 3, ...
        blade_db: Levels of the blade-pass frequency's harmonics 1, 2, 3.
        hum_db: Level of the motor's hum.
        blade_modulation: Modulation index of the blade-pass tones by the shaft (no impeller is
            perfectly even): the healthy sidebands.
        flow_corner_hz: Flow noise is flat below this and falls above.
        flow_slope_db: How steeply it falls, dB an octave.
        casing: Resonances of the casing: frequency (Hz), quality factor, gain (dB).
        wander: Standard deviation of the speed, as a fraction.
        wander_seconds: Correlation time of that.
        bearing: Its bearing.
        belt_ratio: Revolutions of the drive belt per revolution of the shaft.
        points: Loads it runs at, lowest first.
        sites: Source and target domain.
    """

    seed: int
    shaft_hz: float
    blades: int
    line_hz: float
    shaft_db: tuple[float, ...]
    blade_db: tuple[float, ...]
    hum_db: float
    blade_modulation: float
    flow_corner_hz: float
    flow_slope_db: float
    casing: tuple[tuple[float, float, float], ...]
    wander: float
    wander_seconds: float
    bearing: Bearing
    belt_ratio: float
    points: tuple[OperatingPoint, ...]
    sites: tuple[Site, Site]

    def point(self, name: str) -> OperatingPoint:
        """The operating point of this name.

        Raises:
            KeyError: There is none.
        """
        return {point.name: point for point in self.points}[name]

    def site(self, name: str) -> Site:
        """The site of this name.

        Raises:
            KeyError: There is none.
        """
        return {site.name: site for site in self.sites}[name]


def design_machine(seed: int) -> MachineDesign:
    """Draw a machine. The same seed gives the same machine."""
    rng = np.random.default_rng([seed, 0xFA4])
    shaft_hz = float(rng.uniform(20.0, 48.0))
    return MachineDesign(
        seed=seed,
        shaft_hz=shaft_hz,
        blades=int(rng.integers(5, 13)),
        line_hz=float(rng.choice([50.0, 60.0])),
        # Harmonics fall by some dB each, unevenly.
        shaft_db=tuple(float(-10.0 - 3.0 * k + rng.normal(0, 2.0)) for k in range(6)),
        blade_db=tuple(float(-3.0 - 5.0 * k + rng.normal(0, 2.0)) for k in range(3)),
        hum_db=float(rng.uniform(-14.0, -6.0)),
        blade_modulation=float(rng.uniform(0.05, 0.15)),
        flow_corner_hz=float(rng.uniform(200.0, 700.0)),
        flow_slope_db=float(rng.uniform(-7.0, -4.0)),
        casing=tuple(
            (
                float(np.exp(rng.uniform(np.log(250.0), np.log(5000.0)))),
                float(rng.uniform(8.0, 30.0)),
                float(rng.uniform(3.0, 10.0)),
            )
            for _ in range(5)
        ),
        wander=float(rng.uniform(0.001, 0.004)),
        wander_seconds=float(rng.uniform(1.0, 4.0)),
        bearing=Bearing(
            balls=int(rng.integers(7, 13)),
            diameter_ratio=float(rng.uniform(0.18, 0.30)),
            contact_angle=float(np.deg2rad(rng.uniform(0.0, 15.0))),
            resonance_hz=float(rng.uniform(2000.0, 5000.0)),
            decay_seconds=float(rng.uniform(0.0006, 0.002)),
            jitter=float(rng.uniform(0.01, 0.02)),
        ),
        belt_ratio=float(rng.uniform(0.12, 0.35)),
        points=(
            OperatingPoint("low", float(rng.uniform(0.76, 0.82)), float(rng.uniform(0.4, 0.55))),
            OperatingPoint("mid", float(rng.uniform(0.87, 0.91)), float(rng.uniform(0.65, 0.75))),
            OperatingPoint("high", 1.0, 1.0),
        ),
        sites=(
            Site(
                "source",
                reverberation_seconds=float(rng.uniform(0.2, 0.5)),
                direct_db=float(rng.uniform(0.0, 6.0)),
                noise_db=float(rng.uniform(-18.0, -12.0)),
                noise_slope_db=float(rng.uniform(-6.0, -3.0)),
                neighbour_hz=float(rng.uniform(60.0, 400.0)),
                neighbour_db=-6.0,
            ),
            Site(
                "target",
                reverberation_seconds=float(rng.uniform(0.5, 1.0)),
                direct_db=float(rng.uniform(-3.0, 3.0)),
                noise_db=float(rng.uniform(-12.0, -6.0)),
                noise_slope_db=float(rng.uniform(-4.0, -1.0)),
                neighbour_hz=float(rng.uniform(60.0, 400.0)),
                neighbour_db=0.0,
            ),
        ),
    )
