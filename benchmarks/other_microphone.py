"""Machines heard through another microphone than in training: as heard, and with it taken off.

    python benchmarks/other_microphone.py --work FOLDER [--only MACHINE ...] [--windows 50]

FOLDER is one that `foreign_sounds.py` has filled (bundles of twelve machines, trained by defaults).
What a microphone does is made of the held-out recordings: every second healthy window teaches it,
the others and the faulty ones are judged. Chains:

    same    that of training
    lp4     20 dB less from 4 kHz on, in 300 Hz
    lp4n    the same, with noise of the microphone's own at -80 dBFS
    tilt    6 dB over the range, falling
    lin     played at 48 kHz by linear interpolation
    mic     2 dB louder, falling gently by 4 dB from 3 kHz on

Scores are told on the scale: 1 is the bundle's threshold. `learnt on faults` is the price: the
microphone is learnt while the machine is faulty.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import foreign_scores
import numpy as np
from scipy import signal
from sklearn.metrics import roc_auc_score

from agent.capture.files import read_audio
from agent.deploy.load import Bundle, open_bundle
from agent.level.baseline import LevelFile
from agent.level.equaliser import equalised
from agent.level.machine import MachineLevel

RATE, HOP = 16_000, 5.0


def _shelf(samples: np.ndarray, decibels: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    hertz = np.linspace(0, RATE / 2, 513)
    taps = signal.firwin2(1025, hertz, 10.0 ** (decibels(hertz) / 20.0), fs=RATE)
    return signal.fftconvolve(samples, taps, mode="same").astype(np.float32)


def _from_4_khz(samples: np.ndarray) -> np.ndarray:
    return _shelf(samples, lambda hertz: -20.0 / (1.0 + np.exp(-(hertz - 4000.0) / 150.0)))


def _noisy(samples: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(len(samples)).standard_normal(len(samples))
    return _from_4_khz(samples) + 1e-4 * noise.astype(np.float32)


def _tilt(samples: np.ndarray) -> np.ndarray:
    whole = np.log2(8000 / 60)
    return _shelf(samples, lambda hertz: -6.0 * np.log2(np.maximum(hertz, 60) / 700) / whole)


def _linear(samples: np.ndarray) -> np.ndarray:
    there = np.interp(np.arange(3 * len(samples)) / 3.0, np.arange(len(samples)), samples)
    return signal.resample_poly(there, 1, 3).astype(np.float32)[: len(samples)]


def _microphone(samples: np.ndarray) -> np.ndarray:
    sos = signal.butter(1, 3000, "highpass", fs=RATE, output="sos")
    return (1.26 * (samples - 0.37 * signal.sosfilt(sos, samples))).astype(np.float32)


CHAINS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "same": lambda samples: samples, "lp4": _from_4_khz, "lp4n": _noisy, "tilt": _tilt,
    "lin": _linear, "mic": _microphone,
}  # fmt: skip


def windows(paths: Sequence[Path], length: int, most: int) -> np.ndarray:
    """Windows of recordings, evenly chosen, `(n, length)`."""
    found = []
    for path in paths:
        sound = read_audio(path, rate=RATE)
        sound = np.resize(sound, max(length, len(sound)))
        found += [sound[at : at + length] for at in range(0, len(sound) - length + 1, length)]
    chosen = np.linspace(0, len(found) - 1, min(most, len(found))).astype(int)
    return np.stack([found[at] for at in chosen])


class Heard:
    """One machine through one microphone.

    Args:
        bundle: Its bundle.
        chain: The microphone.
    """

    def __init__(self, bundle: Bundle, chain: Callable[[np.ndarray], np.ndarray]) -> None:
        self.bundle, self.chain = bundle, chain
        thresholds = foreign_scores.settings(bundle, HOP).thresholds
        self.scale = thresholds.scale
        self.level = MachineLevel("bench", LevelFile(None), "judge")
        self.level.begin(bundle, *thresholds.each)

    def embed(self, sounds: np.ndarray) -> np.ndarray:
        """Embeddings as they are judged."""
        hearing, parts = self.level.hearing, []
        gain = np.float32(10.0 ** (-hearing.offset_db / 20.0))
        for first in range(0, len(sounds), 8):
            some = [gain * equalised(self.chain(one), RATE, hearing.points)
                    for one in sounds[first : first + 8]]  # fmt: skip
            parts.append(self.bundle.encoder.encode(np.stack(some)))
        return hearing.vectors(np.concatenate(parts))

    def learn(self, sounds: np.ndarray) -> bool:
        """Take the microphone off, as commissioning does; whether there was anything to."""
        # Of a machine with few recordings each is heard twice: six windows at least are needed.
        vectors = np.tile(self.embed(sounds), (2, 1))[-60:]
        for number, vector in enumerate(vectors):
            self.level.hear(vector, -30.0, 10.0 * number, 10.0 * (number + 1))
        return self.level.take_microphone("bench", needed=True) is not None

    def scores(self, sounds: np.ndarray) -> np.ndarray:
        """Scores on the scale."""
        raw, _ = self.bundle.scorer.score(self.embed(sounds))
        return (raw - self.scale.median) / (self.scale.threshold - self.scale.median)


def told(healthy: np.ndarray, faulty: np.ndarray) -> str:
    """Scores in a few figures."""
    truth = [0] * len(healthy) + [1] * len(faulty)
    area = roc_auc_score(truth, np.concatenate([healthy, faulty]))
    return (
        f"healthy {np.median(healthy):6.2f} ({np.quantile(healthy, 0.95):6.2f}), above 1: healthy "
        f"{np.mean(healthy > 1):4.0%} faulty {np.mean(faulty > 1):4.0%}, AUC {area:.3f}"
    )


def main() -> None:
    """Print a line for each machine and chain."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--windows", type=int, default=50, help="healthy and faulty, at most")
    options = parser.parse_args()
    machines = [one.parent.name for one in sorted(options.work.glob("*/bundle"))]
    for name in options.only or machines:
        bundle = open_bundle(options.work / name / "bundle", threads=1)
        length = bundle.manifest.encoder.window_samples
        healthy, faulty = (
            windows(paths, length, options.windows)
            for paths in foreign_scores.parts(options.work / "machines" / name)
        )
        for chain, through in CHAINS.items():
            heard = Heard(bundle, through)
            as_heard = told(heard.scores(healthy[1::2]), heard.scores(faulty))
            text = "nothing to take off"
            if heard.learn(healthy[::2]):
                held = heard.level.held
                assert held is not None
                assert held.bands is not None
                out = f"{sum(held.bands.missing)} bands left out"
                text = f"{told(heard.scores(healthy[1::2]), heard.scores(faulty))}, {out}"
            print(f"{name} {chain}: as heard {as_heard} | taken off {text}", flush=True)
            if chain in {"same", "mic"}:
                sick = Heard(bundle, through)
                taken = sick.learn(faulty[::2])
                found = np.mean(sick.scores(faulty[1::2]) > 1)
                what = "" if taken else " (nothing taken off)"
                print(f"{name} {chain}: learnt on faults{what}: faulty above 1 {found:.0%}")
        bundle.close()


if __name__ == "__main__":
    main()
