"""The sound the agent will hear: healthy at first, faulty from a known moment on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from agent.capture.files import audio_info, read_audio
from agent.core.errors import ConfigError
from agent.core.records import Samples
from agent.recordings.model import Machine, Recording
from trainer.synth import Fault, MachineDesign, render, varying

# Recordings are joined by fading over this long, seconds: a click is no sound of the machine.
FADE_SECONDS = 0.05
# How long a load is held in the synthetic stream, seconds: shortest and longest.
DWELL_SECONDS = (12.0, 30.0)


@dataclass(frozen=True, slots=True)
class Stream:
    """A recording with one change in it.

    Attributes:
        path: The WAV file.
        rate: Samples a second.
        seconds: Its length.
        onset: Where the fault begins, seconds.
        fault: What is broken, in words.
    """

    path: Path
    rate: int
    seconds: float
    onset: float
    fault: str


def synthesize_stream(
    path: Path,
    design: MachineDesign,
    fault: Fault,
    *,
    healthy_seconds: float,
    faulty_seconds: float,
    seed: int,
    rate: int = 16000,
) -> Stream:
    """Let a synthetic machine run through changes of load, and break while running.

    Args:
        path: WAV file to write.
        design: The machine.
        fault: What breaks.
        healthy_seconds: How long it runs before.
        faulty_seconds: How long it runs on.
        seed: Of this run; choose one that the training recordings don't have.
        rate: Samples a second.
    """
    rng = np.random.default_rng([seed, 0x57E])
    seconds = healthy_seconds + faulty_seconds
    operation = varying(design, seconds, rng, dwell=DWELL_SECONDS)
    sound = render(
        design, operation, seconds, rng, rate=rate, faults=(fault,), onset=healthy_seconds
    )
    _write(path, sound, rate)
    words = {
        "imbalance": "imbalance of the impeller",
        "bearing": "damage to the bearing's outer race",
        "belt": "a belt rubbing against its guard",
    }[fault.kind]
    return Stream(path, rate, seconds, healthy_seconds, f"{words}, severity {fault.severity:g}")


def splice_stream(
    path: Path,
    machine: Machine,
    *,
    healthy_seconds: float,
    faulty_seconds: float,
    seed: int,
    channel: int | None = None,
) -> Stream:
    """Join a machine's healthy test recordings and then its anomalous ones, in a drawn order.

    Args:
        path: WAV file to write.
        machine: Real recordings, with labelled test recordings among them.
        healthy_seconds: Most of healthy sound used.
        faulty_seconds: Most of anomalous sound used.
        seed: Draws the order.
        channel: Channel of multi-channel recordings; None averages.

    Raises:
        ConfigError: There are no healthy or no anomalous test recordings.
        AudioError: A recording cannot be read.
    """
    tests = machine.of("test")
    parts: list[list[Recording]] = []
    for label, limit in (("normal", healthy_seconds), ("anomaly", faulty_seconds)):
        found = [r for r in tests if r.label == label]
        if not found:
            raise ConfigError(
                f"has no {label} test recordings, which the demonstration plays to the agent",
                where=machine.root,
                remedy=f"Put some into test/{label}/. (`auscult train` needs none.)",
            )
        parts.append(_choose(found, limit, np.random.default_rng([seed, len(parts)])))
    rate = audio_info(parts[0][0].path).rate
    healthy, faulty = (
        join([read_audio(r.path, rate=rate, channel=channel) for r in part], rate) for part in parts
    )
    sound = join([healthy, faulty], rate)
    _write(path, sound, rate)
    onset = (len(healthy) - round(FADE_SECONDS * rate)) / rate
    words = f"{len(parts[1])} anomalous test recordings after {len(parts[0])} healthy ones"
    return Stream(path, rate, len(sound) / rate, onset, words)


def join(sounds: Sequence[Samples], rate: int) -> Samples:
    """Recordings as one, each faded into the next with constant power."""
    fade = round(FADE_SECONDS * rate)
    total = sounds[0]
    up = np.sin(np.linspace(0, np.pi / 2, fade, dtype=np.float32))
    for sound in sounds[1:]:
        overlap = total[-fade:] * up[::-1] + sound[:fade] * up
        total = np.concatenate([total[:-fade], overlap, sound[fade:]])
    return total


def _choose(
    recordings: Sequence[Recording], seconds: float, rng: np.random.Generator
) -> list[Recording]:
    """Recordings in a drawn order until there is enough."""
    chosen: list[Recording] = []
    length = 0.0
    for i in rng.permutation(len(recordings)):
        if chosen and length >= seconds:
            break
        chosen.append(recordings[int(i)])
        length += audio_info(chosen[-1].path).seconds
    return chosen


def _write(path: Path, sound: Samples, rate: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound, rate, subtype="PCM_16")
