"""From a design, a way of running it and a fault to the sound a microphone hears."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import signal

from agent.core.records import Samples
from trainer.synth.design import Fault, MachineDesign, OperatingPoint, Site, Valve
from trainer.synth.sources import (
    Signal,
    bearing_impacts,
    belt_scrape,
    coloured_noise,
    decibels,
    harmonics,
    phase_of,
    resonate,
    reverberate,
    scaled,
    sloped,
    wander,
)

# Level of the sound of a fault of severity 1, dB relative to the healthy machine at the same load:
# plain to the ear, yet adding under 2 dB to the whole, less than a change of load does.
FAULT_DB = {"imbalance": -5.0, "bearing": -8.0, "belt": -8.0}
# How strongly an imbalance of severity 1 modulates blade-pass tones and flow by the shaft.
IMBALANCE_MODULATION = 0.35
# A rotor takes this long to follow a change of load, seconds.
INERTIA_SECONDS = 1.0
# Flow noise of a fan rises with the fifth power of speed (sound power; Madison's fan law), so its
# amplitude with the power 2.5; rotating forces rise with the square of speed.
FLOW_EXPONENT = 2.5
FORCE_EXPONENT = 2.0
# Full scale: the flow noise at rated load is this, RMS.
REFERENCE_RMS = 0.03


@dataclass(frozen=True, slots=True)
class Operation:
    """How the machine is run during a recording.

    Attributes:
        name: Its name in file names: that of an operating point, or `vary`.
        steps: (start in seconds, operating point), from 0 on.
        valve: A half-closed valve makes the flow rougher and darker.
    """

    name: str
    steps: tuple[tuple[float, OperatingPoint], ...]
    valve: Valve = "open"


def steady(design: MachineDesign, point: str, valve: Valve = "open") -> Operation:
    """Run at one operating point."""
    return Operation(point, ((0.0, design.point(point)),), valve)


def varying(
    design: MachineDesign,
    seconds: float,
    rng: np.random.Generator,
    *,
    dwell: tuple[float, float] = (3.0, 8.0),
    valve: Valve = "open",
) -> Operation:
    """Run with changes of load: each point is held for a random time, then another one is taken."""
    steps = []
    at, last = 0.0, -1
    while at < seconds:
        choices = [i for i in range(len(design.points)) if i != last]
        last = int(rng.choice(choices))
        steps.append((at, design.points[last]))
        at += float(rng.uniform(*dwell))
    return Operation("vary", tuple(steps), valve)


def render(
    design: MachineDesign,
    operation: Operation,
    seconds: float,
    rng: np.random.Generator,
    *,
    rate: int = 16000,
    site: str = "source",
    faults: tuple[Fault, ...] = (),
    onset: float | None = None,
    gain_db: float = 0.0,
) -> Samples:
    """Synthesize a recording.

    Args:
        design: The machine.
        operation: How it is run.
        seconds: Length.
        rng: Everything random in this recording.
        rate: Samples a second.
        site: Which of the design's sites it stands at.
        faults: What is broken.
        onset: When the faults begin, seconds; None for from the start. The sound is one stream:
            nothing but the fault's own sound marks the place.
        gain_db: Of the recording chain.

    Returns:
        float32, shape `(round(seconds * rate),)`, within full scale for gains up to 6 dB.
    """
    n = round(seconds * rate)
    place = design.site(site)
    speed, torque = _load(operation, n, rate)
    slip = design.wander * wander(n, rate, design.wander_seconds, rng)
    turning = speed * (1.0 + slip)
    phase = phase_of(design.shaft_hz * turning, rate, float(rng.uniform(0, 2 * np.pi)))
    since = np.arange(n) / rate - (onset if onset is not None else -np.inf)
    broken = np.clip(since / 0.05, 0.0, 1.0)  # begins within 50 ms: no click

    imbalance = sum(f.severity for f in faults if f.kind == "imbalance") * broken
    machine = _healthy(design, operation, phase, turning, torque, imbalance, rate, rng)
    level = float(np.sqrt(np.mean(machine**2)))
    for fault in faults:
        loud = level * fault.severity * decibels(FAULT_DB[fault.kind])
        if fault.kind == "imbalance":
            # Force of a rotating mass: m e w^2. Looseness adds a weaker second harmonic.
            sound = np.cos(phase) + 0.3 * np.cos(2 * phase + 1.0)
        elif fault.kind == "bearing":
            sound = bearing_impacts(phase, design.bearing, rate, rng)
        else:
            sound = belt_scrape(phase, design.belt_ratio, rate, rng)
        machine = machine + scaled(sound * turning**FORCE_EXPONENT, loud) * broken
    heard = reverberate(
        machine, rate, place.reverberation_seconds, place.direct_db, _room(design, place)
    )
    return _record(heard + _background(place, n, rate, rng), rate, gain_db)


def render_background(
    design: MachineDesign,
    seconds: float,
    rng: np.random.Generator,
    *,
    rate: int = 16000,
    site: str = "source",
    motor: bool = False,
    gain_db: float = 0.0,
) -> Samples:
    """The site without the machine's rotation: silence about it, or an energized motor's hum.

    Args:
        design: The machine, for its sites and its mains frequency.
        seconds: Length.
        rng: Everything random in this recording.
        rate: Samples a second.
        site: Which of the design's sites.
        motor: Whether the motor is energized (idle) or off (noise).
        gain_db: Of the recording chain.

    Returns:
        float32, shape `(round(seconds * rate),)`.
    """
    n = round(seconds * rate)
    place = design.site(site)
    sound = _background(place, n, rate, rng)
    if motor:
        sound = sound + _hum(design, np.full(n, 0.3), rate, rng)
    return _record(sound, rate, gain_db)


def _load(operation: Operation, n: int, rate: int) -> tuple[Signal, Signal]:
    """Speed and torque as fractions, following the steps with the rotor's inertia."""
    starts = [max(0, round(start * rate)) for start, _ in operation.steps]
    lengths = np.diff([*starts, max(n, starts[-1])])
    a = float(np.exp(-1.0 / (INERTIA_SECONDS * rate)))
    paths = []
    for values in (
        [point.speed for _, point in operation.steps],
        [point.torque for _, point in operation.steps],
    ):
        asked = np.repeat(values, lengths)[:n]
        path, _ = signal.lfilter([1 - a], [1, -a], asked, zi=[a * values[0]])
        paths.append(np.asarray(path))
    return paths[0], paths[1]


def _healthy(
    design: MachineDesign,
    operation: Operation,
    phase: Signal,
    turning: Signal,
    torque: Signal,
    imbalance: Signal,
    rate: int,
    rng: np.random.Generator,
) -> Signal:
    """The machine close by: shaft, blades, flow and motor, through its casing."""
    n = len(phase)
    half = operation.valve == "half"
    modulation = design.blade_modulation + IMBALANCE_MODULATION * imbalance
    beat = 1.0 + modulation * np.cos(phase)
    highest = float(np.max(turning)) * design.shaft_hz
    top = 0.45 * rate
    # Where the harmonics stand to each other belongs to the machine, not to the recording.
    built = np.random.default_rng([design.seed, 0xB17])
    shaft = harmonics(phase, design.shaft_db, top, highest, built) * turning**FORCE_EXPONENT
    blade_phase = design.blades * phase
    blade = harmonics(blade_phase, design.blade_db, top, design.blades * highest, built)
    # Against a half-closed valve the impeller stalls a little: stronger, slower turbulence, less
    # of it at high frequencies.
    corner = design.flow_corner_hz * (0.6 if half else 1.0)
    flow = coloured_noise(n, rate, sloped(corner, design.flow_slope_db), rng)
    surge = 1.0 + (0.2 if half else 0.06) * wander(n, rate, 0.3 if half else 0.6, rng)
    pressure = turning**FLOW_EXPONENT
    flow = flow * pressure * np.clip(surge, 0.2, None) * (1.0 + 0.3 * (beat - 1.0))
    blade = blade * beat * pressure * (1.2 if half else 1.0)
    casing = resonate(shaft + blade + flow, rate, design.casing)
    return casing + _hum(design, torque, rate, rng)


def _hum(design: MachineDesign, torque: Signal, rate: int, rng: np.random.Generator) -> Signal:
    """Magnetostriction: twice the mains frequency and multiples, growing with torque."""
    line = np.full(len(torque), 2 * design.line_hz) * (1.0 + float(rng.normal(0, 2e-4)))
    levels = [design.hum_db - 6.0 * k for k in range(4)]
    phase = phase_of(line, rate, float(rng.uniform(0, 2 * np.pi)))
    return harmonics(phase, levels, 0.45 * rate, 2 * design.line_hz, rng) * torque


def _background(place: Site, n: int, rate: int, rng: np.random.Generator) -> Signal:
    """What else is heard there: a coloured murmur of drifting level, and a neighbouring machine."""
    murmur = coloured_noise(n, rate, sloped(150.0, place.noise_slope_db), rng)
    murmur *= np.clip(1.0 + 0.2 * wander(n, rate, 3.0, rng), 0.3, None)
    pitch = place.neighbour_hz * (1.0 + 0.005 * wander(n, rate, 5.0, rng))
    other = harmonics(
        phase_of(pitch, rate, float(rng.uniform(0, 2 * np.pi))),
        [place.neighbour_db - 4.0 * k for k in range(5)],
        0.45 * rate,
        place.neighbour_hz * 1.05,
        rng,
    )
    return np.asarray((murmur + other) * decibels(place.noise_db))


def _room(design: MachineDesign, place: Site) -> np.random.Generator:
    """A room is the same in every recording made there."""
    return np.random.default_rng([design.seed, 0x2003, round(place.reverberation_seconds * 1e6)])


def _record(sound: Signal, rate: int, gain_db: float) -> Samples:
    """A microphone: nothing below 15 Hz, a gain, and full scale."""
    sos = signal.butter(2, 15.0, btype="highpass", fs=rate, output="sos")
    heard = signal.sosfilt(sos, sound) * REFERENCE_RMS * decibels(gain_db)
    return np.asarray(np.clip(heard, -1.0, 1.0), dtype=np.float32)
